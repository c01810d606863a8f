"""`python -m streaming`."""

from __future__ import annotations

from streaming.process.interruption import fill_standard_streams, leave

if __name__ == "__main__":
    fill_standard_streams()  # before anything opens a file

    from streaming.commandline import main

    leave(main())
