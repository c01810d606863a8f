"""Every example runs, with the tiny bundle."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import onnxruntime
import pytest

from runtime import Generator
from runtime.engines import cuda
from tests import tiny
from tests.runtime.fake_cuda import FakeDevice
from tests.runtime.fake_onnxruntime import FakeOnnxRuntime
from tests.streaming.doubles import WAIT_S, decode
from tests.streaming.live.test_rtmp_live import MODULE, Nginx

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle, 64 x 48 at 30 frames per second."""
    return tiny.build(tmp_path_factory.mktemp("bundles") / "tiny")


def run(name: str, *arguments: object) -> str:
    """Run an example as a process of its own; return what it prints."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=4 * WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_here(name: str, *arguments: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run an example in this process, so that it uses fakes, until its camera raises KeyboardInterrupt."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    with pytest.raises(KeyboardInterrupt):
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The frames that a fake pyvirtualcam has received; its camera stops the program at the third."""
    frames: list[np.ndarray] = []

    class Camera:
        def __init__(self, width: int, height: int, fps: float) -> None:
            self.size = (height, width, 3)

        def __enter__(self) -> Camera:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def send(self, frame: np.ndarray) -> None:
            assert (frame.shape, frame.dtype) == (self.size, np.uint8)
            frames.append(frame.copy())

        def sleep_until_next_frame(self) -> None:
            if len(frames) == 3:
                raise KeyboardInterrupt

    module = ModuleType("pyvirtualcam")
    module.Camera = Camera  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyvirtualcam", module)
    return frames


def test_every_example_has_a_test() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    examples = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert examples
    assert all(f'"{name}"' in source for name in examples)


def test_webcam(bundle: Path, sent: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    run_here("webcam.py", bundle, monkeypatch=monkeypatch)
    assert [int(frame[0, 0, 0]) for frame in sent] == [0, 1, 2]


def test_own_sink(bundle: Path) -> None:
    lines = run("own_sink.py", bundle).splitlines()
    assert lines[0].startswith("frame 0: ")
    assert all(0 < float(line.split()[-1]) < 255 for line in lines)


def test_moviepy_clip(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    run("moviepy_clip.py", bundle, "hello", tmp_path / "title.mp4")
    frames, _ = decode(tmp_path / "title.mp4")
    assert len(frames) == 4 * 30
    assert (frames[0].width, frames[0].height) == (64, 48)


def test_import_onnx(tmp_path: Path) -> None:
    printed = run("import_onnx.py", tmp_path / "model.onnx", tmp_path / "inverted")
    assert printed.splitlines()[-1] == "a picture of brightness 200 became one of 55"


@pytest.mark.live
def test_person_over_scene(bundle: Path, tmp_path: Path) -> None:
    clip = tmp_path / "talk.mkv"
    with av.open(str(clip), "w") as container:
        video: Any = container.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio: Any = container.add_stream("pcm_s16le", rate=48_000, layout="mono")
        hum = np.rint(8000 * np.sin(np.arange(1600) * 2 * np.pi * 300 / 48_000)).astype(np.int16)[np.newaxis]
        for number in range(60):
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.full((72, 64), 120, np.uint8), "yuv420p")))
            block: Any = av.AudioFrame.from_ndarray(hum, "s16", "mono")
            block.sample_rate, block.pts = 48_000, 1600 * number
            container.mux(audio.encode(block))
        container.mux(video.encode(None))
    run("person_over_scene.py", bundle, ROOT / "bundles" / "person", clip, tmp_path / "out.mkv", 3)
    frames, num_audio = decode(tmp_path / "out.mkv")
    assert len(frames) > 10
    assert (frames[0].width, frames[0].height) == (64, 48)
    assert num_audio * 1024 / 48_000 > 1.5


@pytest.mark.live
def test_rtmp(bundle: Path, tmp_path: Path) -> None:
    if not MODULE.exists():
        pytest.skip(f"no {MODULE}: on Debian, apt install nginx libnginx-mod-rtmp")
    server = Nginx(tmp_path)
    try:
        run("rtmp.py", bundle, f"rtmp://127.0.0.1:{server.port}/live/KEY", tmp_path / "show.mkv", 3)
        assert server.publish.is_set()
    finally:
        server.stop()
    assert len(decode(tmp_path / "show.mkv")[0]) > 30


def test_pycuda_filter(bundle: Path, sent: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeDevice()
    monkeypatch.setattr(cuda, "why_no_device", lambda: None)
    monkeypatch.setattr(cuda, "Cuda", lambda: device)
    monkeypatch.setitem(sys.modules, "onnxruntime", FakeOnnxRuntime(device))  # type: ignore[arg-type]
    monkeypatch.setattr("runtime.engines.tensorrt.TensorRT.available", lambda engine: f"no {engine.name} here")

    def darken(frame: Any, height: Any, width: Any, *, block: Any, grid: Any) -> None:
        assert frame.__cuda_array_interface__["shape"] == (height, width, 3)
        assert grid[0] * block[0] >= width
        assert grid[1] * block[1] >= height
        device.memory[frame.address][:] //= 2

    def fetch(into: np.ndarray, address: int) -> None:
        np.copyto(into.reshape(-1), device.memory[address])

    modules: dict[str, dict[str, Any]] = {
        "pycuda": {},
        "pycuda.autoprimaryctx": {},
        "pycuda.driver": {"pagelocked_empty": np.empty, "memcpy_dtoh": fetch},
        "pycuda.compiler": {"SourceModule": lambda source: SimpleNamespace(get_function=lambda name: darken)},
    }
    for name, content in modules.items():
        fake = ModuleType(name)
        vars(fake).update(content)
        monkeypatch.setitem(sys.modules, name, fake)
        if "." in name:
            setattr(sys.modules["pycuda"], name.partition(".")[2], fake)
    run_here("pycuda_filter.py", bundle, monkeypatch=monkeypatch)
    monkeypatch.setitem(sys.modules, "onnxruntime", onnxruntime)
    with Generator.open(bundle, engine="onnxruntime", precision="fp32") as generator:
        expected = [next(generator) // 2 for _ in range(3)]
    assert all(np.abs(mine.astype(int) - other).max() <= 1 for mine, other in zip(sent, expected, strict=True))
