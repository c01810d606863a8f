"""The command line: `python -m streaming [BUNDLE] --to SINK`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

from streaming.arguments import parse
from streaming.errors import SinkError, explain
from streaming.process.interruption import Interruption
from streaming.process.memory import return_large_blocks


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments; None for the process's own.

    Returns:
        The exit status: see the help.
    """
    try:
        options = parse(argv)
    except ValueError as error:
        return _refuse(error)
    try:
        from runtime import BundleError, EngineError  # after --help, which needs neither of them
        from streaming.broadcast import run_show
    except (ImportError, MemoryError) as error:
        return _refuse(error)

    return_large_blocks()
    interruption = Interruption()
    try:
        with interruption:
            return run_show(options, interruption)
    except (SinkError, BundleError, EngineError, ValueError, ImportError, MemoryError, OSError) as error:
        return _refuse(error)
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        return _refuse(error)
    except KeyboardInterrupt:
        if interruption.is_on_air:
            print("stopped at once; unfinished recordings end in .partial", file=sys.stderr)
            return 130
        print("stopped before the first frame", file=sys.stderr)
        return 0


def _refuse(error: Exception) -> int:
    from runtime.errors import printable  # after --help, as above

    with contextlib.suppress(OSError):  # standard error may be closed
        print(f"error: {printable(' '.join(explain(error).split()))}", file=sys.stderr)
    return 2
