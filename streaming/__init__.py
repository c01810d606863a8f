"""Live video from a bundle to sinks: `generator -> pacer -> fan-out -> sinks`, as `python -m streaming`.

from streaming import stream

stream("bundles/landscape", to=["rtmp://HOST/APP/KEY", "recording.mkv"], seconds=60)

Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streaming.broadcast import stream
    from streaming.errors import SinkError
    from streaming.sinks.sink import Frame, Sink, StreamFormat

__all__ = ["Frame", "Sink", "SinkError", "StreamFormat", "stream"]

_MODULES = {"stream": "broadcast", "SinkError": "errors"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"streaming.{_MODULES.get(name, 'sinks.sink')}"), name)
