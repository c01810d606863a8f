"""The manifest beside the mark: contradictions, roots, damaged files, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provenance import signing
from provenance.facts import BundleFacts, ShowFacts
from provenance.keys import credentials
from provenance.keys.development import ROOT, create
from provenance.segments import SUFFIX
from tests.verify.marked_video import PAYLOAD, TEXT, clip, write
from verify import command
from verify.evidence import Source, manifest_section

SIZE = (480, 272)
ANOTHER, NOT_FOUND = "The frames carry ANOTHER mark", "NO mark was found in the frames"
FOUND = "It states that the frames carry no mark, and a mark WAS found in them."


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    create(folder := tmp_path_factory.mktemp("keys") / "made", "A channel")
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, bytes]:
    """Videos with and without a mark."""
    folder = tmp_path_factory.mktemp("videos")
    return {
        is_marked: write(
            folder / f"{is_marked}.mp4", clip(*SIZE, count=16, payload=PAYLOAD if is_marked else None)
        ).read_bytes()
        for is_marked in (True, False)
    }


def signed(path: Path, video: bytes, keys: Path, payload: int | None) -> Path:
    """Write a video with a manifest that states a mark, or that there is none."""
    path.write_bytes(video)
    bundles = (BundleFacts("sea", "ab" * 32, "generator"),)
    facts = ShowFacts("a" * 32, "0.3.0", "2026-11-29T20:00:00Z", bundles, SIZE, "25", payload=payload)
    stated = ShowFacts(**{**vars(facts), "has_no_mark": payload is None})
    signing.sign(path, stated, credentials.load_folder(keys))
    return path


@pytest.mark.parametrize(
    ("is_marked", "payload", "sentence", "status"),
    [
        (True, PAYLOAD, "The frames carry the mark that it states.", 0),
        (True, 7, ANOTHER, 0),
        (False, PAYLOAD, NOT_FOUND, 1),
        (True, None, FOUND, 0),
        (False, None, "", 1),
    ],
)
def test_contradictions_are_told(
    tmp_path: Path,
    keys: Path,
    videos: dict[bool, bytes],
    capsys: pytest.CaptureFixture[str],
    is_marked: bool,
    payload: int | None,
    sentence: str,
    status: int,
) -> None:
    path = signed(tmp_path / "show.mp4", videos[is_marked], keys, payload)
    assert command.main([str(path)]) == status
    told = capsys.readouterr().out
    assert "nothing was changed since it was signed" in told
    assert sentence in told
    others = {ANOTHER, NOT_FOUND, FOUND} - {sentence}
    assert not any(other in told for other in others)


def test_a_changed_file_has_a_status_of_its_own(
    tmp_path: Path, keys: Path, videos: dict[bool, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    path = signed(tmp_path / "show.mp4", videos[True], keys, PAYLOAD)
    content = path.read_bytes()
    changed = bytearray(content)
    changed[content.rindex(b"moov") - 5] ^= 1  # the last byte of the last frame
    path.write_bytes(changed)
    assert command.main([str(path), "--json"]) == 4
    found = json.loads(capsys.readouterr().out)
    assert (found["marked"], found["manifest"]["state"]) == (True, "changed")
    path.write_bytes(content.replace(TEXT.encode(), b"0" * 12))
    assert command.main([str(path), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["manifest"]["state"] == "invalid"


def test_a_root_makes_a_signer_trusted(
    tmp_path: Path, keys: Path, videos: dict[bool, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    path = signed(tmp_path / "show.mp4", videos[True], keys, PAYLOAD)
    assert command.main([str(path)]) == 0
    assert "Nobody vouches for this name here." in capsys.readouterr().out
    assert command.main([str(path), "--root", str(keys / ROOT)]) == 0
    assert "It was signed by A channel, whose certificate a trusted root has issued." in capsys.readouterr().out


def test_a_bad_root_is_one_sentence(
    tmp_path: Path, videos: dict[bool, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    path, text = tmp_path / "show.mp4", tmp_path / "text.pem"
    path.write_bytes(videos[True])
    text.write_text("no certificate")
    for root in (text, tmp_path / "missing.pem"):
        assert command.main([str(path), "--root", str(root)]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("error: the certificates")
        assert told.err.count("\n") == 1


def test_the_manifest_is_read_where_no_frame_can_be(
    tmp_path: Path, keys: Path, videos: dict[bool, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    path = signed(tmp_path / "show.mp4", videos[True], keys, PAYLOAD)
    content = bytearray(path.read_bytes())
    begin, end = content.rindex(b"mdat") + 4, content.rindex(b"moov") - 4
    content[begin:end] = bytes(end - begin)
    path.write_bytes(content)
    assert command.main([str(path)]) == 2
    told = capsys.readouterr()
    assert "the file was changed since it was signed" in told.out
    assert told.err.startswith(f"error: {path} cannot be read: ")
    assert command.main([str(path), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["marked"], found["manifest"]["state"]) == (None, "changed")


CHAINS = (
    b"",
    b"[]\n",
    b"not JSON\n",
    b"[" * 20000,
    b'{"chain": "everframe.segments.1"}\n[1]\n',
    b'{"chain": "everframe.segments.1", "statements": 7, "mark": {"a": 1}}\n{"name": 7}\n{"end": true}\n',
    b'{"chain": "everframe.segments.1", "mark": []}\n{"end": true, "certificates": 3, "signature": "%%"}\n',
)


@pytest.mark.parametrize("content", CHAINS)
def test_no_chain_of_segments_ends_the_command(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "show.m3u8").write_text("#EXTM3U\n")
    (tmp_path / f"show{SUFFIX}").write_bytes(content)
    section = manifest_section(Source(str(tmp_path / "show.m3u8"), None))
    assert section is not None
    assert section.lines
    json.dumps(section.data)


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("x"), RecursionError("x"), AttributeError("x")])
def test_whatever_reading_a_manifest_raises_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("provenance.report.read_manifest_report", fail)
    (tmp_path / "show.mp4").write_bytes(b"x")
    section = manifest_section(Source(str(tmp_path / "show.mp4"), None))
    assert section is not None
    assert section.lines == (f"It cannot be read: it is malformed ({type(error).__name__}).",)
