"""A private key and its certificates, read from PEM files and checked before anything is signed with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provenance.keys.development import CERTIFICATES, KEY

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

PASSWORD = "EVERFRAME_SIGN_PASSWORD"  # the variable with the password of an encrypted key
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_DIGESTS = {"es256": "SHA256", "es384": "SHA384", "es512": "SHA512", "ps256": "SHA256"}
_MIN_RSA = 2048  # bits


@dataclass(frozen=True)
class Credentials:
    """What files are signed with.

    Args:
        algorithm: as C2PA names it: es256, es384, es512, ps256 or ed25519.
        name: of who signs, from the first certificate.
        certificates: the chain as PEM, that of the key first.
        key: the private key as PEM, not encrypted; not in the repr.
        warning: one sentence if the key's file is not safe, else "".
    """

    algorithm: str
    name: str
    certificates: str = field(repr=False)
    key: str = field(repr=False)
    warning: str = ""

    def sign(self, data: bytes) -> bytes:
        """Return a signature: DER for ES*, RSASSA-PSS with a salt as long as the digest for PS256, else Ed25519's."""
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec, padding

        key: Any = serialization.load_pem_private_key(self.key.encode(), None)
        if self.algorithm == "ed25519":
            return bytes(key.sign(data))
        digest: Any = getattr(hashes, _DIGESTS[self.algorithm])()
        if self.algorithm == "ps256":
            return bytes(key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest))
        return bytes(key.sign(data, ec.ECDSA(digest)))


def is_signature(certificate: Certificate, algorithm: str, signature: bytes, data: bytes) -> bool:
    """Return whether `Credentials.sign` made a signature of the data with the certificate's key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding

    key: Any = certificate.public_key()
    if _algorithm_of(key) != algorithm:
        return False
    try:
        if algorithm == "ed25519":
            key.verify(signature, data)
            return True
        digest: Any = getattr(hashes, _DIGESTS[algorithm])()
        if algorithm == "ps256":
            key.verify(signature, data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        else:
            key.verify(signature, data, ec.ECDSA(digest))
    except InvalidSignature:
        return False
    return True


def load_folder(folder: Path) -> Credentials:
    """Read a folder that `everframe keys create` has made; errors as `load` has them."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder of keys at {folder}: make one with everframe keys create --out {folder}")
    return load(folder / KEY, folder / CERTIFICATES)


def load(key_file: Path, certificate_file: Path) -> Credentials:
    """Read a private key and its certificates, and check that they belong together and can sign.

    Args:
        key_file: PEM; if it is encrypted, `EVERFRAME_SIGN_PASSWORD` has its password.
        certificate_file: PEM, the key's certificate first, then those of its issuers; the root may be left out.

    Raises:
        ValueError: a file cannot be read or used; one sentence says why.
        ImportError: the library for keys is not installed.
    """
    from cryptography.hazmat.primitives import serialization

    key = _read_key(key_file)
    chain = read_certificates(certificate_file)
    algorithm = _algorithm_of(key.public_key())
    if algorithm is None:
        raise ValueError(
            f"the key in {key_file} cannot sign: expected an elliptic curve P-256, P-384 or P-521, Ed25519, or RSA "
            f"of at least {_MIN_RSA} bits"
        )
    _check_chain(chain, key, certificate_file, key_file)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    certificates = b"".join(certificate.public_bytes(pem) for certificate in chain)
    return Credentials(algorithm, name_of(chain[0]), certificates.decode(), secret.decode(), _warn(key_file))


def read_certificates(path: Path) -> list[Certificate]:
    """Return the certificates of a PEM file, at least one; raises ValueError if it cannot be read."""
    from cryptography import x509

    data = _read(path, "certificates")
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise ValueError(f"the certificates in {path} cannot be read: expected PEM") from error


def name_of(certificate: Certificate) -> str:
    """Return the common name of a certificate's subject, else its organisation, else all of it."""
    from cryptography.x509.oid import NameOID

    for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        if found := certificate.subject.get_attributes_for_oid(oid):
            return str(found[0].value)
    return certificate.subject.rfc4514_string()


def _read_key(path: Path) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    password = os.environ.get(PASSWORD)
    data = _read(path, "signing key")
    try:
        return serialization.load_pem_private_key(data, password.encode() if password else None)
    except TypeError as error:  # a password is missing, or there is one too many
        if not password:
            raise ValueError(f"the signing key {path} is encrypted: set {PASSWORD} to its password") from error
        return serialization.load_pem_private_key(data, None)
    except (ValueError, UnsupportedAlgorithm) as error:
        reason = f"{PASSWORD} is wrong, or it is damaged" if b"ENCRYPTED" in data else "expected a private key as PEM"
        raise ValueError(f"the signing key {path} cannot be read: {reason}") from error


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"the {what} cannot be read: {error.strerror}: {path}") from error


def _algorithm_of(key: Any) -> str | None:
    """Return C2PA's name of the algorithm of a public key, None if there is none."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name)
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA:
        return "ps256"
    return "ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else None


def _check_chain(chain: Sequence[Certificate], key: Any, certificate_file: Path, key_file: Path) -> None:
    leaf, now = chain[0], datetime.now(UTC)
    if leaf.public_key() != key.public_key():
        raise ValueError(
            f"the first certificate in {certificate_file} is not that of the key in {key_file}: put the key's own "
            "certificate first"
        )
    if leaf.issuer == leaf.subject:
        raise ValueError(
            f"the certificate in {certificate_file} is self-signed, which C2PA refuses: get one from an authority, or "
            "make a development chain with everframe keys create"
        )
    for lower, upper in pairwise(chain):
        if lower.issuer != upper.subject:
            raise ValueError(
                f"the certificates in {certificate_file} are not a chain: after that of {name_of(lower)} comes that of "
                f"its issuer, got that of {name_of(upper)}"
            )
    for certificate in chain:
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            begin, end = certificate.not_valid_before_utc.date(), certificate.not_valid_after_utc.date()
            raise ValueError(
                f"the certificate of {name_of(certificate)} in {certificate_file} is valid from {begin} to {end}, and "
                f"today is {now.date()}: use another one"
            )


def _warn(path: Path) -> str:
    """Return a sentence if other users of this machine can read the key."""
    if os.name != "posix" or not path.stat().st_mode & 0o077:
        return ""
    return f"other users of this machine may read the signing key {path}: protect it with chmod 600"
