"""What a user's choices mean for engines: threads, the folder for compiled graphs, and what happens without memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf.message import EncodeError

from runtime.engines.cache import default_cache_dir
from runtime.engines.engine import Engine
from runtime.engines.table import count_cores
from runtime.errors import EngineError


@contextmanager
def memory_errors(engine: Engine) -> Iterator[None]:
    """Raise EngineError if memory runs out: libraries, protobuf and NumPy each raise their own error."""
    try:
        yield
    except (ImportError, EncodeError, MemoryError) as error:
        why = "" if isinstance(error, ImportError) else "there is not enough memory: "
        raise EngineError(f"{engine.name} cannot open the graphs: {why}{error}") from error


def thread_count(threads: int | None) -> int:
    """Return the CPU threads per frame, all cores for None; raises ValueError below 1."""
    threads = count_cores() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return threads


def cache_folder(cache_dir: str | Path | None) -> Path | None:
    """Return the folder for compiled graphs, the default one for None; None if there is none."""
    return Path(cache_dir) if cache_dir is not None else default_cache_dir()
