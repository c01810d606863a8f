"""Whether a certificate may sign, and whether a root that is trusted has issued it (RFC 5280, section 6.1).

The C2PA library does this for manifests; this is for chains of segments. It knows no revocation, and refuses critical
extensions that it does not know, e.g. name constraints.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

# E-mail protection and document signing, as C2PA's profile has them, and C2PA's own purpose.
_PURPOSES = frozenset({"1.3.6.1.5.5.7.3.4", "1.3.6.1.5.5.7.3.36", "1.3.6.1.4.1.62558.2.1"})
_ANY_PURPOSE = "2.5.29.37.0"
_KNOWN = frozenset({"2.5.29.19", "2.5.29.15", "2.5.29.37"})  # basic constraints, key usage, extended key usage


def why_not_signer(leaf: Certificate, now: datetime) -> str:
    """Return why a certificate may not sign now, in one sentence; "" if it may.

    It may if it is valid, is not that of an authority, and has the key usage digital signature and a purpose that C2PA
    accepts.
    """
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        begin, end = leaf.not_valid_before_utc.date(), leaf.not_valid_after_utc.date()
        return f"its certificate is valid from {begin} to {end}, and today is {now.date()}"
    found = _Extensions(leaf)
    if not found.are_known or found.is_authority:
        return "its certificate is not one for signing files"
    if not found.may_sign:
        return "its certificate has no key usage digital signature"
    if not found.purposes & _PURPOSES:
        return "its certificate has no purpose that C2PA accepts: e-mail protection, document signing or C2PA signing"
    return ""


def is_issued(chain: Sequence[Certificate], roots: Sequence[Certificate], now: datetime) -> bool:
    """Return whether one of the roots has issued a certificate.

    Args:
        chain: the certificate, that of its issuer, and so on; the root may be left out.
        roots: that are trusted.
        now: the time at which all of them must be valid.
    """
    for num_between, lower in enumerate(chain):
        if any(_may_issue(lower, root, num_between, now) for root in roots):
            return True
        if num_between + 1 == len(chain) or not _may_issue(lower, chain[num_between + 1], num_between, now):
            return False
    return False


def _may_issue(lower: Certificate, upper: Certificate, num_between: int, now: datetime) -> bool:
    """Return whether an authority has issued a certificate, and was allowed to.

    Args:
        lower: the certificate.
        upper: that of the authority.
        num_between: how many authorities are between it and the certificate that signs.
        now: the time at which it must be valid.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        lower.verify_directly_issued_by(upper)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    found = _Extensions(upper)
    return (
        upper.not_valid_before_utc <= now <= upper.not_valid_after_utc
        and found.are_known
        and found.is_authority
        and found.may_issue
        and (found.path_length is None or found.path_length >= num_between)
        and (not found.purposes or bool(found.purposes & (_PURPOSES | {_ANY_PURPOSE})))
    )


class _Extensions:
    """What the extensions of a certificate allow; nothing if they cannot be read."""

    def __init__(self, certificate: Certificate) -> None:
        from cryptography import x509

        self.are_known = self.is_authority = self.may_sign = self.may_issue = False
        self.path_length: int | None = None
        self.purposes: frozenset[str] = frozenset()
        try:
            extensions = list(certificate.extensions)
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            return
        self.are_known = all(item.oid.dotted_string in _KNOWN for item in extensions if item.critical)
        for item in extensions:
            value: Any = item.value
            if isinstance(value, x509.BasicConstraints):
                self.is_authority, self.path_length = value.ca, value.path_length
            elif isinstance(value, x509.KeyUsage):
                self.may_sign, self.may_issue = value.digital_signature, value.key_cert_sign
            elif isinstance(value, x509.ExtendedKeyUsage):
                self.purposes = frozenset(oid.dotted_string for oid in value)
