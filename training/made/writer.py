"""Writes made footage: one video for each clip, its exact flow, and captions.csv.

A folder of made footage holds

    footage.json      the settings of its clips; the same for all
    KIND-NUMBER.mp4   H.264; written after its flow, so a video that exists is complete
    flow/             exact optical flow, one file for each video (`training.made.flow`)
    captions.csv      as `python -m training shard` reads it
"""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

from training.atomic_file import write_text, written
from training.data.shards import read_captions
from training.made.flow import block_flow, write_flow
from training.made.scene import Canvas, Film, Still
from training.made.table import KINDS

VERSION = 1  # of the scenes: raised when a change draws other frames for the same seed
SETTINGS, CAPTIONS = "footage.json", "captions.csv"
COLUMNS = ("file", "caption", "scene", "class", "licence", "source")


@dataclass(frozen=True)
class FootageSettings:
    """What all clips of a folder share."""

    seed: int
    width: int
    height: int
    fps: float
    frames: int


def open_film(kind: str, number: int, settings: FootageSettings) -> Film:
    """Return clip `number` of a kind. It depends on the seed, the kind, the number and the settings alone."""
    random = np.random.default_rng((settings.seed, zlib.crc32(kind.encode()), number))
    return KINDS[kind](random, Canvas(settings.height, settings.width, settings.frames, settings.fps))


def frames_of(film: Film) -> Iterator[tuple[npt.NDArray[np.uint8], Still]]:
    """Yield each frame as it is encoded, (H, W, 3) uint8 RGB, and the still that it is from."""
    for still in film.stills:
        yield (np.clip(still.picture, 0, 1) * 255 + 0.5).astype(np.uint8), still


def clip_name(kind: str, number: int) -> str:
    """Return the name of a clip's files, without suffix."""
    return f"{kind}-{number:03d}"


def write_clip(folder: Path, kind: str, number: int, settings: FootageSettings) -> None:
    """Write the flow and the video of a clip; each atomically."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # one process for each core
    try:
        video = folder / f"{clip_name(kind, number)}.mp4"
        blocks = []
        with written(video) as partial:
            with av.open(str(partial), "w") as container:
                rate = Fraction(settings.fps).limit_denominator(1001)
                stream = container.add_stream("libx264", rate=rate, options={"crf": "12", "preset": "medium"})
                stream.width, stream.height, stream.pix_fmt = settings.width, settings.height, "yuv420p"
                stream.codec_context.thread_count = 1
                for picture, still in frames_of(open_film(kind, number, settings)):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                    blocks.append(block_flow(still))
                container.mux(stream.encode())
            write_flow(folder / "flow" / f"{clip_name(kind, number)}.npz", blocks[:-1])
    finally:
        cv2.setNumThreads(threads)


def is_complete(folder: Path, kind: str, number: int) -> bool:
    """Return whether a clip's video and flow exist."""
    name = clip_name(kind, number)
    return (folder / f"{name}.mp4").exists() and (folder / "flow" / f"{name}.npz").exists()


def prepare(folder: Path, settings: FootageSettings) -> None:
    """Make the folder, or check that its clips have these settings.

    Raises:
        ValueError: they have others, or the folder is not one of made footage.
    """
    path, now = folder / SETTINGS, {"version": VERSION, **asdict(settings)}
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file, expected a folder: name another place for the footage")
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            other = [
                f"{key} {before.get(key)} and not {value}" for key, value in now.items() if before.get(key) != value
            ]
        except (ValueError, AttributeError):
            raise ValueError(f"{path} cannot be read as JSON: delete the folder and make the footage again") from None
        if other:
            raise ValueError(
                f"the footage at {folder} was made with {', '.join(other)}: name another --out or the same settings"
            )
    elif (folder / CAPTIONS).exists():
        raise ValueError(f"{folder} has footage that was not made here ({CAPTIONS}): name another --out")
    (folder / "flow").mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_text(path, json.dumps(now) + "\n")


def write_captions(folder: Path, clips: list[tuple[str, int]], settings: FootageSettings) -> None:
    """Add the complete ones of these clips to captions.csv, sorted by name."""
    rows = read_captions(folder)
    for kind, number in clips:
        name = clip_name(kind, number)
        if is_complete(folder, kind, number):
            values = (
                f"{name}.mp4",
                open_film(kind, number, settings).caption,
                name,
                kind,
                "CC0-1.0",
                "made by everframe",
            )
            rows[values[0]] = dict(zip(COLUMNS, values, strict=True))
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows[name] for name in sorted(rows))
    if not (folder / CAPTIONS).exists() or (folder / CAPTIONS).read_text(encoding="utf-8") != text.getvalue():
        write_text(folder / CAPTIONS, text.getvalue())
