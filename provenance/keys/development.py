"""A development chain: a root and one certificate for signing, for tests and for use among people who know each other.

It proves that a file was not changed since it was signed with this key. It does not prove who has signed: anybody can
write any name into a chain of their own. The root's key is thrown away, so that no other certificate can be issued.

The certificates follow C2PA's profile for signing (section 14.5.1 of the specification 2.2): ES256, version 3,
digitalSignature only, an extended key usage, no self-signed leaf.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

KEY, CERTIFICATES, ROOT = "key.pem", "certificates.pem", "root.pem"
YEARS = 10  # without a time stamp of an authority, a signature is valid as long as its certificate
_MAX_NAME = 64  # of a commonName (RFC 5280, ub-common-name)
_README = """\
A development chain of Everframe, for {name}.

key.pem           the private key; keep it secret
certificates.pem  the certificate that is written into signed files
root.pem          the root; give it to people who check your files

It proves that a file was not changed since it was signed with this key.
It does not prove who you are: nobody has checked the name.
"""


def create(folder: Path, name: str = "Everframe development") -> None:
    """Make a chain in a new folder, which gets its name when it is complete.

    Args:
        folder: must not exist. It gets key.pem (mode 600), certificates.pem, root.pem and README.txt.
        name: of who signs, as it is shown to people who check a file; 1 to 64 characters.

    Raises:
        ValueError: the folder exists, or the name is empty, too long or not printable.
        OSError: the folder cannot be written.
    """
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable():
        raise ValueError(f"got the name {name!r}, expected 1 to {_MAX_NAME} printable characters")
    if os.path.lexists(folder):
        raise ValueError(f"{folder} exists, and keys are never overwritten: choose another folder")
    if not folder.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {folder.absolute().parent}: make it first")
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir(mode=0o700)
    try:
        for file, (data, mode) in _make(name).items():
            descriptor = os.open(partial / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(data)
                opened.flush()
                os.fsync(opened.fileno())
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _make(name: str) -> dict[str, tuple[bytes, int]]:
    """Return each file's name -> its content and mode."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(common: str) -> x509.Name:
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Everframe development chain"),
                x509.NameAttribute(NameOID.COMMON_NAME, common),
            ]
        )

    def usage(*, is_root: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=not is_root,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=is_root,
            crl_sign=is_root,
            encipher_only=False,
            decipher_only=False,
        )

    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)  # clocks differ
    end = begin.replace(year=begin.year + YEARS, day=min(begin.day, 28))
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = named(f"{name[: _MAX_NAME - 5]} root")
    certificates = []
    for is_root, subject, public in ((True, root_name, root_key.public_key()), (False, named(name), key.public_key())):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(root_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=0 if is_root else None), critical=True)
            .add_extension(usage(is_root=is_root), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        )
        if not is_root:
            purposes = [ExtendedKeyUsageOID.EMAIL_PROTECTION, x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")]
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        certificates.append(builder.sign(root_key, hashes.SHA256()))
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    root, leaf = (certificate.public_bytes(pem) for certificate in certificates)
    return {
        KEY: (secret, 0o600),
        CERTIFICATES: (leaf, 0o644),
        ROOT: (root, 0o644),
        "README.txt": (_README.format(name=name).encode(), 0o644),
    }
