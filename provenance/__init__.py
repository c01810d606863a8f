"""What a recording says about itself: keys, signed manifests (C2PA), chains of live segments, and the ledger of shows.

    python -m provenance.keys create --out keys
    python -m provenance.ledger shows.sqlite

Streaming writes with this package, verification reads with it. Libraries are imported when they are first used.
"""
