"""The progress of a painted picture on the page, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from runtime import EngineError, Generator
from streaming.control.controller import ShowController
from streaming.sinks.page_sink import PageSink
from streaming.sinks.sink import StreamFormat
from tests import moving, painters
from tests.painters import HeldPainter
from tests.streaming.doubles import WAIT_S
from tests.streaming.page.chromium import PROGRAM, Chromium

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium: on Debian, apt install chromium"),
]
LINE = "document.getElementById('painting')"


@pytest.fixture
def painter(tmp_path: Path) -> Iterator[HeldPainter]:
    painter = HeldPainter(painters.build(tmp_path / "painter"), seed=7)
    yield painter
    painter.close()


@pytest.fixture
def address(painter: HeldPainter, tmp_path: Path) -> Iterator[str]:
    """The page of a show that has begun, whose painter waits for permits."""
    controller, painter.is_held = ShowController(), True
    controller.painter = painter
    folder = moving.build(tmp_path / "moving", frame=(64, 48))
    with Generator.open(folder, engine="onnxruntime", threads=1) as generator:
        controller.attach(generator, "seed 0")
        controller.schedule([], dissolve_s=0.0, say=lambda _: None)
        sink = PageSink("http://127.0.0.1:0")
        sink.open(StreamFormat("a show", 64, 48, Fraction(30), "i420", lambda: controller.painter_stats(), controller))
        sink.start()
        yield sink.name
        painter.permits.release(9)
        sink.close()
        controller.close()


def test_the_page_shows_what_is_painted_and_what_failed(address: str, painter: HeldPainter) -> None:
    with Chromium(address) as page:
        page.until("state && state.is_ready")
        assert page.run(f"{LINE}.offsetParent === null"), "nothing is painted"
        page.run("document.getElementById('text').focus()")
        page.type("the sea")
        page.press("Enter", 13, text="\r", control=True)
        page.until(f'/^painting "the sea" … \\d+ s$/.test({LINE}.textContent)')
        assert page.run(f"{LINE}.offsetParent !== null")
        assert page.run("document.querySelector('#cues li').dataset.state") == "preparing"
        painter.permits.release()
        page.until("document.getElementById('program').textContent === 'the sea'")
        page.until(f"{LINE}.textContent === ''")

        painter.failure = EngineError("no memory is left")
        page.run("send('prompt', { text: 'storm' })")
        page.until(f'/^painting "storm" … \\d+ of about \\d+ s$/.test({LINE}.textContent)')
        painter.permits.release()
        page.until(f"{LINE}.textContent === 'painter could not paint \"storm\": no memory is left'")
        assert page.run(f"{LINE}.classList.contains('warn')")
        assert page.run("document.getElementById('program').textContent") == "the sea", "the show goes on"
        page.run("send('prompt', { text: ' ' })")
        page.until("/the text is empty/.test(document.querySelector('#news.shown').textContent)")
        assert painter.begun.acquire(timeout=WAIT_S)
        assert page.problems == []
