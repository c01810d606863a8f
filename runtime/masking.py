"""Removal of stream keys from addresses that are displayed."""

from __future__ import annotations

import re


def mask(spec: str) -> str:
    """Return a spec without secrets: an address without the last part of its path, for WHIP only the host.

    A stream key is a password: with it, anyone can stream to its owner's channel.
    """
    if (whip := re.fullmatch(r"(?is)(whip(?:\+http)?://)(?:[^/?#]*@)?([^/?#]*).*", spec)) is not None:
        return f"{whip[1]}{whip[2]}/***"
    match = re.fullmatch(r"(?i)(?:([a-z0-9+.-]+)://)?(?:[^/@]*@)?([^?#]*)(.*)", spec, re.DOTALL)
    if match is None or re.fullmatch(r"(?is)http://.*|.*\.\w{2,4}|[/.~].*", spec):
        return _without_login(spec)
    place, slash, _ = match[2].rpartition("/")
    scheme = f"{match[1]}://" if match[1] else ""
    return f"{scheme}{place}/***" if slash else f"{scheme}{match[2]}"


def _without_login(spec: str) -> str:
    """Return an address without user, password and query; anything else as it is."""
    if "://" not in spec:
        return spec
    return re.sub(r"(?is)^([a-z0-9+.-]+://)(?:[^/?#]*@)?([^?]*).*", r"\1\2", spec)
