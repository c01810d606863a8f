"""The chain of live segments: what was changed, is missing or was signed by somebody else is found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from provenance.facts import BundleFacts, ShowFacts
from provenance.keys import credentials
from provenance.keys.development import ROOT, create
from provenance.segments import begin_line, check_chain, next_line, sign_chain

FACTS = ShowFacts(
    "a" * 32, "0.3.0", "2026-11-29T20:00:00Z", (BundleFacts("sea", "0" * 64, "generator"),), (64, 48), "30", payload=5
)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    create(folder := tmp_path_factory.mktemp("keys") / "made", "A channel")
    return folder


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    path = tmp_path / "live.segments.jsonl"
    lines = [begin_line(FACTS)]
    for number in range(4):
        data = bytes([number]) * 1000
        (tmp_path / f"live-{number}.ts").write_bytes(data)
        lines.append(next_line(lines[-1], f"live-{number}.ts", hashlib.sha256(data).hexdigest(), len(data)))
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_a_signed_chain_is_valid(chain: Path, keys: Path) -> None:
    assert sign_chain(chain, credentials.load_folder(keys)) == 4
    (chain.parent / "live-0.ts").unlink()
    report = check_chain(chain)
    assert (report.state, report.segments, report.present, report.changed) == ("valid", 4, 3, ())
    assert (report.signer, report.is_trusted, report.problem) == ("A channel", False, "")
    assert report.facts is not None
    assert report.facts["mark"] == "000000000005"
    assert check_chain(chain, keys / ROOT).is_trusted
    json.dumps(report.to_json())


def test_an_unsigned_chain_says_so(chain: Path) -> None:
    report = check_chain(chain)
    assert (report.state, report.present) == ("unsigned", 4)
    assert "killed" in report.problem


def test_a_changed_segment_is_found(chain: Path, keys: Path) -> None:
    sign_chain(chain, credentials.load_folder(keys))
    data = bytearray((chain.parent / "live-2.ts").read_bytes())
    data[500] ^= 1
    (chain.parent / "live-2.ts").write_bytes(data)
    report = check_chain(chain)
    assert (report.state, report.changed, report.present) == ("changed", ("live-2.ts",), 3)


@pytest.mark.parametrize("line", range(5))
def test_a_changed_line_is_found(chain: Path, keys: Path, line: int) -> None:
    sign_chain(chain, credentials.load_folder(keys))
    lines = chain.read_text().splitlines()
    for old, new in ((b'"version":"0.3.0"', b'"version":"0.4.0"'), (b'"bytes":1000', b'"bytes":1001')):
        lines[line] = lines[line].replace(old.decode(), new.decode())
    chain.write_text("".join(f"{item}\n" for item in lines))
    report = check_chain(chain)
    assert report.state in ("changed", "invalid")
    assert report.problem


def test_a_line_that_is_left_out_is_found(chain: Path, keys: Path) -> None:
    sign_chain(chain, credentials.load_folder(keys))
    lines = chain.read_text().splitlines()
    chain.write_text("".join(f"{line}\n" for line in [*lines[:2], *lines[3:]]))
    assert check_chain(chain).state == "changed"


def test_a_signature_of_another_key_is_not_this_one(chain: Path, keys: Path, tmp_path: Path) -> None:
    sign_chain(chain, credentials.load_folder(keys))
    create(tmp_path / "others", "A channel")
    lines = chain.read_text().splitlines()
    end = json.loads(lines[-1])
    end["certificates"] = credentials.load_folder(tmp_path / "others").certificates
    chain.write_text("".join(f"{line}\n" for line in [*lines[:-1], json.dumps(end)]))
    assert check_chain(chain).state == "invalid"


def test_a_chain_is_signed_once(chain: Path, keys: Path, tmp_path: Path) -> None:
    mine = credentials.load_folder(keys)
    sign_chain(chain, mine)
    with pytest.raises(ValueError, match="is not an unsigned chain"):
        sign_chain(chain, mine)
    (tmp_path / "text").write_text("no chain\n")
    for act in (lambda: sign_chain(tmp_path / "text", mine), lambda: check_chain(tmp_path / "text")):
        with pytest.raises(ValueError, match="chain of segments"):
            act()


def test_a_segment_outside_the_folder_is_not_read(chain: Path) -> None:
    lines = chain.read_text().splitlines()
    lines.append(next_line(lines[-1], "../secret", "0" * 64, 1))
    chain.write_text("".join(f"{line}\n" for line in lines))
    (chain.parent.parent / "secret").write_text("x")
    report = check_chain(chain)
    assert (report.state, report.present, report.changed) == ("unsigned", 4, ())
