"""The two errors of the runtime; a user's bad value is a plain ValueError.

BundleError   the bundle on disk is broken, incomplete, or written to another contract
EngineError   no engine can run the bundle as asked, or a running one failed
"""

from __future__ import annotations


class BundleError(Exception):
    """A bundle breaks the contract of docs/bundle.md; the message names the file or key and what was expected."""


class EngineError(Exception):
    """An engine is missing, cannot do what was asked, or failed; the message says what to install or to change."""
