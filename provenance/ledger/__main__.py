"""`python -m provenance.ledger`."""

from __future__ import annotations

import sys

from provenance.ledger.command import main

if __name__ == "__main__":
    sys.exit(main())
