"""The control room in a real browser, before a real show."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from tests.runtime.compositing.test_composite import build_matte
from tests.streaming.doubles import colour_card
from tests.streaming.page.chromium import PROGRAM, Chromium

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium: on Debian, apt install chromium"),
]
ROOT = Path(__file__).resolve().parents[3]
# The mean colour of the picture, as the browser shows it.
COLOUR = """(() => {
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
  canvas.width = canvas.height = 16;
  pen.drawImage(document.getElementById(document.body.classList.contains("rtc") ? "video" : "picture"), 0, 0, 16, 16);
  return Array.from(pen.getImageData(0, 0, 16, 16).data).join(" ");
})()"""


@contextmanager
def shown(bundle: Path, *words: str) -> Iterator[str]:
    """Run a show until the end of the block; yields the address of its page when it has begun."""
    command = [sys.executable, "-m", "streaming", str(bundle), "--to", "http://127.0.0.1:0", "--seed", "3", *words]
    show = subprocess.Popen([*command, "--engine", "onnxruntime"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert show.stderr is not None
    try:
        found = None
        while found is None:
            line = show.stderr.readline()
            assert line, "the show ended"
            found = re.search(r"on air: (http://\S+)\.", line)
        yield found[1]
    finally:
        show.terminate()
        show.communicate()


@pytest.fixture
def url(prompted_bundle: Path) -> Iterator[str]:
    """The page of a show that has begun."""
    with shown(prompted_bundle) as address:
        yield address


def test_what_is_behind_a_person_is_chosen_on_the_page(prompted_bundle: Path, tmp_path: Path) -> None:
    words = ["--input", "testcard", "--matte", str(build_matte(tmp_path / "matte"))]
    with shown(prompted_bundle, *words) as address, Chromium(address) as page:
        page.until("state && state.behind && state.behind.what === 'show'")
        assert page.run("document.getElementById('behind').offsetParent !== null")
        page.run("""(() => {
            const choice = document.getElementById('behind');
            choice.value = 'green';
            choice.dispatchEvent(new Event('change'));
        })()""")
        page.until("state.behind.what === 'green'")
        assert page.run("document.getElementById('behind').value") == "green"
        page.until("/person (here|away)/.test(document.getElementById('sinks').textContent)")
        assert page.problems == []


def test_the_show_is_controlled_in_a_browser(url: str, tmp_path: Path) -> None:
    with Chromium(url) as page:
        page.until("document.body.classList.contains('live') && document.body.classList.contains('rtc')")
        before = page.run(COLOUR)
        assert page.until(f"{COLOUR} !== {before!r}"), "the picture moves through WebRTC"
        page.run("watchPictures()")
        page.until("document.getElementById('picture').naturalWidth")
        before = page.run(COLOUR)
        assert page.until(f"{COLOUR} !== {before!r}"), "and as pictures, too"

        page.press("n", 78, text="n")
        page.until("document.activeElement.id === 'text'")
        page.type("a calm sea")
        page.press("Enter", 13, text="\r", control=True)
        page.until("document.getElementById('program').textContent === 'a calm sea'")
        assert page.run("document.querySelectorAll('#cues li').length") == 1
        assert page.run("document.querySelector('#cues li').dataset.state") == "on air"

        name = page.run("state.controls[0].name")
        most = page.run("state.controls[0].maximum")
        page.run(f"""(() => {{
            const slider = document.getElementById('control-{name}');
            slider.value = slider.max;
            slider.dispatchEvent(new Event('input'));
        }})()""")
        page.until(f"state.controls[0].value === {most}")

        file = io.BytesIO()
        Image.fromarray(colour_card(128, 96)).save(file, "PNG")
        data = base64.b64encode(file.getvalue()).decode()
        page.run(f"""(() => {{
            const bytes = Uint8Array.from(atob('{data}'), letter => letter.charCodeAt(0));
            const dropped = new DataTransfer();
            dropped.items.add(new File([bytes], 'card.png', {{ type: 'image/png' }}));
            const drop = new DragEvent('drop', {{ dataTransfer: dropped, bubbles: true }});
            document.getElementById('stage').dispatchEvent(drop);
        }})()""")
        page.until("document.getElementById('program').textContent === 'card.png'")

        page.run("send('set', { name: state.controls[0].name, value: 1e6 })")
        page.until("/must be from/.test(document.querySelector('#news.shown').textContent)")
        page.run("document.getElementById('seed').value = '-4'")
        page.run("document.getElementById('prepare').click()")
        page.until("/a seed is a whole number/.test(document.getElementById('news').textContent)")
        assert page.run("document.querySelectorAll('#cues li').length") == 2, "nothing was prepared of it"
        page.run("document.getElementById('seed').value = '5'; document.getElementById('prepare').click()")
        page.until("[...document.querySelectorAll('#cues li')].some(row => row.dataset.state === 'ready' "
                   "&& /seed 5/.test(row.textContent))")  # fmt: skip
        page.run("document.activeElement.blur()")
        page.press("3", 51, text="3")
        page.until("document.getElementById('program').textContent === 'seed 5'")
        assert page.problems == []


def test_it_fits_a_telephone(url: str) -> None:
    with Chromium(url, 390, 844) as page:
        page.until("document.body.classList.contains('live') && state")
        assert page.run("document.documentElement.scrollWidth") <= 390
        assert page.run("document.getElementById('picture').clientWidth") > 200
        assert page.run("document.getElementById('behind').offsetParent === null"), "there is no person"
        assert page.run("document.getElementById('take').getBoundingClientRect().height") >= 32
        assert page.problems == []
