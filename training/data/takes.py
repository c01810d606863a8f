"""Takes: stretches of a video without a cut and without black or static parts. Finds, packs and reads them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np

CUT_WINDOW = 2  # frames on either side that a cut has to stand out from
MIN_STRETCH = 8  # frames: minimum length of a static stretch, for any frame rate
MAX_ASPECT = 8  # of a frame; longer ones are refused
MAX_BAD_PACKETS = 200  # of one video; the rest is skipped
_MAGIC = b"EVT1"


@dataclasses.dataclass(frozen=True)
class ShardSettings:
    """Settings for cutting videos into takes; fixed for a folder of shards."""

    short_side: int = 144  # pixels of the short side of a frame
    max_frames: int = 128  # of one record: longer takes are split
    min_frames: int = 16  # shorter takes are dropped
    quality: int = 95  # JPEG, without chroma subsampling
    cut_ratio: float = 3.0  # a cut changes the lightness this many times as much as the frames around it do
    cut_change: float = 15.0  # and by at least this many of 255 levels on average
    static_seconds: float = 1.0  # static stretches of this length or longer are dropped
    static_change: float = 2.0  # static: no spot of 9 x 9 pixels changes by more than this many levels
    black_seconds: float = 0.2  # black stretches of this length or longer are dropped
    black_level: float = 24.0  # black: 99 % of the pixels are at most this bright, of 255

    def __post_init__(self) -> None:
        if not 16 <= self.short_side <= 4096:
            raise ValueError(f"the short side is {self.short_side} pixels, expected 16 to 4096")
        if self.min_frames < 2 or self.max_frames < 2 * self.min_frames:
            raise ValueError(
                f"takes are {self.min_frames} to {self.max_frames} frames, expected a minimum of 2 or more and a "
                "maximum of at least twice the minimum"
            )
        if not 1 <= self.quality <= 100:
            raise ValueError(f"the JPEG quality is {self.quality}, expected 1 to 100")


# Take records.


@dataclasses.dataclass(frozen=True)
class FlowSettings:
    """Settings of DIS optical flow (Kroeger et al. 2016); the defaults are what shards store."""

    finest_scale: int = 0  # flow is computed down to this halving of the picture; 0: single pixels
    coarsest_scale: int = -1  # from this halving on; -1: chosen by OpenCV from the picture's size
    patch_size: int = 8
    patch_stride: int = 3
    iterations: int = 25  # of gradient descent
    refinements: int = 5  # of the variational refinement
    smoothness: float = 20.0  # weight of the refinement's smoothness
    enlarge: int = 1  # the flow is computed on pictures so many times as large


def optical_flow(frames: Sequence[np.ndarray], settings: FlowSettings | None = None) -> np.ndarray:
    """Return the optical flow from each frame to the next one, at a quarter of the size.

    DIS (Kroeger et al. 2016): dense, milliseconds per pair, good enough to be averaged over a clip. Down to single
    pixels, because water's ripples are lost at half the size: moving six clips of water and clouds four frames ahead
    by their mean flow leaves a quarter less error than with the preset's finest scale of 1.

    Args:
        frames: T pictures (h, w, 3) uint8 RGB.
        settings: of DIS; those of shards if not given.

    Returns:
        (T - 1, h // 4, w // 4, 2) float16, x and y, in pixels of the frames given.
    """
    settings = settings or FlowSettings()
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(settings.finest_scale)
    dis.setCoarsestScale(settings.coarsest_scale)
    dis.setPatchSize(settings.patch_size)
    dis.setPatchStride(settings.patch_stride)
    dis.setGradientDescentIterations(settings.iterations)
    dis.setVariationalRefinementIterations(settings.refinements)
    dis.setVariationalRefinementAlpha(settings.smoothness)

    def grey(frame: np.ndarray) -> np.ndarray:
        lightness = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if settings.enlarge == 1:
            return lightness
        size = (settings.enlarge * lightness.shape[1], settings.enlarge * lightness.shape[0])
        return cv2.resize(lightness, size, interpolation=cv2.INTER_CUBIC)

    height, width = frames[0].shape[0] // 4, frames[0].shape[1] // 4
    out = np.empty((len(frames) - 1, height, width, 2), np.float16)
    before = grey(frames[0])
    for index in range(len(out)):
        after = grey(frames[index + 1])
        dense = dis.calc(before, after, None)
        small = cv2.resize(dense, (width, height), interpolation=cv2.INTER_AREA) / settings.enlarge
        out[index] = np.clip(small, -100, 100)
        before = after
    return out


def pack_take(video: str, first: int, fps: float, frames: Sequence[np.ndarray], quality: int) -> bytes:
    """Return one record: magic, length of the header, header (JSON), motion, flow, JPEG frames.

    Args:
        video: name of the video, for messages.
        first: number of the take's first frame within the video.
        fps: rate of the video.
        frames: T >= 2 pictures (h, w, 3) uint8 RGB.
        quality: of the JPEGs, 1 to 100.
    """
    flow = optical_flow(frames)
    motion = np.hypot(flow[..., 0].astype(np.float32), flow[..., 1].astype(np.float32)).mean((1, 2)).astype(np.float16)
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    pictures = [cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)[1].tobytes() for frame in frames]
    header = json.dumps(
        {
            "video": video,
            "first": first,
            "fps": fps,
            "height": frames[0].shape[0],
            "width": frames[0].shape[1],
            "bytes": [len(picture) for picture in pictures],
        },
        separators=(",", ":"),
    ).encode()
    parts = [_MAGIC, struct.pack("<I", len(header)), header, motion.tobytes(), flow.tobytes(), *pictures]
    return b"".join(parts)


class UnreadableTakeError(ValueError):
    """A record that is damaged or cannot be read."""


class TakeRecord:
    """One take in memory; its frames are JPEG until read."""

    def __init__(self, data: bytes) -> None:
        """Parse a record; raises ValueError if it is not one."""
        if data[:4] != _MAGIC or len(data) < 8:
            raise ValueError("not a take record")
        (size,) = struct.unpack("<I", data[4:8])
        try:
            header = json.loads(data[8 : 8 + size])
            self.height, self.width, sizes = int(header["height"]), int(header["width"]), header["bytes"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"the take's header cannot be read: {error}") from None
        steps, grid = len(sizes) - 1, (self.height // 4, self.width // 4, 2)
        position = 8 + size
        expected = position + 2 * steps * (1 + math.prod(grid)) + sum(sizes)
        if len(data) != expected:
            raise ValueError(f"the take is {len(data)} bytes, its header says {expected}")
        self.motion = np.frombuffer(data, np.float16, steps, position)  # (T - 1,) mean speed, pixels per frame
        position += self.motion.nbytes
        self._flow = np.frombuffer(data, np.float16, steps * math.prod(grid), position).reshape(steps, *grid)
        ends = np.cumsum([position + self._flow.nbytes, *sizes]).tolist()
        self._pictures = [(ends[index], ends[index + 1]) for index in range(len(sizes))]
        self._data = data

    def __len__(self) -> int:
        return len(self._pictures)

    def frame(self, index: int) -> np.ndarray:
        """Return one picture (h, w, 3) uint8 RGB; raises UnreadableTakeError if its JPEG is damaged."""
        start, stop = self._pictures[index]
        picture = cv2.imdecode(np.frombuffer(self._data, np.uint8, stop - start, start), cv2.IMREAD_COLOR)
        if picture is None or picture.shape[:2] != (self.height, self.width):
            raise UnreadableTakeError(f"frame {index} of a take cannot be decoded")
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)

    def mean_flow(self, start: int, horizon: int) -> np.ndarray:
        """Return the mean optical flow from frame `start` over `horizon` frames, (h // 4, w // 4, 2) float32."""
        return self._flow[start : start + horizon].astype(np.float32).mean(axis=0)

    def sway(self, start: int, horizon: int) -> np.ndarray:
        """Return how far content swings about its mean motion from frame `start` over `horizon` frames.

        The root mean square distance of the accumulated flow from the straight line between its ends, (h // 4, w // 4)
        float32, pixels.
        """
        flow = self._flow[start : start + horizon].astype(np.float32)
        away = np.cumsum(flow - flow.mean(axis=0), axis=0)
        return np.asarray(np.sqrt(np.square(away).sum(axis=-1).mean(axis=0)), np.float32)


# Cutting a video into takes.


class _Cuts:
    """Cuts, one frame at a time: PySceneDetect's AdaptiveDetector on the lightness alone.

    Hue is noise where a picture is dark: with it a keyframe in the video of a candle scores 15 to 19 where true cuts
    begin at 36; by lightness alone the candle is at 1 and true cuts begin at 33 (our bundles' footage).
    """

    def __init__(self, settings: ShardSettings) -> None:
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector

        self._timecode = FrameTimecode
        self._detector = AdaptiveDetector(
            adaptive_threshold=settings.cut_ratio,
            min_content_val=settings.cut_change,
            window_width=CUT_WINDOW,
            min_scene_len=1,
            luma_only=True,
        )

    def push(self, number: int, frame: np.ndarray) -> list[int]:
        """Return the numbers of frames that begin a scene, known `CUT_WINDOW` frames later."""
        return [int(cut.frame_num) for cut in self._detector.process_frame(self._timecode(number, 25.0), frame)]


class TakeBuilder:
    """Joins frames into takes and drops black, static and short stretches; holds about 300 frames at most."""

    def __init__(self, settings: ShardSettings, fps: float) -> None:
        self.settings = settings
        self.static_frames = max(MIN_STRETCH, round(settings.static_seconds * fps))
        self.black_frames = max(2, round(settings.black_seconds * fps))
        self.dropped: list[tuple[int, int, str]] = []  # first frame, last (exclusive), why
        self._reset(0)

    def _reset(self, number: int) -> None:
        self.held: list[np.ndarray] = []
        self.first = number  # number of held[0]
        self.anchor = 0  # held[anchor:] are static
        self.anchor_blur: np.ndarray | None = None
        self.black_run = 0  # number of black frames at the end
        self.dropping: tuple[int, str] | None = None

    def feed(self, number: int, frame: np.ndarray, begins: bool) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Add a frame; yield the takes (number of the first frame, frames) that it completes."""
        if begins:
            yield from self.end(number)
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        blur = cv2.blur(grey, (9, 9)).astype(np.int16)
        is_black = float(np.quantile(grey, 0.99)) <= self.settings.black_level
        is_still = (
            self.anchor_blur is not None and int(np.abs(blur - self.anchor_blur).max()) <= self.settings.static_change
        )
        if self.dropping is not None:
            start, why = self.dropping
            if is_black if why == "black" else is_still:
                return
            self.dropped.append((start, number, why))
            self._reset(number)
            is_still = False
        if not self.held:
            self.first = number
        if not is_still:
            self.anchor, self.anchor_blur = len(self.held), blur
        self.black_run = self.black_run + 1 if is_black else 0
        self.held.append(frame)
        if self.black_run >= self.black_frames:
            yield from self._drop(len(self.held) - self.black_run, "black")
        elif len(self.held) - self.anchor >= self.static_frames:
            yield from self._drop(self.anchor, "static")
        # Emit frames that are certain to be kept, as long as enough remain for another record of full length.
        certain = min(self.anchor, len(self.held) - self.black_run)
        if certain >= 2 * self.settings.max_frames:
            size = self.settings.max_frames
            yield self.first, self.held[:size]
            self.held, self.first, self.anchor = self.held[size:], self.first + size, self.anchor - size

    def _drop(self, index: int, why: str) -> Iterator[tuple[int, list[np.ndarray]]]:
        kept, first = self.held[:index], self.first
        self.dropping = (first + index, why)
        self.held, self.anchor, self.black_run = [], 0, 0
        yield from self._split(first, kept)

    def end(self, number: int) -> Iterator[tuple[int, list[np.ndarray]]]:
        """End the take before frame `number`."""
        kept, first = self.held, self.first
        if self.dropping is not None:
            self.dropped.append((self.dropping[0], number, self.dropping[1]))
        self._reset(number)
        yield from self._split(first, kept)

    def _split(self, first: int, frames: list[np.ndarray]) -> Iterator[tuple[int, list[np.ndarray]]]:
        if 0 < len(frames) < self.settings.min_frames:
            self.dropped.append((first, first + len(frames), "short"))
        if len(frames) < self.settings.min_frames:
            return
        parts = math.ceil(len(frames) / self.settings.max_frames)
        borders = [len(frames) * part // parts for part in range(parts + 1)]
        for start, stop in itertools.pairwise(borders):
            yield first + start, frames[start:stop]


# Formats that FFmpeg may open footage as. Playlists (ffconcat, m3u8, DASH) are excluded, because they name other files
# and addresses.
FORMATS = "mov,matroska,avi,dv,mpeg,mpegvideo,mpegts,m4v,h264,hevc,gif,asf,flv,live_flv,ogg,mxf,yuv4mpegpipe"


def open_video_file(path: Path) -> av.container.InputContainer:
    """Open a file as one of `FORMATS` only; close it, or use it in a `with` statement.

    Raises:
        av.error.FFmpegError: it cannot be opened or read.
        ValueError: it is of another format.
    """
    # Absolute, because FFmpeg reads "name:..." as an address.
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        return av.open(str(path.absolute()), options=options)
    except av.error.ArgumentError:
        raise ValueError("it is a playlist, or of a kind that is not read here: convert it to MP4") from None


def reason_of(error: BaseException) -> str:
    """Return the message of an error of FFmpeg, OpenCV or this project, without file name and FFmpeg log."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def small_frames(path: Path, short_side: int, notes: list[str]) -> Iterator[tuple[np.ndarray, bool]]:
    """Decode a video; yield small RGB frames, each with whether the decoder lost data right before it."""
    bad, lost = 0, False
    with open_video_file(path) as container:
        if not container.streams.video:
            raise ValueError("it has no video stream")
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                notes.append(f"the file ends early: {reason_of(error)}")  # without its path, which differs
                return
            if packet is None:
                break
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                bad, lost = bad + 1, True
                if bad == 1:
                    notes.append(f"parts of it cannot be decoded: {reason_of(error)}")
                if bad > MAX_BAD_PACKETS:
                    return
                continue
            for frame in frames:
                if max(frame.width, frame.height) > MAX_ASPECT * min(frame.width, frame.height):
                    raise ValueError(f"its frames are {frame.width} x {frame.height}, too long to be cut out of")
                scale = short_side / min(frame.width, frame.height)
                size = (max(short_side, round(frame.width * scale)), max(short_side, round(frame.height * scale)))
                method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
                picture = cv2.resize(frame.to_ndarray(format="rgb24"), size, interpolation=method)
                turns = round(getattr(frame, "rotation", 0) / 90) % 4  # quarters, counterclockwise
                yield (np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture), lost
                lost = False


def with_cuts(
    frames: Iterable[tuple[np.ndarray, bool]], settings: ShardSettings, cuts: list[int]
) -> Iterator[tuple[int, np.ndarray, bool]]:
    """Yield (number from 0, frame, whether a take begins with it)."""
    queue: deque[tuple[int, np.ndarray]] = deque()
    begins: set[int] = set()
    detector, shape = _Cuts(settings), None

    def leave() -> tuple[int, np.ndarray, bool]:
        number, frame = queue.popleft()
        mark = number in begins
        begins.discard(number)
        return number, frame, mark

    for number, (frame, lost) in enumerate(frames):
        if lost or (shape is not None and frame.shape != shape):
            while queue:
                yield leave()
            detector = _Cuts(settings)
            begins.add(number)
        shape = frame.shape
        queue.append((number, frame))
        for cut in detector.push(number, frame):
            begins.add(cut)
            cuts.append(cut)
        if len(queue) > CUT_WINDOW:
            yield leave()
    while queue:
        yield leave()
