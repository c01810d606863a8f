"""Trust in certificates: only authorities issue, within their limits and their time, and only leaves sign."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provenance.facts import BundleFacts, ShowFacts
from provenance.keys.credentials import Credentials
from provenance.keys.trust import is_issued, why_not_signer
from provenance.segments import begin_line, check_chain, next_line, sign_chain

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
FACTS = ShowFacts("a" * 32, "0.3.0", "2026-11-29T20:00:00Z", (BundleFacts("sea", "0" * 64, "generator"),), (8, 8), "1")
EMAIL, SERVER = ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.SERVER_AUTH
PEM = serialization.Encoding.PEM


class Holder:
    """A certificate and its key.

    Args:
        name: of the subject.
        issuer: who has issued it; None for a root.
        ca: whether it is an authority; None for no basic constraints.
        length: how many authorities may be below it; None for any number.
        usage: "sign", "issue", or None for no key usage.
        purposes: of the extended key usage; () for none.
        valid: from when to when.
        extra: an extension that is critical, or None.
    """

    def __init__(
        self,
        name: str,
        issuer: Holder | None = None,
        *,
        ca: bool | None = True,
        length: int | None = None,
        usage: str | None = "issue",
        purposes: Sequence[x509.ObjectIdentifier] = (),
        valid: tuple[datetime, datetime] = (NOW - DAY, NOW + DAY),
        extra: x509.ExtensionType | None = None,
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        upper = issuer or self
        builder = x509.CertificateBuilder(upper.name, self.name, self.key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(valid[0]).not_valid_after(valid[1])
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, length if ca else None), critical=True)
        if usage is not None:
            bits = dict.fromkeys(_BITS, False)
            bits["digital_signature" if usage == "sign" else "key_cert_sign"] = True
            builder = builder.add_extension(x509.KeyUsage(**bits), critical=True)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if extra is not None:
            builder = builder.add_extension(extra, critical=True)
        self.certificate = builder.sign(upper.key, hashes.SHA256())


_BITS = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _leaf(issuer: Holder, **more: Any) -> Holder:
    return Holder("somebody", issuer, **{"ca": False, "usage": "sign", "purposes": [EMAIL], **more})


def _is_issued(*holders: Holder, root: Holder) -> bool:
    return is_issued([holder.certificate for holder in holders], [root.certificate], NOW)


def test_a_root_issues_through_authorities() -> None:
    root = Holder("root")
    middle = Holder("middle", root, length=0)
    leaf = _leaf(middle)
    assert _is_issued(leaf, middle, root=root)
    assert _is_issued(leaf, middle, root, root=root)
    assert _is_issued(_leaf(root), root=root)
    assert not _is_issued(leaf, root=root)
    assert not _is_issued(leaf, middle, root=Holder("root"))
    assert not _is_issued(leaf, middle, root=leaf)
    assert not is_issued([leaf.certificate, middle.certificate], [], NOW)


def test_a_leaf_issues_nothing() -> None:
    root = Holder("root")
    honest = _leaf(root)
    forged = _leaf(honest)
    assert _is_issued(honest, root=root)
    assert not _is_issued(forged, honest, root=root)
    assert not _is_issued(forged, root=honest)


@pytest.mark.parametrize(
    "limits",
    [
        {"ca": None},
        {"ca": False},
        {"usage": None},
        {"usage": "sign"},
        {"valid": (NOW - 2 * DAY, NOW - DAY)},
        {"valid": (NOW + DAY, NOW + 2 * DAY)},
        {"purposes": [SERVER]},
        {"extra": x509.NameConstraints([x509.DNSName("example.org")], None)},
    ],
)
@pytest.mark.parametrize("is_root", [True, False])
def test_what_is_no_authority_now_issues_nothing(limits: dict[str, Any], is_root: bool) -> None:
    root = Holder("root", **(limits if is_root else {}))
    middle = Holder("middle", root, **({} if is_root else limits))
    assert not _is_issued(_leaf(middle), middle, root=root)


def test_a_path_is_not_longer_than_it_may_be() -> None:
    root = Holder("root", length=1)
    first = Holder("first", root)
    second = Holder("second", first)
    assert _is_issued(_leaf(first), first, root=root)
    assert not _is_issued(_leaf(second), second, first, root=root)
    narrow = Holder("narrow", Holder("root"), length=0)
    below = Holder("below", narrow)
    assert not _is_issued(_leaf(below), below, narrow, root=narrow)


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({}, ""),
        ({"purposes": [x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36"), SERVER]}, ""),
        ({"valid": (NOW - 2 * DAY, NOW - DAY)}, "and today is"),
        ({"valid": (NOW + DAY, NOW + 2 * DAY)}, "and today is"),
        ({"ca": True}, "is not one for signing files"),
        ({"extra": x509.NameConstraints([x509.DNSName("example.org")], None)}, "is not one for signing files"),
        ({"usage": None}, "no key usage digital signature"),
        ({"usage": "issue"}, "no key usage digital signature"),
        ({"purposes": []}, "no purpose that C2PA accepts"),
        ({"purposes": [SERVER]}, "no purpose that C2PA accepts"),
    ],
)
def test_only_certificates_for_signing_sign(tmp_path: Path, limits: dict[str, Any], problem: str) -> None:
    root = Holder("root")
    leaf = _leaf(root, **limits)
    told = why_not_signer(leaf.certificate, NOW)
    assert problem in told
    assert bool(told) == bool(problem)
    report = check_chain(*_signed(tmp_path, [leaf], root))
    assert (report.state, report.is_trusted) == (("invalid", False) if problem else ("valid", True))
    assert problem in report.problem


def test_a_holder_of_a_leaf_cannot_sign_in_another_name(tmp_path: Path) -> None:
    root = Holder("root")
    honest = _leaf(root)
    report = check_chain(*_signed(tmp_path, [_leaf(honest), honest], root))
    assert (report.state, report.is_trusted) == ("valid", False)


def _signed(folder: Path, holders: Sequence[Holder], root: Holder) -> tuple[Path, Path]:
    """Write a chain that the first holder has signed; return its path and that of the root."""
    (folder / "live-1.ts").write_bytes(b"segment")
    first = begin_line(FACTS)
    path = folder / "live.segments.jsonl"
    path.write_text(f"{first}\n{next_line(first, 'live-1.ts', hashlib.sha256(b'segment').hexdigest(), 7)}\n")
    secret = holders[0].key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain = b"".join(holder.certificate.public_bytes(PEM) for holder in holders)
    sign_chain(path, FACTS, Credentials("es256", "somebody", chain.decode(), secret.decode()))
    (folder / "root.pem").write_bytes(root.certificate.public_bytes(PEM))
    return path, folder / "root.pem"
