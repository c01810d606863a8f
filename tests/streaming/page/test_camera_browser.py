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
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.streaming.doubles import WAIT_S
from tests.streaming.page.chromium import PROGRAM, Chromium

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


@pytest.fixture
def url() -> Iterator[str]:
    """The page of a show that has begun, with `--input page`."""
    command = [sys.executable, "-m", "streaming", "bundles/landscape", "--to", "http://127.0.0.1:0", "--input", "page"]
    show = subprocess.Popen(
        [*command, "--size", "320x180", "--scene", "fog", "--engine", "onnxruntime"],
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
            found = re.search(r"on air: (http://\S+)\.", line)
        wait_child(found[1])
        yield found[1]
    finally:
        show.terminate()
        show.communicate()


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
