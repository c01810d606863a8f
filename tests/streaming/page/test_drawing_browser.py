"""Motion that is drawn over the picture in a real browser, before a real show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from export import scenes
from export.scenes import add_scenes
from runtime.prompts.hints import Hints
from tests import flowing, moving
from tests.streaming.page.chromium import PROGRAM, Chromium
from tests.streaming.page.test_browser import shown

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium: on Debian, apt install chromium"),
]
# The picture as the browser shows it, in grey: a list of 32 x 16 values.
GREYS = """(() => {
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
  canvas.width = 32; canvas.height = 16;
  pen.drawImage(document.getElementById(document.body.classList.contains("rtc") ? "video" : "picture"), 0, 0, 32, 16);
  const values = pen.getImageData(0, 0, 32, 16).data;
  return Array.from({ length: 512 }, (_, index) => values[4 * index + 1]);
})()"""
CHANGE = f"{GREYS}.reduce((sum, value, index) => sum + Math.abs(value - window.first[index]), 0) / 512"
READY = "document.body.classList.contains('live') && state && state.hints && picture.naturalWidth"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with one scene, in which nothing moves until somebody draws."""
    folder = tmp_path_factory.mktemp("flowing")
    Image.fromarray(moving.picture_of(flowing.WIDTH, flowing.HEIGHT)).save(folder / "one.png")
    (folder / "scenes.toml").write_text(
        '[[scene]]\nname = "one"\ntitle = "one"\npicture = "one.png"\ncredit = "the tests"\nlicence = "CC0-1.0"'
    )
    path = flowing.build(folder / "bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "SIZE", (flowing.WIDTH, flowing.HEIGHT))
        add_scenes(path, folder / "scenes.toml", folder)
    return path


@pytest.fixture
def url(bundle: Path) -> Iterator[str]:
    with shown(bundle, "--scene", "one") as address:
        yield address


def place(page: Chromium, x: float, y: float) -> tuple[float, float]:
    """Return a place of the picture, in shares of it, as one of the page."""
    left, top, width, height = page.run(
        "(box => [box.left, box.top, box.width, box.height])(at('drawing').getBoundingClientRect())"
    )
    return left + x * width, top + y * height


def test_an_arrow_moves_the_picture_and_is_undone(url: str, tmp_path: Path) -> None:
    with Chromium(url) as page:
        page.until("document.body.classList.contains('live') && state && hasPicture")
        page.run("watchPictures()")
        page.until(READY)
        page.run(f"window.first = {GREYS}")
        assert page.run("document.getElementById('drawing').clientWidth") == 0, "the overlay is hidden"
        page.run("document.getElementById('draw').click()")
        box = page.run("[drawing.clientWidth, drawing.clientHeight, picture.clientWidth, picture.clientHeight]")
        assert box[:2] == box[2:]
        page.run("chooseTool('moving')")
        page.drag(place(page, 0.1, 0.5), place(page, 0.5, 0.5), place(page, 0.9, 0.5))
        page.until("state.hints.strokes.length === 1 && state.hints.strokes[0].kind === 'moving'")
        assert page.run("state.hints.strokes[0].points.length") == 3
        page.run("chooseTool('arrow')")
        page.drag(place(page, 0.3, 0.5), place(page, 0.4, 0.5), place(page, 0.5, 0.5))
        page.until("state.hints.vectors.length === 1")
        assert page.run("state.hints.vectors[0]") == pytest.approx([0.3, 0.5, 0.2, 0.0], abs=0.005)
        page.until(f"{CHANGE} > 4")
        painted = "drawing.getContext('2d').getImageData(0, 0, drawing.width, drawing.height).data.some(value => value)"
        assert page.run(painted), "the arrow is shown"

        page.run("document.getElementById('save-hints').click()")
        page.until(
            "state.saved.includes('one') && /one is saved/.test(document.getElementById('motion-why').textContent)"
        )
        page.run("document.getElementById('undo').click()")
        page.until("state.hints.vectors.length === 0 && state.hints.strokes.length === 1")
        page.press("z", 90, control=True)
        page.until("state.hints.strokes.length === 0")
        page.until(f"{CHANGE} < 1")
        page.run("document.getElementById('draw').click()")
        assert page.run("document.getElementById('drawing').clientWidth") == 0
        page.run("document.querySelector('#scenes button').click()")
        page.until("state.hints.vectors.length === 1")
        assert page.until(f"{CHANGE} > 4"), "what was saved comes back with the scene"

        page.run(
            "window.saved = '';"
            "URL.createObjectURL = blob => { blob.text().then(text => { saved = text; }); return '#'; }"
        )
        page.run("document.getElementById('export-hints').click()")
        hints = Hints.from_json(json.loads(page.until("window.saved")))
        assert (len(hints.vectors), len(hints.strokes)) == (1, 1)
        page.run("send('draw', { hints: { vectors: [[9, 0, 0, 0]] } })")
        page.until("/must be numbers from 0 to 1, got 9/.test(document.querySelector('#news.shown').textContent)")
        assert page.problems == []


def test_a_finger_draws_on_a_telephone(url: str) -> None:
    with Chromium(url, 390, 844) as page:
        page.until("document.body.classList.contains('live') && state && state.hints")
        assert page.run("document.documentElement.scrollWidth") <= 390
        page.run("document.getElementById('draw').click()")
        assert page.run("document.documentElement.scrollWidth") <= 390, "the tools fit, too"
        page.run("document.querySelector('[data-tool=still]').click()")
        page.drag(place(page, 0.2, 0.5), place(page, 0.5, 0.6), place(page, 0.8, 0.5), touch=True)
        page.until("state.hints.strokes.length === 1 && state.hints.strokes[0].kind === 'still'")
        page.run("document.querySelector('[data-tool=arrow]').click()")
        page.drag(place(page, 0.5, 0.2), place(page, 0.5, 0.4), touch=True)
        page.until("state.hints.vectors.length === 1")
        assert page.run("state.hints.vectors[0]") == pytest.approx([0.5, 0.2, 0.0, 0.2], abs=0.01)
        page.run("document.getElementById('clear').click()")
        page.until("state.hints.strokes.length + state.hints.vectors.length === 0")
        assert page.problems == []


def test_a_bundle_without_drawable_motion_offers_none(prompted_bundle: Path) -> None:
    with shown(prompted_bundle) as address, Chromium(address) as page:
        page.until("document.body.classList.contains('live') && state")
        assert page.run("document.getElementById('motion').offsetParent === null")
        page.press("m", 77, text="m")
        assert not page.run("document.body.classList.contains('drawing')")
        assert page.problems == []


def test_a_hole_is_painted_over_the_live_picture(live_bundle: Path) -> None:
    with shown(live_bundle, "--input", "testcard") as address, Chromium(address) as page:
        page.until("document.body.classList.contains('live') && state && hasPicture")
        page.run("watchPictures()")
        page.until(READY)
        assert page.run("document.getElementById('motion-title').textContent") == "Holes"
        page.run("document.getElementById('draw').click()")
        offered = (
            "[...document.querySelectorAll('[data-tool]')].filter(one => one.offsetParent).map(one => one.dataset.tool)"
        )
        assert page.run(offered) == ["hole"]
        assert page.run("document.getElementById('save-hints').offsetParent === null")
        page.run("document.getElementById('brush').value = 0.15")
        page.drag(place(page, 0.3, 0.5), place(page, 0.5, 0.5), place(page, 0.7, 0.5))
        page.until("state.hints.strokes.length === 1 && state.hints.strokes[0].kind === 'hole'")
        page.press("z", 90, control=True)
        page.until("state.hints.strokes.length === 0")
        assert page.problems == []
