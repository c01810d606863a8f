"""Addresses without their stream keys."""

from __future__ import annotations

import re


def mask(spec: str) -> str:
    """Return the spec of a sink without its stream key, which is a password.

    An address is shown without the last part of its path, a WHIP address without its path.
    """
    if (whip := re.fullmatch(r"(?is)(whip(?:\+http)?://)(?:[^/?#]*@)?([^/?#]*).*", spec)) is not None:
        return f"{whip[1]}{whip[2]}/***"
    match = re.fullmatch(r"(?i)(?:([a-z0-9+.-]+)://)?(?:[^/@]*@)?([^?#]*)(.*)", spec, re.DOTALL)
    if match is None or re.fullmatch(r"(?is)http://.*|.*\.\w{2,4}|[/.~].*", spec):
        return spec
    place, slash, _ = match[2].rpartition("/")
    scheme = f"{match[1]}://" if match[1] else ""
    return f"{scheme}{place}/***" if slash else f"{scheme}{match[2]}"
