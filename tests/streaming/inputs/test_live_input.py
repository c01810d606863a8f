"""Live inputs: the latest frame, frozen, lost, and back; real readers of files and the test card."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streaming.inputs import live_input
from streaming.inputs.live_input import FROZEN_S, LOST_S, STALL_S, ChildInputReader, LiveInput
from streaming.inputs.live_input_child import draw_card, read
from tests.fakes import FakeClock
from tests.streaming.doubles import WAIT_S, numbered


def grey(level: int) -> np.ndarray:
    return np.full((4, 6, 3), level, np.uint8)


class Script:
    """Readers that do as told: each is a list of frames, None for a pause of a second, and a last error."""

    def __init__(self, clock: FakeClock, *readers: list[Any]) -> None:
        self.clock, self.readers = clock, list(readers)
        self.num_closed = 0
        self.waits: list[float] = []
        self.is_done = threading.Event()
        self.checks: list[Callable[[], None]] = []

    def dial(self, spec: str, width: int, height: int) -> Script:
        assert (spec, width, height) == ("rtsp://camera/SECRET", 6, 4)
        self.steps = self.readers.pop(0)
        if isinstance(self.steps, OSError):
            raise self.steps
        return self

    def read(self, timeout_s: float) -> np.ndarray | None:
        step = self.steps.pop(0)
        if callable(step):
            step()
            return self.read(timeout_s)
        if isinstance(step, OSError):
            raise step
        if step is None:
            self.clock.advance(1.0)
        return step

    def close(self) -> None:
        self.num_closed += 1

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        if not self.readers:
            self.is_done.set()
        return not self.readers


def test_frozen_then_lost_then_back() -> None:
    clock, seen = FakeClock(0.0), list[tuple[Any, ...]]()
    box: list[LiveInput] = []

    def look() -> None:
        live_input = box[0]
        seen.append((int(live_input.frame()[0, 0, 0]), live_input.to_json()["state"], live_input.to_json()["is_up"]))
        assert live_input.is_lost == seen[-1][1].startswith("lost")

    first = [grey(10), look, None, look, *[None] * 4, look, ConnectionError("cannot open rtsp://camera/SECRET")]
    second = OSError(11, "no more processes")
    third = [grey(20), look, *[None] * int(STALL_S), grey(99)]
    script = Script(clock, first, second, third)
    ready = threading.Event()

    def dial(spec: str, width: int, height: int) -> Script:
        assert ready.wait(WAIT_S)
        return script.dial(spec, width, height)

    live_input = LiveInput("rtsp://camera/SECRET", 6, 4, stand_in=grey(77), dial=dial, clock=clock, wait=script.wait)
    box.append(live_input)
    with pytest.raises(ValueError, match=r"the input rtsp://camera/\*\*\* has no picture: no frame has arrived yet"):
        live_input.picture()
    assert live_input.to_json()["state"] == "opening"
    assert live_input.is_lost
    ready.set()
    assert script.is_done.wait(WAIT_S)
    live_input.close()
    assert FROZEN_S == 1.0
    assert LOST_S == 5.0
    assert seen == [
        (10, "on", True),
        (10, "frozen for 1 s", False),
        (77, "lost for 5 s", False),
        (20, "on", True),
    ]
    assert script.waits == [0.25, 0.5, 0.25], "a reader that had frames was a good one"
    assert script.num_closed == 2
    assert live_input.num_frames == 2, "a reader that stalls is given up"
    assert "no frames arrive" in live_input.to_json()["state"]
    assert "SECRET" not in str(live_input.to_json())


def test_waits_between_attempts_grow() -> None:
    clock = FakeClock(0.0)
    script = Script(clock, *[[ConnectionError("refused")] for _ in range(6)])
    live_input = LiveInput("rtsp://camera/SECRET", 6, 4, dial=script.dial, clock=clock, wait=script.wait)
    assert script.is_done.wait(WAIT_S)
    live_input.close()
    assert script.waits == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]
    with pytest.raises(ValueError, match="has no picture: refused"):
        live_input.wait_picture(0.0)


def test_a_test_card_moves_and_has_its_colours() -> None:
    one, other = draw_card(0, 140, 60), draw_card(25, 140, 60)
    assert one.shape == (60, 140, 3)
    assert not np.array_equal(one, other)
    assert one[0, 0].tolist() == [191, 191, 191]
    assert one[0, 139].tolist() == [0, 0, 191]


def write_clip(path: Path) -> Path:
    """Write a video of three frames."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=50)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in (5, 25, 45):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number), "yuv420p")))
        container.mux(stream.encode(None))
    return path


def write_clip_with_clicks(path: Path) -> Path:
    """Write two seconds at 25 per second; frames 12 and 37 are bright, and a click lies at the begin of each."""
    import av

    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"bf": "2"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=44_100, layout="mono")
        for number in range(50):
            is_marked = number in (12, 37)
            container.mux(video.encode(av.VideoFrame.from_ndarray(numbered(50 if is_marked else 5), "yuv420p")))
            samples = np.zeros((1, 1764), np.int16)
            samples[:, :90] = 20_000 * is_marked
            block = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            block.sample_rate, block.pts = 44_100, number * 1764
            container.mux(audio.encode(block))
        container.mux(video.encode(None))
    return path


def test_picture_and_sound_of_a_file_are_in_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(50.0)
    monkeypatch.setattr(time, "monotonic", clock.now)
    monkeypatch.setattr(time, "sleep", clock.advance)
    flashes: list[float] = []
    blocks: list[tuple[np.ndarray, float]] = []
    for item in islice(read(str(write_clip_with_clicks(tmp_path / "a.mkv")), 32, 24, with_sound=True), 400):
        if isinstance(item, tuple):
            blocks.append(item)
            assert item[1] >= clock.now() - 0.05, "sound comes before it is to be heard"
        elif item.mean() > 150:
            flashes.append(clock.now())
    ends = [at_s + len(samples) / 48_000 for samples, at_s in blocks]
    loud = [(at_s, np.flatnonzero(samples[:, 0] > 5000)) for samples, at_s in blocks]
    clicks = [at_s + where[0] / 48_000 for at_s, where in loud if len(where)]
    assert len(flashes) >= 4, "the file is repeated"
    pairs = list(zip(flashes, clicks, strict=False))
    assert max(abs(flash - click) for flash, click in pairs) < 0.01
    gaps = [abs(at_s - end) for (_, at_s), end in zip(blocks[1:], ends, strict=False)]
    assert max(gaps) < 0.06, "also where the file begins again"


def test_a_file_without_sound_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it has no sound"):
        next(read(str(write_clip(tmp_path / "clip.mkv")), 32, 24, with_sound=True))


def test_sound_alone_does_not_make_a_reader_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class SoundOnly:
        def __init__(self, *_: object, **__: object) -> None:
            self.num = 0

        def receive(self, timeout_s: float) -> Any:
            self.num += 1
            clock.advance(0.02)
            return {"at": 1.0}, bytes(4)

    clock, heard = FakeClock(0.0), list[float]()
    monkeypatch.setattr(live_input, "ChildProcess", SoundOnly)
    monkeypatch.setattr(time, "monotonic", clock.now)
    reader = ChildInputReader("rtsp://camera/1", 6, 4, lambda samples, at_s: heard.append(at_s))
    assert reader.read(0.25) is None
    assert 12 <= len(heard) <= 14


LISTS = {
    "concat": "ffconcat version 1.0\nfile clip.mkv\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.mkv\n#EXT-X-ENDLIST\n",
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_other_files_is_no_input(tmp_path: Path, kind: str) -> None:
    write_clip(tmp_path / "clip.mkv")
    (tmp_path / "a.mp4").write_text(LISTS[kind])
    with pytest.raises(ValueError, match="Invalid"):
        next(read(str(tmp_path / "a.mp4"), 32, 24))


@pytest.mark.parametrize("name", ["18:07.mkv", "file:a.mkv", "%d.mkv"])
def test_a_path_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mkv").rename(name)
    assert next(read(name, 32, 24)).shape == (24, 32, 3)
    assert next(read(f"file://{tmp_path}/{name}", 32, 24)).shape == (24, 32, 3)


def test_what_comes_from_an_address_names_no_file_of_this_machine(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.ts")
    playlist = LISTS["hls"].replace("clip.mkv", f"file://{tmp_path}/clip.ts").encode()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(playlist)

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        with pytest.raises(ValueError, match="Invalid data found"):
            next(read(f"tcp://127.0.0.1:{listener.getsockname()[1]}/a.m3u8", 32, 24))
        server.join()


def test_frames_of_another_shape_fit_as_told(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv")  # 64 x 48
    assert next(read(str(path), 64, 24))[:, 0].min() > 0
    assert not next(read(str(path), 64, 24, "contain"))[:, :10].any()


@pytest.mark.live
def test_real_readers(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv")
    levels: list[int] = []
    is_enough = threading.Event()

    class Noting(ChildInputReader):
        def read(self, timeout_s: float) -> np.ndarray | None:
            if (frame := super().read(timeout_s)) is not None:
                levels.append(int(frame[12, 16, 0]))
            if len(levels) == 7:  # more than the file has: it begins again
                is_enough.set()
            return frame

    with closing(LiveInput(str(path), 32, 24, dial=Noting, clock=FakeClock(0.0))) as live_input:
        assert is_enough.wait(WAIT_S)
        assert live_input.frame().shape == (24, 32, 3)
    assert len(set(levels[:3])) == 3
    assert levels[3:7] == [*levels[:3], levels[0]]
    with closing(LiveInput("testcard", 32, 24, clock=FakeClock(0.0))) as card:
        assert card.wait_picture(WAIT_S)[0, 0].tolist() == [191, 191, 191]
        assert card.to_json()["is_up"]


@pytest.mark.live
@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("nothing.mp4", "No such file"),
        ("http://127.0.0.1:9/x", "refused"),
        ("webcam:/dev/nowhere", "there is no camera"),
    ],
)
def test_what_cannot_be_read_says_why(spec: str, reason: str) -> None:
    tried = threading.Event()

    def wait(seconds: float) -> bool:
        tried.set()
        return True

    with closing(LiveInput(spec, 32, 24, wait=wait)) as live_input:
        assert tried.wait(WAIT_S)
    with pytest.raises(ValueError, match=reason):
        live_input.picture()
