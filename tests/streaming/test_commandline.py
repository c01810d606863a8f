"""The whole command, in this process: what it returns, what it says, what it leaves behind."""

from __future__ import annotations

import json
import shutil
import socket
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runtime import EngineError, Generator
from streaming import shipped
from streaming.arguments import DEFAULT_BUNDLE
from streaming.commandline import main
from streaming.show.show import ShowEnd
from tests import tiny
from tests.streaming.doubles import decode


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run the command; return its status and what it wrote to standard error."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert captured.out == ""
    return status, captured.err


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must be refused in one line."""
    status, error = run(capsys, *arguments)
    assert status == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


def test_a_show_is_recorded_and_summed_up(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "show.mp4"
    status, error = run(capsys, bundle, "--to", path, "--to", "null", "--seconds", 0.5, "--control", "sway=2")
    assert status == 0
    assert error.startswith("tiny: 64 x 48, 30 fps, ")
    assert "first frame" in error
    assert "ended: time is up" in error
    summary = {line.split()[0]: line for line in error.splitlines()}
    written = int(summary[str(path)].split()[1])
    frames, _ = decode(path)
    assert len(frames) == written
    assert 1 <= written <= 15
    assert summary["show"].split()[1] == summary["null"].split()[1]


def test_missing_and_broken_bundles(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is no folder" in refusal(capsys, tmp_path / "nothing", "--to", "null")
    assert "is no bundle" in refusal(capsys, tmp_path, "--to", "null")
    cut = shutil.copytree(bundle, tmp_path / "cut")
    (cut / "step.onnx").write_bytes((bundle / "step.onnx").read_bytes()[:500])
    assert "step.onnx has 500 bytes, expected" in refusal(capsys, cut, "--to", "null")
    edited = shutil.copytree(bundle, tmp_path / "edited")
    manifest = json.loads((edited / "bundle.json").read_text())
    manifest["frame"]["fps"] = "60"
    (edited / "bundle.json").write_text(json.dumps(manifest))
    assert "was changed" in refusal(capsys, edited, "--to", "null")


def test_what_the_runtime_refuses_leaves_nothing_behind(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.png"
    text.write_text("this is no picture")
    for arguments, message in {
        ("--image", text): "is not an image",
        ("--image", tmp_path / "none.png"): "there is no image file",
        ("--control", "swai=1"): 'no control "swai" (did you mean "sway"?)',
        ("--control", "sway=99"): "sway must be from 0 to 4, got 99",
        ("--engine", "openvin"): 'no engine "openvin"',
        ("--precision", "fp8"): 'no precision "fp8"',
    }.items():
        assert message in refusal(capsys, bundle, "--to", tmp_path / "out.mp4", *arguments)
        assert [file.name for file in tmp_path.iterdir()] == ["text.png"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a picture and a clip."""
    frames = [Image.new("RGB", (40, 20), (level, 200, 60)) for level in (40, 80, 120)]
    frames[0].save(tmp_path / "photo.png")
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:])
    return tmp_path


@pytest.mark.parametrize(
    "given",
    [
        ("--text", "the storm"),
        ("--clip", "clip.gif"),
        ("--image", "photo.png", "--text", "the storm"),
        ("--image", "photo.png", "--clip", "clip.gif", "--text", "the storm", "--control", "drift=2"),
        ("--text", "calm sea", "--control", "seed=5"),
        ("--cue", "0.1:text=the storm", "--cue", "0.2:image=photo.png", "--cue", "0.2:gain=2", "--dissolve", "0.05"),
    ],
)
def test_any_prompt_goes_on_air(
    prompted_bundle: Path,
    files: Path,
    given: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    status, error = run(capsys, prompted_bundle, "--to", "show.mkv", "--seconds", 2, *given)
    assert status == 0
    assert "ended: time is up" in error
    assert "left out" not in error
    assert len(decode("show.mkv")[0]) >= 1


def test_what_is_given_reaches_the_generator(
    prompted_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    controls: list[tuple[str, float]] = []
    monkeypatch.setattr(Generator, "condition", lambda self, **given: seen.append(given))
    monkeypatch.setattr(Generator, "set_control", lambda self, *given: controls.append(given))
    show = ("--to", "null", "--seconds", 0.1, "--engine", "onnxruntime", "--control", "gain=2", "--clip", "c")
    monkeypatch.setattr("streaming.show.show.Show.run", lambda self, frames, **options: ShowEnd.TIME_IS_UP)
    assert run(capsys, prompted_bundle, *show, "--text", "sea")[0] == 0
    assert seen == [{"clip": "c", "text": "sea"}]
    assert controls == [("gain", 2.0)]


def test_prompts_and_cues_that_are_refused_leave_nothing_behind(
    prompted_bundle: Path, bundle: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "notes.txt").write_text("this is no video")
    before = sorted(files.iterdir())
    cases = [
        (bundle, ("--text", "storm"), "tiny takes no text: its condition graph has no input of the role text; give an"),
        (bundle, ("--clip", files / "clip.gif"), "tiny takes no clip: "),
        (bundle, ("--cue", "1:text=storm"), "tiny takes no text: "),
        (prompted_bundle, ("--text", ""), "the text is empty"),
        (prompted_bundle, ("--text", "orage"), "no word of the text 'orage' is known: the vocabulary is English"),
        (prompted_bundle, ("--text", "storm " * 400), "the text has 2400 characters; at most 2000 are read"),
        (prompted_bundle, ("--clip", files / "none.mp4"), "there is no clip file"),
        (prompted_bundle, ("--clip", files / "notes.txt"), "it is no video that FFmpeg can decode"),
        (prompted_bundle, ("--control", "seed=1.5"), "seed is a seed and must be a whole number, got 1.5"),
        (prompted_bundle, ("--cue", f"1:image={files / 'none.png'}"), "there is no image file"),
        (prompted_bundle, ("--cue", "1:gian=1"), 'there is no control "gian" (did you mean "gain"?)'),
        (prompted_bundle, ("--cue", "1:text=orage"), "no word of the text 'orage' is known"),
        (prompted_bundle, ("--cue", "1:text=sea", "--cue", "1:text=sea"), "the cues at 1 s give text twice"),
    ]
    for folder, arguments, message in cases:
        assert message in refusal(capsys, folder, "--to", files / "out.mp4", "--engine", "onnxruntime", *arguments)
        assert sorted(files.iterdir()) == before


def test_a_sink_that_cannot_be_opened_stops_all(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the engine was opened all the same")

    monkeypatch.setattr(Generator, "open", never)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert "is in use" in refusal(capsys, bundle, "--to", tmp_path / "a.mkv", "--to", taken)
    assert "no folder" in refusal(capsys, bundle, "--to", "null", "--to", tmp_path / "missing" / "a.mp4")
    assert "webcam" in refusal(capsys, bundle, "--to", tmp_path / "a.mp4", "--to", "webcam:/dev/video-of-nobody")
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_are_one_line(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--fps: got '0'" in refusal(capsys, bundle, "--fps", "0")
    assert "--seconds: got '-1'" in refusal(capsys, bundle, "--seconds", "-1")
    assert 'there is no sink "webcm"' in refusal(capsys, bundle, "--to", "webcm")
    assert "SECRET" not in refusal(capsys, bundle, "--to", "rtmpx://host/app/SECRET")
    assert "SECRET" not in refusal(capsys, "rtmp://host/app/SECRET")


def test_a_key_is_not_in_what_a_show_writes(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    status, error = run(capsys, bundle, "--to", f"rtmp://127.0.0.1:{port}/app/SECRET", "--seconds", 0.2)
    assert status == 1  # nobody has seen a single frame
    assert "SECRET" not in error
    assert f"rtmp://127.0.0.1:{port}/app/***" in error
    assert "0 connections, last error: Connection refused" in error


def test_an_engine_that_fails_during_the_show_keeps_the_recording(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Generator.__next__

    def fail_at_5(self: Generator) -> Any:
        if self.frame_index == 5:
            raise EngineError("the device was unplugged")
        return make(self)

    monkeypatch.setattr(Generator, "__next__", fail_at_5)
    status, error = run(capsys, bundle, "--to", tmp_path / "a.mkv", "--seconds", 5)
    assert status == 2
    assert error.endswith("error: the device was unplugged\n")
    assert len(decode(tmp_path / "a.mkv")[0]) >= 5  # the last one is repeated if the end takes long


def test_the_default_bundle_is_found_here_or_beside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "site" / "streaming" / "shipped.py"
    monkeypatch.setattr(shipped, "__file__", str(package))
    installed = ModuleSpec("everframe_bundles", None, is_package=True)
    monkeypatch.setattr(shipped, "find_spec", {}.get)
    assert shipped.find_shipped(Path(DEFAULT_BUNDLE)) == Path(DEFAULT_BUNDLE)  # nowhere: the error names the plain path
    installed.submodule_search_locations = [str(tmp_path / "nothing"), str(tmp_path / "wheel")]
    monkeypatch.setattr(shipped, "find_spec", {"everframe_bundles": installed}.get)
    in_wheel = tmp_path / "wheel" / Path(DEFAULT_BUNDLE).name
    in_wheel.mkdir(parents=True)
    assert shipped.find_shipped(Path(DEFAULT_BUNDLE)) == in_wheel
    beside = tmp_path / "site" / DEFAULT_BUNDLE
    beside.mkdir(parents=True)
    assert shipped.find_shipped(Path(DEFAULT_BUNDLE)) == beside
    (tmp_path / DEFAULT_BUNDLE).mkdir(parents=True)
    assert shipped.find_shipped(Path(DEFAULT_BUNDLE)) == Path(DEFAULT_BUNDLE)
    assert shipped.find_shipped(Path("mine")) == Path("mine")


def test_a_shipped_network_says_what_may_move_unless_another_or_none_is_named(tmp_path: Path) -> None:
    shipped_areas = shipped.find_areas(None)
    assert shipped_areas is not None
    assert shipped_areas.resolve() == Path(__file__).parents[2] / "bundles" / "areas"
    assert shipped.find_areas("none") is None
    assert shipped.find_areas("bundles/person") == shipped.find_shipped(Path("bundles/person"))
    for wrong in (str(tmp_path), "bundles/missing"):
        with pytest.raises(ValueError, match=r'--areas ".*" is no bundle: name bundles/areas, another bundle, or none'):
            shipped.find_areas(wrong)


def test_with_a_fallback_a_show_outlives_its_engine(
    prompted_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from runtime.engines.onnxruntime import OnnxRuntimeSession

    original, runs = OnnxRuntimeSession.run, 0

    def failing(session: OnnxRuntimeSession) -> None:
        nonlocal runs
        runs += 1
        if 8 <= runs < 10:
            raise EngineError("onnxruntime failed: the device is gone")
        original(session)

    monkeypatch.setattr(OnnxRuntimeSession, "run", failing)
    monkeypatch.setattr("streaming.show.fallback.FIRST_WAIT_S", 0.05)
    Image.new("RGB", (64, 48), (200, 30, 30)).save(tmp_path / "stand_in.png")
    arguments = (prompted_bundle, "--engine", "onnxruntime", "--to", "null", "--seconds", 2)
    status, error = run(capsys, *arguments, "--fallback", tmp_path / "stand_in.png")
    assert status == 0
    assert "every engine has failed (onnxruntime failed: the device is gone" in error
    assert "the engine is back" in error
    assert "ended: time is up" in error
    runs = 0
    status, error = run(capsys, *arguments)
    assert status == 2
    assert "the device is gone" in error.splitlines()[-1]
    assert "there is no image file" in refusal(capsys, *arguments, "--fallback", tmp_path / "none.png")


def test_a_live_input_is_animated_and_fed(
    prompted_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, error = run(
        capsys, prompted_bundle, "--input", "testcard", "--image", "input", "--to", "null", "--seconds", 0.3
    )
    assert status == 0, error
    live = tiny.build(tmp_path / "live", memories=False, live=True)
    status, error = run(capsys, live, "--input", "testcard", "--to", tmp_path / "a.mkv", "--seconds", 0.5)
    assert status == 0, error
    frames, _ = decode(tmp_path / "a.mkv")
    bars = frames[-1].to_ndarray(format="rgb24").astype(int)[40]
    assert bars[2, 2] > bars[60, 0] + 40, "white bars are on the left, blue ones on the right"
    assert "needs a live input: add --input" in refusal(capsys, live, "--to", "null")
    assert "add --input" in refusal(capsys, prompted_bundle, "--image", "input", "--to", "null")
    missing = refusal(capsys, live, "--input", "webcam:/dev/nowhere", "--to", "null")
    assert "has no picture: there is no camera /dev/nowhere" in missing


def test_names_that_are_too_long_are_refused(
    prompted_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "x" * 300
    assert f"{name} is no folder" in refusal(capsys, name, "--to", "null")
    cases = [
        ("--to", f"{name}.mp4", "File name too long"),
        ("--to", f"{name}.m3u8", "File name too long"),
        ("--to", f"{name}/a.mkv", "there is no folder"),
        ("--to", f"{name}/a.m3u8", "there is no folder"),
        ("--image", f"{name}.png", "there is no image file"),
        ("--clip", f"{name}.mp4", "there is no clip file"),
        ("--fallback", f"{name}.png", "there is no image file"),
        ("--cue", f"1:image={name}.png", "there is no image file"),
        ("--cue", f"1:clip={name}.mp4", "there is no clip file"),
    ]
    for option, value, message in cases:
        show = (prompted_bundle, "--to", "null", "--engine", "onnxruntime", "--seconds", 2)
        assert message in refusal(capsys, *show, option, value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "there is not enough memory"),
        (RuntimeError("can't start new thread"), "too many threads"),
        (ImportError("libav.so: failed to map segment"), "cannot be loaded (libav.so: failed to map segment)"),
        (OSError(24, "Too many open files"), "Too many open files"),
        (PermissionError(13, "Permission denied", "a.png"), "Permission denied: a.png"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    bundle: Path,
    error: Exception,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Generator, "open", fail)
    assert message in refusal(capsys, bundle, "--to", "null")


def test_a_share_of_the_cores_is_a_number_of_threads(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int | None] = []
    open_generator = Generator.open

    def remember(path: Path, **options: Any) -> Generator:
        opened.append(options["threads"])
        return open_generator(path, **options)

    monkeypatch.setattr(Generator, "open", remember)
    monkeypatch.setattr("streaming.show.player.count_cores", lambda: 8)
    for share in ("1", "0.5", "0.05", "3.9", "20"):
        assert run(capsys, bundle, "--to", "null", "--seconds", 0.1, "--cpu-share", share)[0] in (0, 1)
    assert run(capsys, bundle, "--to", "null", "--seconds", 0.1)[0] in (0, 1)
    assert opened == [8, 4, 1, 3, 8, None]
