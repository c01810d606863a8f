"""Keys: a development chain is made once and safely, and bad keys and certificates are one sentence."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from provenance.keys import credentials
from provenance.keys.command import main
from provenance.keys.development import CERTIFICATES, KEY, ROOT, create

PEM = serialization.Encoding.PEM
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "made"
    create(folder, "A channel")
    return folder


def _write_key(path: Path, key: PrivateKey, password: bytes = b"") -> Path:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, how))
    path.chmod(0o600)
    return path


def _certificate(key: PrivateKey, *, issuer: str = "an authority", days: int = 1) -> bytes:
    begin = datetime.now(UTC) - timedelta(days=30)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("somebody", issuer)]
    builder = x509.CertificateBuilder(names[1], names[0], key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(begin).not_valid_after(begin + timedelta(days=30 + days))
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(PEM)


def test_a_chain_is_made(keys: Path) -> None:
    assert sorted(path.name for path in keys.iterdir()) == ["README.txt", CERTIFICATES, KEY, ROOT]
    assert stat.S_IMODE((keys / KEY).stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    leaf, root = (x509.load_pem_x509_certificate((keys / name).read_bytes()) for name in (CERTIFICATES, ROOT))
    leaf.verify_directly_issued_by(root)
    assert leaf.subject != leaf.issuer
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert leaf.version is x509.Version.v3
    assert list(keys.parent.glob("*.partial*")) == []


def test_keys_are_never_overwritten(keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (keys / KEY).read_bytes()
    assert main(["create", "--out", str(keys)]) == 2
    assert "exists, and keys are never overwritten: choose another folder" in capsys.readouterr().err
    assert (keys / KEY).read_bytes() == before
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="never overwritten"):
        create(tmp_path / "link")


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb"])
def test_a_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="expected 1 to 64 printable characters"):
        create(tmp_path / "keys", name)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_a_chain_does_not_prove(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create", "--out", str(tmp_path / "keys"), "--name", "My channel"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "It does not prove who you are" in told
    assert main(["create", "--out", str(tmp_path / "no" / "keys")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["creat"]) == 2
    assert "invalid choice" in capsys.readouterr().err


def test_a_made_chain_signs(keys: Path) -> None:
    mine = credentials.load_folder(keys)
    assert (mine.algorithm, mine.name, mine.warning) == ("es256", "A channel", "")
    assert "PRIVATE" not in repr(mine)
    leaf = x509.load_pem_x509_certificate((keys / CERTIFICATES).read_bytes())
    signature = mine.sign(b"frames")
    assert credentials.is_signature(leaf, "es256", signature, b"frames")
    assert not credentials.is_signature(leaf, "es256", signature, b"framez")
    assert not credentials.is_signature(leaf, "es256", b"no signature", b"frames")
    assert not credentials.is_signature(leaf, "ps256", signature, b"frames")


@pytest.mark.parametrize("kind", ["es384", "es512", "ps256", "ed25519"])
def test_other_keys_sign(tmp_path: Path, kind: str) -> None:
    makers = {
        "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "es512": lambda: ec.generate_private_key(ec.SECP521R1()),
        "ps256": lambda: rsa.generate_private_key(65537, 2048),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }
    key = makers[kind]()
    _write_key(tmp_path / "key.pem", key)
    (tmp_path / "chain.pem").write_bytes(_certificate(key))
    mine = credentials.load(tmp_path / "key.pem", tmp_path / "chain.pem")
    assert mine.algorithm == kind
    leaf = x509.load_pem_x509_certificate((tmp_path / "chain.pem").read_bytes())
    assert credentials.is_signature(leaf, kind, mine.sign(b"frames"), b"frames")
    assert not credentials.is_signature(leaf, kind, mine.sign(b"frames"), b"others")


def test_an_encrypted_key_needs_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    _write_key(tmp_path / "key.pem", key, b"secret")
    (tmp_path / "chain.pem").write_bytes(_certificate(key))
    monkeypatch.delenv(credentials.PASSWORD, raising=False)
    with pytest.raises(ValueError, match="is encrypted: set EVERFRAME_SIGN_PASSWORD"):
        credentials.load(tmp_path / "key.pem", tmp_path / "chain.pem")
    monkeypatch.setenv(credentials.PASSWORD, "wrong")
    with pytest.raises(ValueError, match="EVERFRAME_SIGN_PASSWORD is wrong"):
        credentials.load(tmp_path / "key.pem", tmp_path / "chain.pem")
    monkeypatch.setenv(credentials.PASSWORD, "secret")
    assert credentials.load(tmp_path / "key.pem", tmp_path / "chain.pem").name == "somebody"


def test_bad_keys_and_certificates_are_one_sentence(tmp_path: Path, keys: Path) -> None:
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    mine = _write_key(tmp_path / "key.pem", key)
    chain = tmp_path / "chain.pem"

    def refused(key_file: Path, data: bytes) -> str:
        chain.write_bytes(data)
        with pytest.raises(ValueError, match=r"\w") as caught:
            credentials.load(key_file, chain)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "cannot be read: No such file" in refused(tmp_path / "none.pem", b"")
    assert "expected PEM" in refused(mine, b"nothing")
    assert "is not that of the key" in refused(mine, _certificate(other))
    assert "is self-signed" in refused(mine, _certificate(key, issuer="somebody"))
    assert "use another one" in refused(mine, _certificate(key, days=-1))
    assert "are not a chain" in refused(mine, _certificate(key) + _certificate(other))
    (tmp_path / "text.pem").write_text("no key")
    assert "expected a private key as PEM" in refused(tmp_path / "text.pem", b"")
    weak = _write_key(tmp_path / "weak.pem", rsa.generate_private_key(65537, 1024))
    assert "RSA of at least 2048 bits" in refused(weak, _certificate(rsa.generate_private_key(65537, 1024)))
    with pytest.raises(ValueError, match="there is no folder of keys at"):
        credentials.load_folder(tmp_path / "nowhere")


def test_a_key_that_others_can_read_is_told(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    _write_key(tmp_path / "key.pem", key).chmod(0o644)
    (tmp_path / "chain.pem").write_bytes(_certificate(key))
    assert "protect it with chmod 600" in credentials.load(tmp_path / "key.pem", tmp_path / "chain.pem").warning
