"""What may be shown of an address."""

from __future__ import annotations

import re


def mask(spec: str) -> str:
    """Return a spec as it may be shown: of an address, the path without its last part, and of WHIP's only the host.

    A stream key is a password: whoever has it can go on air in its owner's name.
    """
    if (whip := re.fullmatch(r"(?is)(whip(?:\+http)?://)(?:[^/?#]*@)?([^/?#]*).*", spec)) is not None:
        return f"{whip[1]}{whip[2]}/***"
    match = re.fullmatch(r"(?i)(?:([a-z0-9+.-]+)://)?(?:[^/@]*@)?([^?#]*)(.*)", spec, re.DOTALL)
    if match is None or re.fullmatch(r"(?is)http://.*|.*\.\w{2,4}|[/.~].*", spec):
        return spec
    place, slash, _ = match[2].rpartition("/")
    scheme = f"{match[1]}://" if match[1] else ""
    return f"{scheme}{place}/***" if slash else f"{scheme}{match[2]}"
