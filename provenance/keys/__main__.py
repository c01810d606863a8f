"""`python -m provenance.keys`."""

from __future__ import annotations

import sys

from provenance.keys.command import main

if __name__ == "__main__":
    sys.exit(main())
