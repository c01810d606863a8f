"""The page marks the sliders of controls that follow a source, in a real browser."""

from __future__ import annotations

from fractions import Fraction

import pytest

from runtime import Generator
from streaming.control.controller import ShowController
from streaming.sinks.page_sink import PageSink
from streaming.sinks.sink import StreamFormat
from tests.streaming.page.chromium import PROGRAM, Chromium

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium: on Debian, apt install chromium"),
]


def test_a_slider_says_what_it_follows(controller: ShowController, generator: Generator) -> None:
    controller.mapped = {"gain": "audio.bass"}
    sink = PageSink("http://127.0.0.1:0")
    size = generator.width, generator.height
    sink.open(StreamFormat("a show", *size, Fraction(25), "i420", dict, controller))
    sink.start()
    try:
        with Chromium(sink.name) as page:
            page.until("document.querySelectorAll('#controls .control').length === 3")
            labels = "[...document.querySelectorAll('#controls small')].map(label => label.textContent)"
            assert page.run(labels) == ["follows audio.bass", "", ""]
            controller.follow("gain", 1.75)  # the page looks four times a second
            page.until("document.getElementById('control-gain').value === '1.75'")
    finally:
        sink.close()
