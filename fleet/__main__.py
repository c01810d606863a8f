"""python -m fleet CONFIG.toml: the same as everframe fleet."""

from __future__ import annotations

import sys

from fleet.commandline import main

if __name__ == "__main__":
    sys.exit(main())
