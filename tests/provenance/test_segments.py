"""The chain of live segments: what was changed, is missing or was signed by somebody else is found."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provenance.facts import BundleFacts, ShowFacts
from provenance.keys import credentials
from provenance.keys.development import ROOT, create
from provenance.manifest import COMPOSITE
from provenance.report import read_manifest_report
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
    assert sign_chain(chain, FACTS, credentials.load_folder(keys)) == 4
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
    sign_chain(chain, FACTS, credentials.load_folder(keys))
    data = bytearray((chain.parent / "live-2.ts").read_bytes())
    data[500] ^= 1
    (chain.parent / "live-2.ts").write_bytes(data)
    report = check_chain(chain)
    assert (report.state, report.changed, report.present) == ("changed", ("live-2.ts",), 3)


@pytest.mark.parametrize("line", range(5))
def test_a_changed_line_is_found(chain: Path, keys: Path, line: int) -> None:
    sign_chain(chain, FACTS, credentials.load_folder(keys))
    lines = chain.read_text().splitlines()
    for old, new in ((b'"version":"0.3.0"', b'"version":"0.4.0"'), (b'"bytes":1000', b'"bytes":1001')):
        lines[line] = lines[line].replace(old.decode(), new.decode())
    chain.write_text("".join(f"{item}\n" for item in lines))
    report = check_chain(chain)
    assert report.state in ("changed", "invalid")
    assert report.problem


def test_a_line_that_is_left_out_is_found(chain: Path, keys: Path) -> None:
    sign_chain(chain, FACTS, credentials.load_folder(keys))
    lines = chain.read_text().splitlines()
    chain.write_text("".join(f"{line}\n" for line in [*lines[:2], *lines[3:]]))
    assert check_chain(chain).state == "changed"


def test_a_signature_of_another_key_is_not_this_one(chain: Path, keys: Path, tmp_path: Path) -> None:
    sign_chain(chain, FACTS, credentials.load_folder(keys))
    create(tmp_path / "others", "A channel")
    lines = chain.read_text().splitlines()
    end = json.loads(lines[-1])
    end["certificates"] = credentials.load_folder(tmp_path / "others").certificates
    chain.write_text("".join(f"{line}\n" for line in [*lines[:-1], json.dumps(end)]))
    assert check_chain(chain).state == "invalid"


def test_a_chain_is_signed_once(chain: Path, keys: Path, tmp_path: Path) -> None:
    mine = credentials.load_folder(keys)
    sign_chain(chain, FACTS, mine)
    with pytest.raises(ValueError, match="is not an unsigned chain"):
        sign_chain(chain, FACTS, mine)
    (tmp_path / "text").write_text("no chain\n")
    for act in (lambda: sign_chain(tmp_path / "text", FACTS, mine), lambda: check_chain(tmp_path / "text")):
        with pytest.raises(ValueError, match="chain of segments"):
            act()


def test_a_segment_outside_the_folder_is_not_read(chain: Path) -> None:
    lines = chain.read_text().splitlines()
    lines.append(next_line(lines[-1], "../secret", "0" * 64, 1))
    chain.write_text("".join(f"{line}\n" for line in lines))
    (chain.parent.parent / "secret").write_text("x")
    report = check_chain(chain)
    assert (report.state, report.present, report.changed) == ("unsigned", 4, ())


def test_what_a_show_was_is_stated_at_its_end(chain: Path, keys: Path) -> None:
    first = json.loads(chain.read_text().splitlines()[0])
    assert not {"statements", "prompts", "source_type"} & set(first), "nothing has been shown yet"
    assert read_manifest_report(chain).statements == ()
    shown = replace(FACTS, prompts=({"clip": "sha256:" + "0" * 64},))
    sign_chain(chain, shown, credentials.load_folder(keys))
    report = read_manifest_report(chain)
    told = " ".join(report.sentences())
    assert (report.state, report.source_type) == ("valid", COMPOSITE)
    assert "A clip plays on with its own frames" in told
    assert "no camera filmed it" not in told
    assert report.show is not None
    assert report.show["prompts"] == [{"clip": "sha256:" + "0" * 64}]
    lines = chain.read_text().splitlines()
    lines[-1] = lines[-1].replace("compositeWithTrained", "trained")
    chain.write_text("".join(f"{line}\n" for line in lines))
    report = read_manifest_report(chain)
    assert (report.state, report.source_type, report.statements) == ("invalid", "", ())


def test_a_chain_of_another_show_is_not_signed(chain: Path, keys: Path) -> None:
    before = chain.read_bytes()
    with pytest.raises(ValueError, match="the chain of segments of another show"):
        sign_chain(chain, replace(FACTS, show="b" * 32), credentials.load_folder(keys))
    assert chain.read_bytes() == before


def _playlist(chain: Path, *names: str, tag: str = "#EXT-X-VERSION:6") -> Path:
    path = chain.with_name("live.m3u8")
    path.write_text("\n".join(["#EXTM3U", tag, *(f"#EXTINF:2.0,\n{name}" for name in names), "#EXT-X-ENDLIST", ""]))
    return path


@pytest.mark.parametrize("numbers", [(0, 1, 2, 3), (1, 2), (3,)])
def test_a_playlist_is_a_window_of_its_chain(chain: Path, keys: Path, numbers: tuple[int, ...]) -> None:
    sign_chain(chain, FACTS, credentials.load_folder(keys))
    report = read_manifest_report(_playlist(chain, *(f"live-{number}.ts" for number in numbers)))
    assert (report.state, dict(report.problems)) == ("valid", {})


@pytest.mark.parametrize(
    ("names", "tag", "problem"),
    [
        (("live-1.ts", "more.ts", "live-2.ts"), "#EXT-X-VERSION:6", "lists more.ts, which is not in the chain"),
        (("live-2.ts", "live-1.ts"), "#EXT-X-VERSION:6", "in another order than the chain"),
        (("live-0.ts", "live-2.ts"), "#EXT-X-VERSION:6", "or leaves some out"),
        (("live-1.ts", "live-1.ts"), "#EXT-X-VERSION:6", "in another order than the chain"),
        (("http://host/live-1.ts",), "#EXT-X-VERSION:6", "which is not in the chain"),
        (("live-1.ts",), '#EXT-X-MAP:URI="more.mp4"', "a tag that Everframe never writes"),
        ((), "#EXT-X-VERSION:6", "lists no segment"),
    ],
)
def test_a_changed_playlist_is_found(chain: Path, keys: Path, names: tuple[str, ...], tag: str, problem: str) -> None:
    path = _playlist(chain, *names, tag=tag)
    assert read_manifest_report(path).state == "changed", "also before the end of the show"
    sign_chain(chain, FACTS, credentials.load_folder(keys))
    report = read_manifest_report(path)
    assert report.state == "changed"
    assert problem in " ".join(report.sentences())
    assert 'signed under the name "A channel"' in " ".join(report.sentences())
    assert read_manifest_report(chain).state == "valid", "the chain alone is right"


def test_without_segments_nothing_is_called_unchanged(chain: Path, keys: Path) -> None:
    sign_chain(chain, FACTS, credentials.load_folder(keys))
    path = _playlist(chain, "live-3.ts")
    for number in range(4):
        (chain.parent / f"live-{number}.ts").unlink()
    report = read_manifest_report(path)
    told = " ".join(report.sentences())
    assert (report.state, report.segments) == ("unchecked", (4, 0))
    assert "nothing else could be checked" in told
    assert "nothing was changed" not in told


def test_no_name_is_told_without_a_checked_signature(chain: Path, keys: Path) -> None:
    sign_chain(chain, FACTS, credentials.load_folder(keys))
    lines = chain.read_text().splitlines()
    chain.write_text("".join(f"{line}\n" for line in [*lines[:2], *lines[3:]]))
    report = read_manifest_report(chain)
    assert report.state == "changed"
    assert "signed under the name" not in " ".join(report.sentences())


def _rewritten(change: Callable[[dict[str, Any]], Any], chain: Path, number: int) -> None:
    """Change a line, and all hashes after it, as anybody can in a chain without its end."""
    items = [json.loads(line) for line in chain.read_text().splitlines()]
    items[number] = change(items[number])
    lines: list[str] = []
    for item in items:
        if lines and isinstance(item, dict):
            item["previous"] = hashlib.sha256(lines[-1].encode()).hexdigest()
        lines.append(json.dumps(item, sort_keys=True, separators=(",", ":")))
    chain.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(
    "fields",
    [{"name": ["x"]}, {"name": None}, {"name": {"a": 1}}, {"sha256": 5}, {"name": "\ud800", "sha256": []}],
)
def test_a_line_of_other_types_is_one_sentence(chain: Path, fields: dict[str, Any]) -> None:
    _rewritten(lambda item: {**item, **fields}, chain, 2)
    report = check_chain(chain)
    assert (report.state, report.problem) == ("invalid", "line 3 is not that of a segment")
    assert "Do not rely on what it says." in read_manifest_report(chain).sentences()


def test_odd_facts_and_names_end_no_check(chain: Path) -> None:
    _rewritten(lambda item: {**item, "mark": [1], "version": {}, "bundles": 3}, chain, 0)
    assert read_manifest_report(chain).mark is None
    (chain.parent / "live-3.ts").unlink()
    (chain.parent / "live-3.ts").mkdir()
    assert check_chain(chain).changed == ("live-3.ts",)


def test_a_line_that_was_not_completed_is_left_out(chain: Path, keys: Path) -> None:
    whole = chain.read_text()
    chain.write_text(whole + '{"bytes": 10')
    assert sign_chain(chain, FACTS, credentials.load_folder(keys)) == 4
    assert chain.read_text().startswith(whole)
    assert check_chain(chain).state == "valid"


def test_a_full_disk_leaves_the_chain_unsigned(chain: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = chain.read_bytes()

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            if len(data) < 100:
                raise OSError(28, "No space left on device")
            return super().write(bytes(data[:100]))

    monkeypatch.setattr(Path, "open", lambda path, *_, **__: Full(path, "r+"))
    monkeypatch.setattr("provenance.segments.end_line", lambda *_: "x" * 150)
    with pytest.raises(OSError, match="No space left"):
        sign_chain(chain, FACTS, credentials.load_folder(keys))
    monkeypatch.undo()
    assert chain.read_bytes() == before


def test_a_segment_that_is_deleted_meanwhile_is_not_changed(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: Path) -> str:
        path.unlink()
        return path.read_text()

    monkeypatch.setattr("provenance.segments.hash_file", gone)
    report = check_chain(chain)
    assert (report.state, report.present, report.changed) == ("unsigned", 0, ())
