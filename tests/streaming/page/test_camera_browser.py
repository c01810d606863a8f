"""The camera of a real browser: Chromium's fake one, whose picture is green, in a real show."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runtime.compositing.test_composite import build_matte
from tests.streaming.doubles import WAIT_S
from tests.streaming.page.chromium import PROGRAM, Chromium
from tests.streaming.sound.test_show_with_sound import recorded

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium: on Debian, apt install chromium"),
]
ROOT = Path(__file__).resolve().parents[3]
FLAGS = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
# A second device, which asks as the page does.
OTHER = """(async () => {
  const peer = window.other = new RTCPeerConnection();
  const stream = await navigator.mediaDevices.getUserMedia({ video: true });
  peer.addTransceiver(stream.getVideoTracks()[0], { direction: "sendonly" });
  await peer.setLocalDescription();
  while (peer.iceGatheringState !== "complete") await new Promise(done => setTimeout(done, 20));
  const answer = await fetch("/api/camera", { method: "POST", body: JSON.stringify(peer.localDescription) });
  const { type, sdp } = await answer.json();
  await peer.setRemoteDescription({ type, sdp });
})()"""


@contextmanager
def on_air(*words: str) -> Iterator[str]:
    """Run a show with `--input page`, and yield the address of its page once it has begun."""
    command = [sys.executable, "-m", "streaming", "bundles/landscape", "--to", "http://127.0.0.1:0", "--input", "page"]
    show = subprocess.Popen(
        [*command, "--size", "320x180", "--scene", "fog", "--engine", "onnxruntime", *words],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert show.stderr is not None
    try:
        found = None
        while found is None:
            line = show.stderr.readline()
            assert line, "the show ended"
            found = re.search(r"on air: (http://[^\s,]+?)[.,] ", line)
        wait_child(found[1])
        yield found[1]
    finally:
        show.terminate()
        show.communicate()


@pytest.fixture
def url() -> Iterator[str]:
    """The page of a show that has begun, with `--input page`."""
    with on_air() as found:
        yield found


def wait_child(url: str) -> None:
    """Wait until the child that receives the camera has loaded what it needs: it answers that an offer is bad."""
    body = json.dumps({"type": "offer", "sdp": "v=0\r\nm=video 9 x 97\r\n"}).encode()
    deadline_s = time.monotonic() + 4 * WAIT_S
    while True:
        try:
            urllib.request.urlopen(f"{url}/api/camera", body, timeout=WAIT_S).close()
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 422:
                    return
        assert time.monotonic() < deadline_s, "the child does not answer"


def colour(url: str) -> np.ndarray:
    """Return the mean red, green and blue of the frame on air."""
    with urllib.request.urlopen(f"{url}/frame.jpg", timeout=30) as answer:
        picture = np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB"))
    assert picture.shape == (180, 320, 3)
    return np.asarray(picture.mean((0, 1)))


def test_a_browser_is_the_camera(url: str) -> None:
    with Chromium(url, flags=FLAGS) as page:
        page.until("state && state.is_ready && stats && at('camera-video').options.length > 0 && !at('camera').hidden")
        page.until("at('camera-state').textContent === 'no camera yet'")
        page.run("animate()")
        page.until("/no frame has arrived yet/.test(document.querySelector('#news.shown').textContent)")

        page.until("at('camera-sound').options.length > 1")
        page.run("at('camera-sound').selectedIndex = 1")
        page.run("at('camera-start').click()")
        page.until("state.input.is_up && state.input.frames > 10 && at('camera-why').textContent === 'connected'")
        assert page.run("at('camera-video').selectedOptions[0].textContent").startswith("fake_device")
        assert page.run("camera.getAudioTracks().length") == 1
        assert page.run("/fmtp:[0-9]+ x-google-start-bitrate=2000/.test(cameraPeer.remoteDescription.sdp)")
        page.until("at('mirror').videoWidth > 0 && !at('mirror').paused")
        assert page.run("at('mirror').clientWidth") > 0

        before = colour(url)
        page.run("animate()")
        page.until("at('program').textContent === 'live input'")
        page.until("state.cues.some(cue => cue.state === 'on air')")
        red, green, blue = colour(url)
        for _ in range(100):  # the cross-fade takes a second
            if green > max(red, blue) + 40:
                break
            page.run("new Promise(done => setTimeout(done, 100))")
            red, green, blue = colour(url)
        else:
            pytest.fail(f"not green: {red, green, blue}; before it was {before}")

        page.run(OTHER)
        page.until("/Another device is the camera now/.test(at('camera-why').textContent)")
        assert page.run("camera === null && !at('camera').classList.contains('on')")
        page.until("state.input.is_up")
        page.run("window.other.close()")
        page.until("!state.input.is_up && /^lost/.test(state.input.state)")

        page.run("at('camera-start').click()")
        page.until("state.input.is_up")
        page.run("at('camera-start').click()")
        page.until("/^lost/.test(at('camera-state').textContent)")
        assert page.problems == []


def write_white_half(path: Path) -> Path:
    """Write a video whose left half is white and whose right half is black, as Chromium plays it for a camera."""
    luma = np.full((180, 320), 16, np.uint8)
    luma[:, :160] = 235
    picture = luma.tobytes() + bytes([128]) * (2 * 160 * 90)
    path.write_bytes(b"YUV4MPEG2 W320 H180 F20:1 Ip A1:1 C420jpeg\n" + (b"FRAME\n" + picture) * 20)
    return path


def test_one_sees_oneself_over_a_scene_and_hears_it_in_the_recording(tmp_path: Path) -> None:
    matte = build_matte(tmp_path / "matte")  # white is a person
    camera = f"--use-file-for-fake-video-capture={write_white_half(tmp_path / 'camera.y4m')}"
    words = ("--matte", str(matte), "--sound", "page", "--to", str(tmp_path / "show.mkv"))
    with on_air(*words) as url, Chromium(url, flags=(*FLAGS, camera)) as page:
        page.until("state && state.is_ready && stats && at('camera-sound').options.length > 1")
        page.run("at('camera-sound').selectedIndex = 1")
        page.run("at('camera-start').click()")
        page.until("state.input.is_up && stats.sound.is_up && state.person === 'here'")
        for _ in range(100):
            with urllib.request.urlopen(f"{url}/frame.jpg", timeout=30) as answer:
                picture = np.asarray(Image.open(io.BytesIO(answer.read())).convert("L")).astype(int)
            if picture[:, 20:120].min() > 200:
                break
            page.run("new Promise(done => setTimeout(done, 100))")
        assert picture[:, 20:120].min() > 200, "the white half is the person"
        assert picture[:, 200:].max() < 250, "beside it is the scene"
        assert picture[:, 200:].std() > 5
        page.until("stats.sound.levels.level > 0.2")  # the fake microphone beeps
        assert page.problems == []
    wave, _ = recorded(tmp_path / "show.mkv")
    assert np.abs(wave).max() > 0.02


def test_the_reasons_are_told_and_it_fits_a_telephone(url: str) -> None:
    with Chromium(url, 390, 844, flags=FLAGS) as page:
        page.until("state && state.is_ready && stats && !at('camera').hidden")
        assert page.run("document.documentElement.scrollWidth") <= 390
        assert page.run("at('camera-start').getBoundingClientRect().height") >= 32
        for name, why in (("NotAllowedError", "allow it for this page"), ("NotFoundError", "no such camera")):
            page.run(f"navigator.mediaDevices.getUserMedia = async () => {{ throw new DOMException('', '{name}'); }}")
            page.run("at('camera-start').click()")
            page.until(f"at('camera-why').textContent.includes('{why}')")
        page.run("void Object.defineProperty(window, 'isSecureContext', { value: false })")
        page.run("at('camera-start').click()")
        page.until("/chrome:\\/\\/flags/.test(at('camera-why').textContent)")
        assert page.run("document.documentElement.scrollWidth") <= 390
        assert page.run("camera") is None
        assert page.problems == []
