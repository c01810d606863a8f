"""The playlist of a live stream (RFC 8216), compared with the chain of its segments."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

_MAX_BYTES = 2**24  # of a playlist; one of Everframe's has about 300
_TAGS = frozenset(
    [
        "#EXTM3U",
        "#EXTINF",
        "#EXT-X-VERSION",
        "#EXT-X-TARGETDURATION",
        "#EXT-X-MEDIA-SEQUENCE",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        "#EXT-X-DISCONTINUITY",
        "#EXT-X-ENDLIST",
    ]
)  # of a playlist that Everframe writes


def read_playlist(path: Path) -> list[str] | None:
    """Return the names of the files in a playlist, in order; None if it has a tag that Everframe never writes.

    Such a tag may name other files, or parts of them.

    Raises:
        ValueError: it is too large.
        OSError: it cannot be read.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path} is too large for a playlist: expected at most {_MAX_BYTES // 2**20} MiB")
    names = []
    for line in path.read_bytes().decode(errors="replace").replace("\r", "\n").split("\n"):
        if line.startswith("#EXT") and line.partition(":")[0].rstrip() not in _TAGS:
            return None
        if line.strip() and not line.startswith("#"):
            names.append(unquote(line.strip()))
    return names


def compare(listed: list[str] | None, names: list[str]) -> str:
    """Return what is wrong with a playlist in one sentence, "" if it is right.

    Args:
        listed: as `read_playlist` returns it. A live playlist is a window that moves over the segments, so its names
            must be a part of the chain without gaps.
        names: of the segments in the chain, in order.
    """
    if listed is None:
        return "the playlist has a tag that Everframe never writes"
    if not listed and names:
        return "the playlist lists no segment"
    known = set(names)
    for name in listed:
        if name not in known:
            return f"the playlist lists {name}, which is not in the chain"
    num = len(listed)
    starts = (start for start, name in enumerate(names) if listed and name == listed[0])
    if listed and not any(names[start : start + num] == listed for start in starts):
        return "the playlist lists the segments in another order than the chain, or leaves some out"
    return ""
