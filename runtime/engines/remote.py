"""Sessions of the step graph on a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from runtime.engines.engine import Array
from runtime.pixels.planes import Blend


@runtime_checkable
class RemoteSession(Protocol):
    """A session (`runtime.engines.engine.Session`) whose runs are requests.

    `run` sends a request and returns; `read` waits for the answer to the oldest one that was not read. States cannot be
    read.

    Attributes:
        on_return: called with a sentence when the server was lost and is back, by `run` or `read`.
    """

    on_return: Callable[[str], object]

    def write_blend(self, name: str, blend: Blend) -> None:
        """Set an input of the pixel stage; only a picture that the server has not got is sent."""

    def run(self) -> None:
        """Send a request for a frame."""

    def read(self, name: str) -> Array:
        """Wait for a frame."""
