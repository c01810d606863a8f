"""`python -m streaming`."""

from __future__ import annotations

import sys

from streaming.commandline import main

if __name__ == "__main__":
    sys.exit(main())
