"""The painter with its real process: pictures, progress, errors, and what happens if the process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from runtime import EngineError
from runtime.bundle.reader import read_manifest
from runtime.painting import PicturePainter
from streaming.page.metrics import to_prometheus
from streaming.painting.painter import EVERY, Painter
from tests import painters
from tests.streaming.doubles import WAIT_S

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painters.build(tmp_path_factory.mktemp("painting") / "staged", stages=2)


@pytest.fixture
def painter(staged: Path) -> Iterator[Painter]:
    with closing(open_painter(staged)) as opened:
        yield opened


def open_painter(bundle: Path, **options: object) -> Painter:
    return Painter(bundle, read_manifest(bundle), engine="onnxruntime", seed=7, idle_s=None, **options)  # type: ignore[arg-type]


def test_the_process_paints_what_the_bundle_paints(painter: Painter, staged: Path) -> None:
    words = painter.words({"text": "the sea"})
    assert words == {"text": "the sea", "seed": 7}
    painted = painter.paint(words)
    with PicturePainter.open(staged, engine="onnxruntime", threads=1) as own:
        expected = list(own.paint("the sea", 7))[-1].picture
        painter.set_control("painter.shade", 1.0)
        shaded = painter.paint(words)
        painter.set_control("painter.shade", 0.0)
        assert shaded is not None
        assert np.array_equal(shaded.picture, list(own.paint("the sea", 7, {"shade": 1.0}))[-1].picture)
    assert painted is not None
    assert np.array_equal(painted.picture, expected)
    about = painter.to_json()
    assert (about["painting"], about["error"], about["takes"]) == ("", "", ["text", "seed"])
    assert about["painted"] >= 2
    assert about["last_s"] is not None


def test_a_picture_that_is_not_wanted_any_more_is_left_between_two_frames(painter: Painter) -> None:
    asked: list[int] = []
    seen: list[dict[str, object]] = []

    def is_wanted() -> bool:
        asked.append(1)
        seen.append(painter.to_json())
        return len(asked) < 3

    count = painter.to_json()["painted"]
    assert painter.paint({"text": "storm", "seed": 1}, is_wanted) is None
    assert [one["frames"] for one in seen] == [0, 1, 2], "before it, and after each of the first frames"
    assert seen[1]["painting"] == '"storm"'
    assert painter.to_json()["painted"] == count
    assert painter.paint({"text": "storm", "seed": 1}) is not None, "the next one begins anew"


def test_failures_are_one_sentence_and_the_next_picture_starts_another_process_if_it_must(painter: Painter) -> None:
    with pytest.raises(EngineError, match=r'^painter could not paint "xyzzy": no word of the text .xyzzy. is known'):
        painter.paint({"text": "xyzzy", "seed": 1})
    about = painter.to_json()
    assert about["error"].startswith('painter could not paint "xyzzy": ')
    assert "\n" not in about["error"]
    assert painter.paint({"text": "sea", "seed": 1}) is not None
    assert painter.to_json()["error"] == "", "it is gone when the next picture is there"
    child = painter._child
    assert child is not None

    def kill() -> bool:
        if painter.to_json()["frames"] == 1:
            child.kill()
            child.wait(WAIT_S)
        return True

    with pytest.raises(EngineError, match="could not paint seed 5: its process ended, perhaps for lack of memory"):
        painter.paint({"seed": 5}, kill)
    assert painter.paint({"text": "sea", "seed": 1}) is not None
    assert painter._child is not child


def test_a_process_that_hangs_is_ended(staged: Path) -> None:
    with closing(open_painter(staged)) as painter:
        assert painter.paint({"text": "sea", "seed": 1}) is not None
        child = painter._child
        assert child is not None

        def stop() -> bool:
            if painter.to_json()["frames"] == 1:
                os.kill(child.pid, signal.SIGSTOP)
                painter._limit_s = 0.1
            return True

        with pytest.raises(EngineError, match=r"could not paint seed 5: its process made no frame in 0.1 s and was"):
            painter.paint({"seed": 5}, stop)
        assert child.has_ended()
        painter._limit_s = WAIT_S
        assert painter.paint({"text": "sea", "seed": 1}) is not None


def test_no_process_outlives_a_show_that_is_killed_while_the_bundle_is_opened(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import sys, time\nimport runtime.painting\nfrom streaming.painting import painter_child\n"
        "def wait(*_args, **_options):\n    print('opening', file=sys.stderr, flush=True)\n    time.sleep(600)\n"
        "runtime.painting.PicturePainter.open = wait\npainter_child.main()\n"
    )
    code = (
        "from streaming.process.child import ChildProcess\n"
        "config = {'bundle': '', 'engine': '', 'threads': 1, 'idle_s': None}\n"
        "child = ChildProcess('slow', config)\nchild.receive()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stderr=subprocess.PIPE) as parent:
        assert parent.stderr is not None
        assert parent.stderr.readline() == b"opening\n"
        parent.kill()
        assert parent.stderr.read() == b""  # ends with the last process that holds it, which is the child


def test_a_bundle_that_cannot_be_opened_is_reported_each_time(staged: Path) -> None:
    with closing(Painter(staged, read_manifest(staged), engine="nothing", idle_s=None)) as painter:
        for _ in range(2):
            with pytest.raises(EngineError, match=r'could not paint "sea": .*nothing'):
                painter.paint({"text": "sea"})
        assert painter.to_json()["failed"] == 2


def test_the_end_of_the_show_ends_a_picture(staged: Path) -> None:
    painter = open_painter(staged)
    has_begun, go = threading.Event(), threading.Event()
    errors: list[EngineError] = []

    def is_wanted() -> bool:
        if painter.to_json()["frames"]:
            has_begun.set()
            assert go.wait(WAIT_S)
        return True

    def paint() -> None:
        try:
            painter.paint({"text": "sea", "seed": 1}, is_wanted)
        except EngineError as error:
            errors.append(error)

    thread = threading.Thread(target=paint)
    thread.start()
    assert has_begun.wait(WAIT_S)
    closer = threading.Thread(target=painter.close)
    closer.start()
    assert painter._child is None or painter._child.wait(WAIT_S) is not None, "it was killed"
    go.set()
    for one in (thread, closer):
        one.join(WAIT_S)
        assert not one.is_alive()
    assert [str(error) for error in errors] == ["the show has ended"]
    assert painter.to_json()["error"] == ""
    with pytest.raises(EngineError, match="the show has ended"):
        painter.paint({"text": "sea", "seed": 1})


def test_what_it_takes_and_its_controls_are_checked(staged: Path, tmp_path: Path) -> None:
    painter = open_painter(staged)
    assert painter.paints({"text": "sea"})
    assert painter.paints({"seed": 0, "hints": None, "image": None})
    assert not painter.paints({"seed": 1, "image": "a.png"})
    assert not painter.paints({"scene": "lake"})
    for parts, message in (({"text": " "}, "the text is empty"), ({"seed": -1}, "seed"), ({"text": 3}, "a string")):
        with pytest.raises(ValueError, match=message):
            painter.check(parts)
    seeds = painters.build(tmp_path / "seeds", text=False)
    with pytest.raises(ValueError, match="painter takes no text: give a seed"):
        open_painter(seeds).check({"text": "sea"})
    texts = open_painter(painters.build(tmp_path / "texts", seed=False))
    with pytest.raises(ValueError, match="painter takes no seed: give a text"):
        texts.check({"seed": 3})
    assert texts.words({"text": "sea"}) == {"text": "sea"}
    with pytest.raises(ValueError, match=r"painter.every must be from 0.0 to 3600.0, got 9000"):
        painter.set_control(EVERY, 9000)
    with pytest.raises(ValueError, match=r'has no control "painter.steps"; it has painter.every, painter.shade'):
        painter.set_control("painter.steps", 1)
    assert painter.words({"seed": 2**64 - 1}, following=1) == {"seed": 0}


def test_the_metrics_count_pictures(staged: Path) -> None:
    text = to_prometheus({"painter": {**open_painter(staged).to_json(), "painted": 3, "failed": 1}}).decode()
    assert "everframe_pictures_painted_total 3.0" in text
    assert "everframe_pictures_failed_total 1.0" in text
    assert "everframe_painting_seconds 0.0" in text
    assert "pictures" not in to_prometheus({}).decode()
