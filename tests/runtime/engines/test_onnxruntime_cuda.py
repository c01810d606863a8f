"""ONNX Runtime's CUDA provider and frames on a device, with a device and a provider that are fakes."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from runtime import EngineError, Generator
from runtime.engines import cuda
from runtime.engines import cuda_frame as device_frame
from runtime.engines.cuda_frame import CPU, CUDA, CudaFrame
from runtime.engines.cuda_session import CudaSession
from runtime.engines.onnxruntime_cuda import OnnxRuntimeCuda
from tests.runtime import heavy
from tests.runtime.fake_cuda import FakeDevice
from tests.runtime.fake_onnxruntime import FakeOnnxRuntime


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def module(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> FakeOnnxRuntime:
    """A machine with a GPU on which ONNX Runtime can use it."""
    module = FakeOnnxRuntime(device)
    monkeypatch.setattr(cuda, "why_no_device", lambda: None)
    monkeypatch.setattr(cuda, "Cuda", lambda: device)
    monkeypatch.setitem(sys.modules, "onnxruntime", module)  # type: ignore[arg-type]
    return module


def frames(bundle: Path, engine: str, count: int = 10) -> list[np.ndarray]:
    with Generator.open(bundle, engine=engine, precision="fp32", threads=1, seed=3) as generator:
        return [next(generator).copy() for _ in range(count)]


def test_it_makes_the_frames_of_the_cpu(
    bundle: Path, module: FakeOnnxRuntime, device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = frames(bundle, "onnxruntime-cuda")
    assert device.num_launched == 0, "it replays graphs of its own"
    assert (device.memory, device.pins, device.graphs, device.reached) == ({}, {}, {}, {})
    assert set(module.graph_ids) == {"1", "2"}, "one graph for each turn of the states; 0 is not ours"
    assert {provider["user_compute_stream"] for provider in module.provider_options} == {str(device.stream)}
    assert module.num_preloaded > 0
    monkeypatch.setitem(sys.modules, "onnxruntime", onnxruntime)
    expected = frames(bundle, "onnxruntime")
    assert all(np.array_equal(mine, other) for mine, other in zip(found, expected, strict=True))


def test_an_engine_without_capture_runs_eagerly(bundle: Path, module: FakeOnnxRuntime) -> None:
    with Generator.open(bundle, engine="onnxruntime-cuda", precision="fp32") as generator:
        assert session_of(generator).why_eager == ""
    module.refuses_graphs = True
    with Generator.open(bundle, engine="onnxruntime-cuda", precision="fp32") as generator:
        assert session_of(generator).why_eager == "This session cannot use the graph capture feature"
        next(generator)


def session_of(generator: Generator) -> CudaSession:
    session = generator._step._session
    assert isinstance(session, CudaSession)
    return session


def test_errors_are_one_sentence(bundle: Path, module: FakeOnnxRuntime, device: FakeDevice) -> None:
    with pytest.raises(EngineError, match="runs in fp16 or fp32, got bf16"):
        OnnxRuntimeCuda().open(None, "bf16", 1, None)  # type: ignore[arg-type]
    module.has_no_cuda = True
    with pytest.raises(EngineError, match="could not load CUDA and cuDNN"):
        Generator.open(bundle, engine="onnxruntime-cuda")
    assert device.is_closed
    module.has_no_cuda = False
    with Generator.open(bundle, engine="onnxruntime-cuda", precision="fp32") as generator:
        next(generator)
        module.failure = "CUDA failure 2: out of memory\nand so on"
        with pytest.raises(
            EngineError, match=r"^onnxruntime-cuda failed: CUDA failure 2: out of memory; no other engine"
        ):
            next(generator)


def test_it_is_not_there_where_something_is_missing(module: FakeOnnxRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    assert OnnxRuntimeCuda().available() is None
    monkeypatch.setattr(module, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "needs onnxruntime-gpu in place of onnxruntime" in str(OnnxRuntimeCuda().available())
    monkeypatch.setattr(cuda, "why_no_device", lambda: "there is no NVIDIA driver here")
    sentence = "the engine onnxruntime-cuda needs a CUDA device: there is no NVIDIA driver here"
    assert OnnxRuntimeCuda().available() == sentence
    with pytest.raises(EngineError, match=sentence):
        OnnxRuntimeCuda().open(None, "fp16", 1, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cudaErrorMemoryAllocation", r"^the GPU is out of memory: .* \(cudaErrorMemoryAllocation in cudaMalloc\)$"),
        ("cudaErrorIllegalAddress", r"^the GPU does not respond, and its memory is lost"),
        ("cudaErrorOdd", r"^CUDA failed in cudaMalloc: cudaErrorOdd$"),
    ],
)  # fmt: skip
def test_cuda_errors_say_what_to_do(name: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failure(int):
        """An error like that of cuda-python."""

    error = Failure(2)
    error.name = name  # type: ignore[attr-defined]
    fake = SimpleNamespace(cudaStreamCreateWithFlags=lambda flag: (0, 77), cudaStreamNonBlocking=1)
    fake.cudaMalloc = lambda nbytes: (error, None)
    monkeypatch.setattr(cuda, "_runtime", lambda: fake)
    with pytest.raises(EngineError, match=sentence):
        cuda.Cuda().allocate(1)


def test_a_frame_on_the_device_is_the_frame(bundle: Path, module: FakeOnnxRuntime, device: FakeDevice) -> None:
    with Generator.open(bundle, engine="onnxruntime-cuda", precision="fp32") as generator:
        with pytest.raises(ValueError, match="no frame on a device: ask for one"):
            generator.device_frame()
        for _ in range(3):
            frame = next(generator)
            there = generator.device_frame()
            assert np.array_equal(device.memory[there.address].reshape(there.shape), frame)
        assert there.__cuda_array_interface__ == {
            "data": (there.address, False), "shape": frame.shape, "typestr": "|u1", "strides": None, "version": 3,
        }  # fmt: skip
        assert there.__dlpack_device__() == (CUDA, 0)
        assert there.nbytes == frame.nbytes
    with pytest.raises(ValueError, match="closed"):
        generator.device_frame()


def test_frames_in_main_memory_are_taken_as_they_are(bundle: Path) -> None:
    with Generator.open(bundle, engine="onnxruntime") as generator:
        next(generator)
        with pytest.raises(ValueError, match="frames of onnxruntime lie in main memory, take those"):
            generator.device_frame()


def test_dlpack_shares_memory_and_lets_it_go() -> None:
    torch = pytest.importorskip("torch")
    for dtype in ("uint8", "float32"):
        memory = np.arange(24).astype(dtype)
        frame = CudaFrame(memory.ctypes.data, (2, 4, 3), dtype, device=(CPU, 0))
        taken = np.from_dlpack(frame)
        assert taken.dtype == memory.dtype
        assert np.array_equal(taken, memory.reshape(2, 4, 3))
        other = torch.from_dlpack(frame)
        memory[5] = 77
        assert taken[0, 1, 2] == other[0, 1, 2] == 77, "it is the same memory"
        assert len(device_frame._held) == 2
        del taken, other
        gc.collect()
        assert device_frame._held == {}
    capsule = frame.__dlpack__(stream=1, max_version=(1, 0), dl_device=(CPU, 0))
    assert len(device_frame._held) == 1
    del capsule  # nobody took it
    gc.collect()
    assert device_frame._held == {}
    with pytest.raises(BufferError, match="shared, not copied"):
        frame.__dlpack__(copy=True)
    with pytest.raises(BufferError, match="not on"):
        frame.__dlpack__(dl_device=(CUDA, 1))
    with pytest.raises(AttributeError):
        _ = frame.__cuda_array_interface__


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_weights_in_a_file_of_their_own_are_found(precision: str, module: FakeOnnxRuntime, tmp_path: Path) -> None:
    inline = heavy.build(tmp_path / "inline")
    found = []
    for bundle in (inline, heavy.move_weights_out(inline, tmp_path / "external")):
        with Generator.open(bundle, engine="onnxruntime-cuda", precision=precision) as generator:
            generator.condition(image=np.full((heavy.HEIGHT, heavy.WIDTH, 3), 90, np.uint8))
            generator.feed_live(np.full((heavy.HEIGHT, heavy.WIDTH, 3), 200, np.uint8))
            found.append(next(generator).copy())
    assert np.array_equal(*found)
    assert len(module.provider_options) == 4
