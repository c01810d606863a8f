"""A real Chromium without a window, controlled over its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import connect

from tests.streaming.doubles import WAIT_S

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_POLL_S = 0.02


class Chromium:
    """A browser with one page; a context manager.

    Args:
        url: what it shows.
        width: of the window in pixels.
        height: of the window in pixels.
        flags: further options of the browser.
    """

    def __init__(self, url: str, width: int = 1280, height: int = 800, flags: Sequence[str] = ()) -> None:
        assert PROGRAM is not None, "no Chromium here"
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
        self._process = subprocess.Popen(
            [PROGRAM, *options, *flags, "--remote-debugging-port=0", "--remote-allow-origins=*", "--mute-audio",
             f"--user-data-dir={self._profile.name}", f"--window-size={width},{height}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._url, self._size = url, (width, height)
        self._number = 0
        self.problems: list[str] = []

    def __enter__(self) -> Chromium:
        try:
            port = self._port()
            self._context = connect(f"ws://127.0.0.1:{port[0]}{port[1]}", max_size=None, compression=None)
            self._socket = self._context.__enter__()
            target = self._call("Target.createTarget", url="about:blank")["targetId"]
            self._session: str | None = None
            self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                self._call(f"{domain}.enable")
            width, height = self._size
            self._call(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=height,
                deviceScaleFactor=1,
                mobile=width < 700,
            )
            self._call("Page.navigate", url=self._url)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.__exit__(kind, error, trace)
        self._end()

    def run(self, script: str) -> Any:
        """Return what an expression gives, awaited; JSON values only."""
        answer = self._call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script: str) -> Any:
        """Return what an expression gives once that is true."""
        deadline_s = time.monotonic() + WAIT_S
        attempt = f"(() => {{ try {{ return {script}; }} catch {{ return null; }} }})()"  # nothing may be there yet
        while not (value := self.run(attempt)):
            assert time.monotonic() < deadline_s, f"never true: {script}"
            time.sleep(_POLL_S)
        return value

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self._call("Input.insertText", text=text)

    def press(self, key: str, code: int, *, text: str = "", control: bool = False) -> None:
        """Press and release a key."""
        common = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 2 if control else 0}
        self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self._call("Input.dispatchKeyEvent", type="keyUp", **common)

    def drag(self, *points: tuple[float, float], touch: bool = False) -> None:
        """Press at the first of some points of the page, move over the others, and release at the last one.

        Args:
            points: x and y in pixels.
            touch: whether with a finger, else with the mouse.
        """
        x, y = points[-1]
        if touch:
            for number, (left, top) in enumerate(points):
                kind = "touchMove" if number else "touchStart"
                self._call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": left, "y": top}])
            self._call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
            return
        for number, (left, top) in enumerate(points):
            kind = "mouseMoved" if number else "mousePressed"
            self._call("Input.dispatchMouseEvent", type=kind, x=left, y=top, button="left", buttons=1, clickCount=1)
        self._call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        """Write a PNG of the page."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _port(self) -> tuple[str, str]:
        file = Path(self._profile.name) / "DevToolsActivePort"
        deadline_s = time.monotonic() + WAIT_S
        while not file.exists() or len(lines := file.read_text().split()) < 2:
            assert self._process.poll() is None, "Chromium has ended"
            assert time.monotonic() < deadline_s, "Chromium does not listen"
            time.sleep(_POLL_S)
        return lines[0], lines[1]

    def _call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        session = {"sessionId": self._session} if getattr(self, "_session", None) else {}
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters, **session}))
        while True:
            message = json.loads(self._socket.recv(timeout=WAIT_S))
            if message.get("method") == "Runtime.exceptionThrown":
                self.problems.append(str(message["params"]["exceptionDetails"]))
            if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.problems.append(message["params"]["entry"]["text"])
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._profile.cleanup()
