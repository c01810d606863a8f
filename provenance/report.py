"""What a file says about itself: its manifest, read and checked, in plain words and as JSON.

from provenance.report import read_manifest_report
report = read_manifest_report(Path("night.mp4"))
report.state, report.is_trusted, report.sentences(), report.to_json()
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from provenance.c2pa_library import C2paLibraryError, read
from provenance.files import BESIDE, EMBEDDED, SIDECAR
from provenance.keys.credentials import read_certificates
from provenance.manifest import SHOW, SOFT_BINDING, WORDS
from provenance.segments import SUFFIX, ChainReport, check_chain
from runtime.errors import printable

NONE, VALID, CHANGED, INVALID = "none", "valid", "changed", "invalid"
_UNCHECKED = "unchecked"
_UNTRUSTED = "signingCredential.untrusted"
_NOT_TRUSTED = (_UNTRUSTED, "signingCredential.ocsp.unknown")
_MAX_SIDECAR = 2**26  # bytes
_INSIDE, _REMOTE = "in the file", "on a server"
_NOTHING = "There is no signed manifest. This does not say whether the video is real: manifests can be removed."


@dataclass(frozen=True)
class ManifestReport:
    """The report about a file.

    Args:
        path: of the file.
        state: "none" (no manifest), "valid" (the signature is right, and nothing that it covers was changed since),
            "changed" (the signature is right, and something was changed), "invalid" (anything else; `problems` say
            what), "unsigned" (a chain of segments without its end), or "unchecked" (a chain of which no segment is
            here: only its signature was checked).
        place: where the manifest is: "in the file", the path of the file beside it, or "on a server" (which is not
            asked); "" for none.
        is_trusted: whether a root that was given has issued the certificate.
        signer: the name in the certificate; anybody can write any name there unless it is trusted.
        issuer: the organisation in the certificate.
        generator: program and version that made the manifest.
        source_type: IPTC's digital source type, an address; "" if it is not stated.
        statements: sentences that the signer has signed.
        mark: the payload of the invisible mark that is stated, 12 hex digits, or None.
        show: what Everframe has stated about the show, `ShowFacts.to_json`; None for other programs' manifests.
        problems: code -> explanation of all that is wrong, except that the certificate is not trusted.
        segments: of a chain: how many there are, and how many of them are here and unchanged; None for a manifest.
    """

    path: str
    state: str = NONE
    place: str = ""
    is_trusted: bool = False
    signer: str = ""
    issuer: str = ""
    generator: str = ""
    source_type: str = ""
    statements: tuple[str, ...] = ()
    mark: str | None = None
    show: Mapping[str, Any] | None = None
    problems: Mapping[str, str] = field(default_factory=dict)
    segments: tuple[int, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)

    def sentences(self) -> list[str]:
        """Return the report in plain words."""
        if self.state == NONE:
            return [_NOTHING]
        told = [self._verdict()]
        if self.state in (VALID, CHANGED, _UNCHECKED) and self.signer:  # "": no signature was checked
            told.append(
                f"It was signed by {self.signer}, whose certificate a trusted root has issued."
                if self.is_trusted
                else f'It was signed under the name "{self.signer}". Nobody vouches for this name here.'
            )
        if self.state == INVALID and self.place != _REMOTE:
            told.append("Do not rely on what it says.")
        if self.source_type:
            kind = WORDS.get(self.source_type, self.source_type.rpartition("/")[2])
            told.append(f"It says that the video is {kind}.")
        if self.statements:
            told.append(f"It says: {' '.join(self.statements)}")
        return [printable(sentence) for sentence in told]  # anybody may have written them

    def _verdict(self) -> str:
        if self.place == _REMOTE:
            return "The file names a manifest on a server, which is not asked: it was not checked."
        where = "The file has a signed manifest" if self.place == _INSIDE else f"{self.place} is a signed manifest"
        if self.segments is not None:
            number, here = self.segments
            where = f"{self.place} is a chain of {number} segments, of which {here} are here and unchanged"
            if self.state == _UNCHECKED:
                return (
                    f"{self.place} is a chain of {number} segments, of which none is here. Its signature is right; "
                    "nothing else could be checked."
                )
        ends = {
            VALID: "and nothing was changed since it was signed.",
            CHANGED: "and the file was changed since it was signed."
            if self.segments is None
            else f"and something was changed: {'; '.join(self.problems.values())}.",
            "unsigned": "without its signature: the show runs, or was killed.",
        }
        problems = "; ".join(f"{text or code} ({code})" for code, text in self.problems.items())
        return f"{where}, {ends.get(self.state, f'and it is not valid: {problems}.')}"


def read_manifest_report(path: Path, roots: Path | None = None) -> ManifestReport:
    """Read the manifest of a file, or that in the file beside it, and check it.

    Args:
        path: of a video or picture; of a playlist with a chain of segments, or of the chain.
        roots: PEM file of the roots that are trusted, e.g. root.pem of a development chain; None for none.

    Returns:
        The report; that of a file without a manifest has the state "none".

    Raises:
        ValueError: the file is damaged so that it cannot be read, or the roots are no certificates.
        OSError: a file cannot be read.
        ImportError: the library is not installed; it comes with the extra sign.
    """
    if roots is not None:
        read_certificates(roots)
    chain = path if path.name.endswith(SUFFIX) else path.with_name(f"{path.stem}{SUFFIX}")
    if path.suffix.lower() == ".m3u8" or chain == path:
        playlist = None if chain == path else path
        if not chain.is_file():
            return ManifestReport(str(path))
        return _of_chain(path, chain, check_chain(chain, roots, playlist))
    suffix, sidecar = path.suffix.lower(), path.with_suffix(SIDECAR)
    mime = {**EMBEDDED, **BESIDE}.get(suffix) or mimetypes.guess_type(path.name)[0] or ""
    with path.open("rb") as file:
        if suffix not in BESIDE and (report := _read(path, _INSIDE, mime, file, None, roots)) is not None:
            return report
        if sidecar == path or not sidecar.is_file() or sidecar.stat().st_size > _MAX_SIDECAR:
            return ManifestReport(str(path))
        file.seek(0)
        manifest = sidecar.read_bytes()
        report = _read(path, str(sidecar), mime or "application/octet-stream", file, manifest, roots)
    return report or ManifestReport(str(path))


def _read(
    path: Path, place: str, mime: str, file: Any, manifest: bytes | None, roots: Path | None
) -> ManifestReport | None:
    """Return the report; None if there is no manifest, also for formats that have none.

    Raises:
        ValueError: the file itself is damaged.
    """
    try:
        found = read(mime, file, manifest, roots)
    except C2paLibraryError as error:
        kind, _, reason = str(error).partition(": ")
        if kind == "NotSupported":
            return None
        if kind == "Remote":
            return ManifestReport(str(path), INVALID, _REMOTE, problems={"remote": reason})
        if kind == "Other":
            raise ValueError(f"{path} cannot be read: {reason}") from error
        return ManifestReport(str(path), INVALID, place, problems={"manifest": f"it is damaged: {reason}"})
    return None if found is None else _to_report(path, place, found)


def _to_report(path: Path, place: str, found: Mapping[str, Any]) -> ManifestReport:
    manifest: Mapping[str, Any] = (found.get("manifests") or {}).get(found.get("active_manifest"), {})
    results = (found.get("validation_results") or {}).get("activeManifest") or {}
    failures = {str(item["code"]): str(item.get("explanation", "")) for item in results.get("failure", [])}
    good = {str(item["code"]) for item in results.get("success", [])}
    problems = {code: text for code, text in failures.items() if code not in _NOT_TRUSTED}
    if not manifest:
        problems["manifest"] = "it cannot be read"
    is_changed = any(code.endswith("Hash.mismatch") for code in problems)
    state = VALID if not problems and "claimSignature.validated" in good else CHANGED if is_changed else INVALID
    if is_changed and "claimSignature.validated" not in good:
        state = INVALID
    data = {str(item.get("label", "")): item.get("data") for item in manifest.get("assertions", [])}
    show = data.get(SHOW) if isinstance(data.get(SHOW), dict) else None
    signature = manifest.get("signature_info") or {}
    [agent, *_] = manifest.get("claim_generator_info") or [{}]
    return ManifestReport(
        str(path),
        state,
        place,
        state == VALID and _UNTRUSTED not in failures and found.get("validation_state") == "Trusted",
        str(signature.get("common_name") or signature.get("issuer") or ""),
        str(signature.get("issuer") or ""),
        " ".join(str(agent[key]) for key in ("name", "version") if agent.get(key)),
        _source_type(data),
        tuple(map(str, show["statements"])) if show is not None and isinstance(show.get("statements"), list) else (),
        _mark(data),
        show,
        problems,
    )


def _source_type(data: Mapping[str, Any]) -> str:
    """Return the digital source type of the first action."""
    for label in ("c2pa.actions.v2", "c2pa.actions"):
        value = data.get(label)
        actions = value.get("actions") if isinstance(value, dict) else None
        for action in actions if isinstance(actions, list) else []:
            if isinstance(action, dict) and action.get("digitalSourceType"):
                return str(action["digitalSourceType"])
    return ""


def _mark(data: Mapping[str, Any]) -> str | None:
    """Return the payload that the soft binding states."""
    try:
        return str(data[SOFT_BINDING]["blocks"][0]["value"])
    except (KeyError, IndexError, TypeError):
        return None


def _of_chain(path: Path, chain: Path, found: ChainReport) -> ManifestReport:
    facts = found.facts or {}
    statements, mark = facts.get("statements"), facts.get("mark")
    return ManifestReport(
        str(path),
        found.state,
        str(chain),
        found.is_trusted,
        found.signer,
        "",
        f"Everframe {facts.get('version', '')}".strip(),
        str(facts.get("source_type", "")),
        tuple(map(str, statements)) if isinstance(statements, list) else (),
        mark if isinstance(mark, str) else None,
        facts,
        {"segments": found.problem} if found.problem else {},
        (found.segments, found.present),
    )
