"""Errors of a fleet."""

from __future__ import annotations


def needs_cluster(package: str) -> ValueError:
    """Return the error for a package of the extra `cluster` that is not installed."""
    return ValueError(f"a fleet needs {package}, which is not installed: pip install 'everframe[cluster]'")
