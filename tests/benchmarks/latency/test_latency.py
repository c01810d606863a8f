"""The latency benchmark: its figures, its command line, its files."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import __main__ as command
from benchmarks import plots
from benchmarks.latency.command import measure
from benchmarks.latency.distribution import percentiles
from benchmarks.latency.stages import TimedSession
from runtime import EngineError, Manifest
from runtime.engines.engine import Array, Program
from tests import tiny
from tests.fakes import count_frames, fake_generator


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle."""
    return tiny.build(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def manifest(bundle: Path) -> Manifest:
    """Its manifest."""
    return Manifest.parse(json.loads((bundle / "bundle.json").read_text()))


class Stopwatch:
    """A clock in nanoseconds that fake frames move: frame number n takes n milliseconds."""

    def __init__(self) -> None:
        self.time_ns = 0

    def __call__(self) -> int:
        return self.time_ns

    def compute(self, program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
        """Count frames, and let time pass."""
        if "code" not in inputs:
            self.time_ns += (run + 1) * 1_000_000
        return count_frames(program, inputs, run)


def test_each_frame_is_timed_after_the_warm_up(manifest: Manifest) -> None:
    stopwatch = Stopwatch()
    generator, measurement = measure(
        lambda: fake_generator(manifest, stopwatch.compute)[0], frames=4, warmup=2, clock_ns=stopwatch
    )
    assert measurement.open_ms == 0
    assert measurement.first_frame_ms == 1
    assert measurement.frames_ms == [4, 5, 6, 7]
    with pytest.raises(ValueError, match="closed"):
        next(generator)


def test_the_stages_of_each_frame_are_kept(manifest: Manifest) -> None:
    stopwatch, taken = Stopwatch(), iter([(9.0, 9.0, 9.0), (1.0, 2.0, 0.5), (1.5, 2.5, 0.5)])
    _, measurement = measure(
        lambda: fake_generator(manifest, stopwatch.compute)[0],
        frames=2,
        warmup=3,
        clock_ns=stopwatch,
        take_stages=lambda: next(taken),
    )
    assert measurement.frames_ms == [5, 6]
    assert measurement.stages_ms == [(1.0, 2.0, 0.5), (1.5, 2.5, 0.5)]


def test_a_timed_session_adds_up_its_calls(manifest: Manifest) -> None:
    ticks = iter(range(0, 100_000_000, 1_000_000))
    _, engine = fake_generator(manifest)
    timed = TimedSession(engine.sessions[0], clock_ns=lambda: next(ticks))
    timed.write("mix", np.zeros(1, np.float32))
    timed.write("mix", np.zeros(1, np.float32))
    timed.run()
    timed.read("rgb")
    assert timed.take_ms() == (2.0, 1.0, 1.0)
    assert timed.take_ms() == (0.0, 0.0, 0.0)


def test_scenes_are_prepared_at_the_same_time(manifest: Manifest) -> None:
    generator, engine = fake_generator(manifest)
    _, measurement = measure(lambda: generator, frames=5, warmup=0, prepare=True)
    assert len(measurement.frames_ms) == 5
    assert engine.sessions[1].num_runs >= 3  # the show's own scene, one to try, and one at least in the thread


def test_an_error_of_the_preparing_thread_is_raised(manifest: Manifest) -> None:
    def compute(program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
        if "code" in inputs and run >= 2:
            raise EngineError("the device is gone")
        return count_frames(program, inputs, run)

    with pytest.raises(EngineError, match="the device is gone"):
        measure(lambda: fake_generator(manifest, compute)[0], frames=1, warmup=0, prepare=True)


def test_percentiles() -> None:
    assert percentiles([1.0, 2.0, 3.0, 4.0, 90.0]) == {
        "min": 1, "p50": 3, "p90": 55.6, "p95": 72.8, "p99": 86.56, "max": 90, "mean": 20,
    }  # fmt: skip
    with pytest.raises(ValueError, match="at least one frame"):
        percentiles([])


def test_the_last_line_is_the_whole_result(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["latency", str(bundle), "--engine", "onnxruntime", "--frames", "5", "--warmup", "1", "--threads", "1"]
    arguments += ["--pixels", "i420", "--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.png")]
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments])
    assert command.main() == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert captured.out.count("\n") == 1
    assert (result["engine"], result["precision"], result["pixels"]) == ("onnxruntime", "fp32", "i420")
    assert (result["frames"], result["warmup"], result["threads"], result["own_fps"]) == (5, 1, 1, "30")
    assert result["command"] == " ".join(["python -m benchmarks", *arguments])
    ms = result["ms"]
    assert 0 < ms["min"] <= ms["p50"] <= ms["p90"] <= ms["p95"] <= ms["p99"] <= ms["max"]
    assert result["machine"]["cores"] >= 1
    assert set(result["machine"]["packages"]) >= {"numpy", "onnx", "onnxruntime"}
    for word in ("p99", "variation", "machine", "commit", "onnxruntime, as asked"):
        assert word in captured.err
    written = json.loads((tmp_path / "a.json").read_text())
    assert len(written.pop("frames_ms")) == 5
    assert written == result
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width >= 1200
        assert np.asarray(picture.convert("L")).std() > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: NAME; see python -m benchmarks --help"),
        (["latnecy"], "invalid choice: 'latnecy'"),
        (["latency"], "are required: BUNDLE; see python -m benchmarks latency --help"),
        (["latency", "{bundle}", "--frames", "x"], "invalid int value"),
        (["latency", "{bundle}", "--frames", "0"], "--frames must be at least 1"),
        (["latency", "{bundle}", "--warmup", "-1"], "--warmup at least 0"),
        (["latency", "{bundle}", "--engine", "openvina"], 'did you mean "openvino"'),
        (["latency", "{bundle}", "--engine", "onnxruntime", "--precision", "bf16"], "onnxruntime cannot run in bf16"),
        (
            ["latency", "{bundle}", "--compare", "torch,pytroch"],
            '--compare got "pytroch", expected all, or some of ever',
        ),
        (["latency", "{bundle}", "--beside", "pytroch"], '--compare got "pytroch", expected all, or some of ever'),
        (["latency", "{bundle}", "--run", "runs/mine"], "give --compare as well"),
        (["kills", "{bundle}/nowhere", "--kills", "0"], "--kills and --fps must be at least 1"),
        (["latency", "{bundle}", "--threads", "0"], "threads must be at least 1"),
        (["latency", "{bundle}", "--plot", "a.bmp"], "--plot must end in .png"),
        (["latency", "{bundle}/nowhere"], "is no folder"),
    ],
)
def test_every_mistake_is_one_line_and_status_2(
    bundle: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert command.main([argument.format(bundle=bundle) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("benchmarks: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_a_file_that_cannot_be_written_is_one_line_too(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "nowhere" / "a.json"
    arguments = [
        "latency",
        str(bundle),
        "--engine",
        "onnxruntime",
        "--frames",
        "1",
        "--warmup",
        "0",
        "--json",
        str(file),
    ]
    assert command.main(arguments) == 2
    assert "No such file" in capsys.readouterr().err.splitlines()[-1]


def test_a_missing_matplotlib_is_one_sentence(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert command.main(["latency", str(bundle), "--plot", "a.png"]) == 2
    assert capsys.readouterr().err == "benchmarks: --plot needs the extra: pip install everframe[plot]\n"


def test_only_the_benchmark_that_is_asked_for_is_imported() -> None:
    code = "import sys; from benchmarks.__main__ import main; main(['latency', '--frames', 'x']); "
    code += "assert not {'scipy', 'torch', 'av', 'benchmarks.quality', 'benchmarks.live'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True, capture_output=True)


def test_a_missing_library_is_one_sentence_that_names_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    for name in [name for name in sys.modules if name.startswith(("benchmarks.quality", "benchmarks.transfer"))]:
        monkeypatch.delitem(sys.modules, name)
    assert command.main(["transfer", "runs/a"]) == 2
    assert capsys.readouterr().err == (
        "benchmarks: scipy.stats is not installed: pip install 'everframe[evaluation]'\n"
    )


def test_every_benchmark_has_a_manual_page(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], *([name] for name in command.BENCHMARKS)):
        with pytest.raises(SystemExit) as exit_info:
            command.main([*arguments, "--help"])
        assert exit_info.value.code == 0
        page = capsys.readouterr().out
        assert "examples:" in page
        assert max(len(line) for line in page.splitlines()) <= 100


@pytest.mark.parametrize("frames_ms", [[5.0], [5.0] * 10, [5.0] * 200 + [500.0]])
def test_odd_durations_can_be_drawn(tmp_path: Path, frames_ms: list[float]) -> None:
    machine = {"cpu": "a CPU", "cores": 2, "flags": ["avx512_bf16"], "load": 0.1, "os": "Linux"}
    result = {"bundle": "tiny", "width": 64, "height": 48, "pixels": "rgb", "engine": "fake", "precision": "fp32"}
    result |= {"threads": 1, "prepare": True, "fps": 200.0, "machine": machine}
    result |= {"ms": percentiles(frames_ms), "frames_ms": frames_ms}
    plots.latency(result, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert "<svg" in text
    assert len(text) > 10_000
