"""A chain of the segments of a live stream: a text file beside the playlist, signed at the end of the show.

C2PA 2.3 has methods of its own for live video (section 19), for which there is no library yet. This is not one of
them: only Everframe checks it. Each line is JSON and has the hash of the line before. Cutting off lines at the end
shows by the missing signature.

    {"chain": "everframe.segments.1", "show": ..., ...}                    what is known when the show begins
    {"bytes": 412, "name": "live-1.ts", "previous": HASH, "sha256": HASH}  for each segment
    {"end": true, "previous": HASH, "segments": 1, "prompts": [...], "source_type": ..., "statements": [...],
     "algorithm": "es256", "certificates": PEM, "signature": BASE64}       what the show was, and the signature
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provenance.facts import ShowFacts, encodable, hash_file
from provenance.keys.credentials import is_signature, name_of, read_certificates
from provenance.keys.trust import is_issued, why_not_signer
from provenance.manifest import to_source_type, to_statements
from provenance.playlist import compare, read_playlist

if TYPE_CHECKING:
    from provenance.keys.credentials import Credentials

SUFFIX = ".segments.jsonl"
_FORMAT = "everframe.segments.1"
_AT_END = ("prompts", "is_every_prompt_listed", "source_type", "statements")  # what the last line states
_MAX_BYTES = 2**28  # of a chain; a line has about 200, and there is one every 2 s


@dataclass(frozen=True)
class ChainReport:
    """What a chain says about the segments beside it.

    Args:
        state: "valid", "unchecked" (the signature is right, and no segment is there), "unsigned" (the show runs, or
            was killed), "changed" (a segment, a line or the playlist), or "invalid" (the signature, or a line).
        segments: in the chain.
        present: of them, how many are there and unchanged; old segments of a live stream are deleted.
        changed: names of segments whose bytes differ.
        signer: name in the certificate, "" if no signature was checked.
        is_trusted: whether a given root has issued the certificate, see `provenance.keys.trust`.
        facts: of the show; what its last line states only if the signature is right.
        problem: one sentence, "" if there is none.
    """

    state: str
    segments: int = 0
    present: int = 0
    changed: tuple[str, ...] = ()
    signer: str = ""
    is_trusted: bool = False
    facts: Mapping[str, Any] | None = None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)


def begin_line(facts: ShowFacts) -> str:
    """Return the first line of a chain, without a line break: the facts without what only the end of a show knows."""
    known = {key: value for key, value in facts.to_json().items() if key not in _AT_END}
    return _dump(encodable({"chain": _FORMAT, **known}))


def next_line(last: str, name: str, sha256: str, size_bytes: int) -> str:
    """Return the line of a segment.

    Args:
        last: the line before, without a line break.
        name: of the segment's file.
        sha256: of its bytes, 64 hex digits.
        size_bytes: how many there are.
    """
    return _dump({"name": name, "sha256": sha256, "bytes": size_bytes, "previous": _hash(last)})


def end_line(last: str, num_segments: int, facts: ShowFacts, credentials: Credentials) -> str:
    """Return the last line, which says what the show was and signs all lines."""
    stated = facts.to_json()
    fields: dict[str, Any] = {
        **{key: stated[key] for key in _AT_END if key in stated},
        "source_type": to_source_type(facts),
        "statements": to_statements(facts),
        "end": True,
        "segments": num_segments,
        "previous": _hash(last),
        "algorithm": credentials.algorithm,
        "certificates": credentials.certificates,
    }
    fields = encodable(fields)
    signature = credentials.sign(_signed(fields))
    return _dump({**fields, "signature": base64.b64encode(signature).decode()})


def sign_chain(path: Path, facts: ShowFacts, credentials: Credentials) -> int:
    """Append the signed line to a chain.

    Args:
        path: of the chain.
        facts: of its show, with its prompts.
        credentials: sign it.

    Returns:
        The number of segments.

    Raises:
        ValueError: the file is not an unsigned chain, or that of another show.
        OSError: it cannot be read or written.
    """
    with path.open("r+b", buffering=0) as file:
        data = file.readall()
        whole = data[: data.rfind(b"\n") + 1]  # without what a killed process has not completed
        lines = whole.decode(errors="replace").splitlines()
        if not lines or _parse(lines[0]).get("chain") != _FORMAT or "end" in _parse(lines[-1]):
            raise ValueError(f"{path} is not an unsigned chain of segments")
        if lines[0] != begin_line(facts):
            raise ValueError(f"{path} is the chain of segments of another show")
        end = memoryview(f"{end_line(lines[-1], len(lines) - 1, facts, credentials)}\n".encode())
        file.truncate(len(whole))
        file.seek(len(whole))
        try:
            while end:
                end = end[file.write(end) :]
        except OSError:  # the disk is full: half of a line would make it a changed chain
            file.truncate(len(whole))
            raise
    return len(lines) - 1


def check_chain(path: Path, roots: Path | None = None, playlist: Path | None = None) -> ChainReport:
    """Check a chain and the segments that are in the same folder.

    Args:
        path: of the chain.
        roots: PEM file of the roots that are trusted.
        playlist: the playlist beside it: all that it names must be a part of the chain without gaps; None to check
            only the chain.

    Raises:
        ValueError: it is not a chain, or too large.
        OSError: a file cannot be read.
    """
    listed = None if playlist is None else read_playlist(playlist)  # first: the show may go on meanwhile
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path} is too large for a chain of segments: expected at most {_MAX_BYTES // 2**20} MiB")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    facts = _parse(lines[0]) if lines else {}
    if facts.get("chain") != _FORMAT:
        raise ValueError(f"{path} is not a chain of segments: expected {_FORMAT} in its first line")
    facts = {key: value for key, value in facts.items() if key not in _AT_END}
    items = [_parse(line) for line in lines[1:]]
    end = items.pop() if items and items[-1].get("end") is True else None
    found = ChainReport("valid", len(items), facts=facts)
    for number, item in enumerate([*items, *([] if end is None else [end])], 1):
        if item.get("previous") != _hash(lines[number - 1]):
            return replace(found, state="changed", problem=f"line {number + 1} does not follow line {number}")
    for number, item in enumerate(items, 2):
        if not (isinstance(item.get("name"), str) and isinstance(item.get("sha256"), str)):
            return replace(found, state="invalid", problem=f"line {number} is not that of a segment")
    problem = "" if playlist is None else compare(listed, [item["name"] for item in items])
    there = {entry.name: entry for entry in path.parent.iterdir()}
    is_same: dict[str, bool] = {}
    for item in items:
        if (segment := there.get(item["name"])) is not None:  # else deleted, or not a name
            with contextlib.suppress(FileNotFoundError):  # deleted just now
                is_same[segment.name] = _is_file(segment) and hash_file(segment) == item["sha256"]
    changed = tuple(name for name, is_good in is_same.items() if not is_good)
    problem = problem or (f"changed: {', '.join(changed)}" if changed else "")
    found = replace(found, present=len(is_same) - len(changed), changed=changed, problem=problem)
    found = replace(found, state="changed" if problem else "valid" if is_same or not items else "unchecked")
    if end is None:
        unsigned = "the chain is not signed: the show runs, or was killed"
        return replace(found, state=found.state if problem else "unsigned", problem=problem or unsigned)
    return _judge(found, end, roots)


def _judge(found: ChainReport, end: Mapping[str, Any], roots: Path | None) -> ChainReport:
    """Return the report of a chain that has an end."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        chain = x509.load_pem_x509_certificates(str(end["certificates"]).encode())
        signature = base64.b64decode(str(end["signature"]), validate=True)
        unsigned = {key: value for key, value in end.items() if key != "signature"}
        is_valid = is_signature(chain[0], str(end["algorithm"]), signature, _signed(unsigned))
        signer = name_of(chain[0])
    except (ValueError, KeyError, UnsupportedAlgorithm):
        return replace(found, state="invalid", problem="the signature cannot be read")
    if not is_valid or end.get("segments") != found.segments:
        return replace(found, state="invalid", signer=signer, problem="the signature is wrong")
    now = datetime.now(UTC)
    if problem := why_not_signer(chain[0], now):
        return replace(found, state="invalid", signer=signer, problem=problem)
    trusted = [] if roots is None else read_certificates(roots)
    facts = {**(found.facts or {}), **{key: end[key] for key in _AT_END if key in end}}
    return replace(found, signer=signer, is_trusted=is_issued(chain, trusted, now), facts=facts)


def _is_file(path: Path) -> bool:
    """Return whether it is a file, not a folder or a pipe; raises FileNotFoundError if it is gone."""
    return stat.S_ISREG(path.stat().st_mode)


def _parse(line: str) -> dict[str, Any]:
    """Return a line's object, an empty one for anything else."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _dump(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def _hash(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()


def _signed(fields: Mapping[str, Any]) -> bytes:
    """Return the bytes that are signed; the name of the format keeps the signature from being used elsewhere."""
    return f"{_FORMAT}\n{_dump(fields)}".encode()
