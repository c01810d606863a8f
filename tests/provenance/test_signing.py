"""Signed files: valid to the C2PA library's own reader, changed by a single bit, and never lost."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import c2pa
import numpy as np
import pytest
from PIL import Image

from provenance import c2pa_library, signing
from provenance.facts import LIVE_PERSON, OF_LIVE, BundleFacts, PromptList, ShowFacts, hash_text, to_prompt
from provenance.keys import credentials
from provenance.keys.credentials import Credentials
from provenance.keys.development import ROOT, create
from provenance.manifest import COMPOSITE, GENERATED, to_definition, to_statements
from provenance.report import read_manifest_report

TRAINING = ({"name": "the sea", "licence": "CC0-1.0", "clips": 3},)
BUNDLE = BundleFacts("sea", "ab" * 32, "generator", TRAINING)
FACTS = ShowFacts("a" * 32, "0.3.0", "2026-11-29T20:00:00Z", (BUNDLE,), (64, 48), "30", payload=0x0123456789AB)
SIZE = (64, 48)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    create(folder := tmp_path_factory.mktemp("keys") / "made", "A channel")
    return folder


@pytest.fixture(scope="module")
def mine(keys: Path) -> Credentials:
    return credentials.load_folder(keys)


def _record(path: Path) -> Path:
    """Write half a second of video."""
    if path.suffix == ".jpg":
        Image.new("RGB", SIZE, (10, 120, 200)).save(path)
        return path
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(15):
            picture = np.full((SIZE[1], SIZE[0], 3), 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def _frames(path: Path) -> list[tuple[int, bytes]]:
    with av.open(str(path)) as container:
        return [(frame.pts, frame.to_ndarray().tobytes()) for frame in container.decode(video=0)]


def _library_report(path: Path, manifest: bytes | None = None) -> dict[str, Any]:
    """Return what the library's reader says, without any code of ours."""
    mime = {".mp4": "video/mp4", ".mkv": "video/x-matroska", ".jpg": "image/jpeg"}[path.suffix]
    with (
        path.open("rb") as file,
        c2pa.Context.from_dict({"verify": {"remote_manifest_fetch": False}}) as context,
        c2pa.Reader(mime, file, manifest, context) as reader,
    ):
        report: dict[str, Any] = json.loads(reader.json())
        return report


@pytest.mark.parametrize("name", ["show.mp4", "picture.jpg", "show.mkv"])
def test_the_librarys_reader_finds_it_valid(tmp_path: Path, keys: Path, mine: Credentials, name: str) -> None:
    path = _record(tmp_path / name)
    before = path.read_bytes()
    place = signing.sign(path, FACTS, mine)
    is_beside = path.suffix == ".mkv"
    assert place == (tmp_path / "show.c2pa" if is_beside else path)
    assert (path.read_bytes() == before) == is_beside
    found = _library_report(path, place.read_bytes() if is_beside else None)
    assert found["validation_state"] == "Valid"
    failures = [item["code"] for item in found["validation_results"]["activeManifest"]["failure"]]
    assert failures == ["signingCredential.untrusted"], "nobody has trusted the root yet"
    report = read_manifest_report(path, keys / ROOT)
    assert (report.state, report.is_trusted, dict(report.problems)) == ("valid", True, {})
    assert (report.signer, report.generator, report.mark) == ("A channel", "Everframe 0.3.0", "0123456789ab")
    assert report.source_type == GENERATED
    assert report.show is not None
    assert report.show["bundles"] == [BUNDLE.to_json()]
    assert (report.show["width"], report.show["height"], report.show["fps"]) == (64, 48, "30")
    assert not read_manifest_report(path).is_trusted
    assert "Nobody vouches for this name here." in " ".join(read_manifest_report(path).sentences())
    assert "Every frame carries the invisible mark 0123456789ab." in " ".join(report.sentences())
    json.dumps(report.to_json())
    assert [item.name for item in tmp_path.iterdir() if item.name.endswith(".signing")] == []


@pytest.mark.parametrize("name", ["show.mp4", "show.mkv"])
def test_players_see_the_same_frames(tmp_path: Path, mine: Credentials, name: str) -> None:
    path = _record(tmp_path / name)
    before = _frames(path)
    signing.sign(path, FACTS, mine)
    assert len(before) == 15
    assert _frames(path) == before


@pytest.mark.parametrize("name", ["show.mp4", "picture.jpg", "show.mkv"])
@pytest.mark.parametrize("where", [0.5, 0.97])
def test_a_broken_bit_is_found(tmp_path: Path, mine: Credentials, name: str, where: float) -> None:
    path = _record(tmp_path / name)
    start = 0 if path.suffix == ".mkv" else None
    unsigned_bytes = path.stat().st_size
    signing.sign(path, FACTS, mine)
    data = bytearray(path.read_bytes())
    start = len(data) - unsigned_bytes if start is None else start  # the manifest comes before the media
    data[start + int(where * unsigned_bytes)] ^= 1
    path.write_bytes(data)
    report = read_manifest_report(path)
    assert report.state == "changed"
    assert any(code.endswith("Hash.mismatch") for code in report.problems)
    assert "the file was changed since it was signed" in " ".join(report.sentences())


def test_a_changed_statement_is_not_believed(tmp_path: Path, mine: Credentials) -> None:
    path = _record(tmp_path / "show.mp4")
    signing.sign(path, FACTS, mine)
    data = path.read_bytes()
    assert data.count(b"0123456789ab")
    path.write_bytes(data.replace(b"0123456789ab", b"ba9876543210"))
    report = read_manifest_report(path)
    assert report.state == "invalid"
    assert "Do not rely on what it says." in report.sentences()


def test_the_end_of_a_file_cannot_be_cut_off(tmp_path: Path, mine: Credentials) -> None:
    path = _record(tmp_path / "show.mkv")
    signing.sign(path, FACTS, mine)
    path.write_bytes(path.read_bytes()[:-100])
    assert read_manifest_report(path).state == "changed"


def test_what_is_not_signed_says_so(tmp_path: Path) -> None:
    for name in ("show.mp4", "show.mkv", "picture.jpg"):
        report = read_manifest_report(_record(tmp_path / name))
        assert (report.state, report.place) == ("none", "")
        assert "manifests can be removed" in report.sentences()[0]
    (tmp_path / "text.txt").write_text("no video")
    for name in ("show.mp4", "live.m3u8"):
        with pytest.raises(ValueError, match=r"the certificates in .*text\.txt cannot be read: expected PEM"):
            read_manifest_report(tmp_path / name, tmp_path / "text.txt")
    assert read_manifest_report(tmp_path / "text.txt").state == "none"
    (tmp_path / "show.c2pa").write_bytes(b"no manifest")
    report = read_manifest_report(tmp_path / "show.mkv")
    assert report.state == "invalid"
    assert "it is damaged" in report.problems["manifest"]
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "show.mp4").read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"broken\.mp4 cannot be read"):
        read_manifest_report(tmp_path / "broken.mp4")
    with pytest.raises(FileNotFoundError):
        read_manifest_report(tmp_path / "none.mp4")


def test_real_people_make_a_composite(tmp_path: Path, mine: Credentials) -> None:
    path = _record(tmp_path / "show.mp4")
    signing.sign(path, replace(FACTS, live=LIVE_PERSON, source="a camera", payload=None, has_no_mark=True), mine)
    report = read_manifest_report(path)
    assert (report.source_type, report.mark) == (COMPOSITE, None)
    told = " ".join(report.sentences())
    assert "The person is real: cut out of a live picture (a camera)." in told
    assert "The show ran with --no-mark: its frames carry no invisible mark." in told
    labels = [item["label"] for item in _library_report(path)["manifests"].popitem()[1]["assertions"]]
    assert "c2pa.soft-binding" not in labels


def test_the_soft_binding_has_the_payload(tmp_path: Path, mine: Credentials) -> None:
    path = _record(tmp_path / "show.mp4")
    signing.sign(path, FACTS, mine)
    [manifest] = _library_report(path)["manifests"].values()
    data = {item["label"]: item["data"] for item in manifest["assertions"]}
    assert data["c2pa.soft-binding"] == {
        "alg": "everframe.mark.1",
        "blocks": [{"scope": {}, "value": "0123456789ab"}],
    }
    actions = [action["action"] for action in data["c2pa.actions.v2"]["actions"]]
    assert actions == ["c2pa.created", "c2pa.watermarked.bound"]


def test_a_clip_that_plays_on_is_no_pure_invention(tmp_path: Path, mine: Credentials) -> None:
    path = _record(tmp_path / "show.mp4")
    signing.sign(path, replace(FACTS, prompts=({"clip": "sha256:" + "0" * 64},)), mine)
    report = read_manifest_report(path)
    assert report.source_type == COMPOSITE
    assert "A clip plays on with its own frames" in " ".join(report.statements)
    assert "no camera filmed it" not in " ".join(report.statements)


def test_prompts_that_are_not_listed_are_stated(tmp_path: Path, mine: Credentials) -> None:
    prompts = PromptList(3)
    for seed in (1, 2, 1, 3, 4):
        prompts.add({"seed": seed})
    assert prompts.listed == ({"seed": 1}, {"seed": 2}, {"seed": 3})
    prompts.add({"clip": "sha256:" + "0" * 64})
    prompts.add({"image": OF_LIVE})
    facts = replace(FACTS, prompts=prompts.listed, left_out=prompts.left_out)
    path = _record(tmp_path / "show.mp4")
    signing.sign(path, facts, mine)
    report = read_manifest_report(path)
    told = " ".join(report.statements)
    assert report.source_type == COMPOSITE
    assert "A clip plays on with its own frames" in told
    assert "no camera filmed it" not in told
    assert "A picture of a live input was animated" in told
    assert "A given picture" not in told
    assert "Only the first 3 different prompts are listed" in told
    assert report.show is not None
    assert report.show["is_every_prompt_listed"] is False
    assert len(report.show["prompts"]) == 3


def test_a_failure_leaves_the_recording(tmp_path: Path, mine: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _record(tmp_path / "show.mp4")
    before = path.read_bytes()

    def full(*_: object, **__: object) -> bytes:
        raise OSError(28, "No space left on device")

    def refused(*_: object, **__: object) -> bytes:
        raise c2pa_library.C2paLibraryError("it is refused")

    for act, error in ((full, OSError), (refused, ValueError)):
        monkeypatch.setattr(signing, "sign_stream", act)
        with pytest.raises(error):
            signing.sign(path, FACTS, mine)
        assert path.read_bytes() == before
        assert [item.name for item in tmp_path.iterdir()] == ["show.mp4"]


class _FullFile(io.FileIO):
    """A file on a disk that is full."""

    def write(self, data: Any) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_told_by_its_name(tmp_path: Path, mine: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _record(tmp_path / "show.mp4")
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(signing, "_create", lambda partial: _FullFile(partial, "w+"))
        with pytest.raises(OSError, match="No space left on device"):
            signing.sign(path, FACTS, mine)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["show.mp4"]


def test_it_can_be_stopped(tmp_path: Path, mine: Credentials) -> None:
    path = _record(tmp_path / "show.mp4")
    before = path.read_bytes()
    shares: list[float] = []
    with pytest.raises(InterruptedError):
        signing.sign(path, FACTS, mine, lambda share: shares.append(share) or share < 0.3)
    assert path.read_bytes() == before
    shares.clear()
    signing.sign(path, FACTS, mine, lambda share: shares.append(share) or True)
    assert shares == sorted(shares)
    assert 0.5 < shares[-1] <= 1


def test_other_files_are_refused(tmp_path: Path, mine: Credentials) -> None:
    (tmp_path / "show.avi").write_bytes(b"")
    with pytest.raises(ValueError, match=r"files that end in \.avi cannot be signed: expected one of \.mp4"):
        signing.sign(tmp_path / "show.avi", FACTS, mine)


def test_what_the_library_refuses_is_known_before_the_show(tmp_path: Path, keys: Path, mine: Credentials) -> None:
    signing.check(mine)
    wrong = replace(mine, certificates=(keys / ROOT).read_text())  # a certificate of an authority, and of another key
    with pytest.raises(ValueError, match="cannot sign for C2PA"):
        signing.check(wrong)


def test_prompts_are_hashed_unless_they_may_be_told(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"a picture")
    parts = {"text": "a calm sea", "image": tmp_path / "photo.jpg", "seed": 7, "scene": None}
    stated = to_prompt(parts, FACTS.salt, keeps_text=False)
    assert stated == {
        "text": hash_text("a calm sea", FACTS.salt),
        "image": f"sha256:{hashlib.sha256(b'a picture').hexdigest()}",
        "seed": 7,
    }
    assert "calm" not in json.dumps(stated)
    assert stated["text"] != to_prompt(parts, "00" * 16, keeps_text=False)["text"], "each show has its own salt"
    assert to_prompt(parts, FACTS.salt, keeps_text=True)["text"] == "a calm sea"
    assert to_prompt({"image": "input"}, "00", keeps_text=False) == {"image": "a picture of the live input"}
    assert to_prompt({"image": tmp_path / "gone.jpg"}, "00", keeps_text=False) == {
        "image": "a file that could not be read again"
    }
    pixels = np.zeros((4, 4, 3), np.uint8)
    assert to_prompt({"image": pixels}, "00", keeps_text=False)["image"].endswith("of its pixels")
    assert to_prompt({"image": pixels[:, ::2]}, "00", keeps_text=False)["image"].endswith("of its pixels")
    assert to_prompt({"image": object(), "hints": object()}, "00", keeps_text=False) == {
        "image": "a picture",
        "hints": "drawn motion",
    }


def test_a_link_of_the_temporary_name_is_not_followed(tmp_path: Path, mine: Credentials) -> None:
    path, other = _record(tmp_path / "show.mp4"), tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "show.mp4.signing").symlink_to(other)
    signing.sign(path, FACTS, mine)
    assert other.read_text() == "mine"
    assert not path.is_symlink()
    assert read_manifest_report(path).state == "valid"


def test_what_others_have_signed_is_printed_safely(tmp_path: Path, mine: Credentials) -> None:
    path = _record(tmp_path / "picture.jpg")
    signing.sign(path, replace(FACTS, sound="\x1b[2J"), mine)
    assert "\x1b" not in "".join(read_manifest_report(path).sentences())


@pytest.mark.parametrize("name", ["show.mp4", "show.mkv"])
def test_a_damaged_manifest_never_ends_the_reader(tmp_path: Path, mine: Credentials, name: str) -> None:
    path = _record(tmp_path / name)
    place = signing.sign(path, FACTS, mine)
    whole = place.read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(60):
        data = bytearray(whole)
        at = int(rng.integers(0, min(len(data), 5000)))
        data[at : at + 4] = rng.bytes(4)
        place.write_bytes(bytes(data[: int(rng.integers(100, len(data)))] if rng.integers(4) == 0 else data))
        try:
            report = read_manifest_report(path)
        except ValueError:
            continue
        assert report.state in ("none", "valid", "changed", "invalid")
        assert report.sentences()


def test_a_manifest_on_a_server_is_not_fetched(tmp_path: Path, mine: Credentials) -> None:
    path = _record(tmp_path / "picture.jpg")
    info = c2pa.C2paSignerInfo(mine.algorithm.encode(), mine.certificates.encode(), mine.key.encode(), None)
    definition = to_definition(FACTS, path.name, "image/jpeg")
    signed = io.BytesIO()
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(json.dumps(definition)) as builder:
        builder.set_no_embed()
        builder.set_remote_url("http://127.0.0.1:9/manifest.c2pa")
        builder.sign(signer, "image/jpeg", io.BytesIO(path.read_bytes()), signed)
    path.write_bytes(signed.getvalue())
    report = read_manifest_report(path)
    assert (report.state, report.place) == ("invalid", "on a server")
    assert "it was not checked" in report.sentences()[0]


@pytest.mark.parametrize(("end", "is_refused"), [(2**32 - 5000, True), (2**32 + 5000, True), (2**32 + 2**25, False)])
def test_an_index_that_would_wrap_is_not_touched(
    tmp_path: Path, mine: Credentials, monkeypatch: pytest.MonkeyPatch, end: int, is_refused: bool
) -> None:
    path = tmp_path / "show.mp4"
    with path.open("wb") as file:  # a sparse file: it takes no room
        file.write((16).to_bytes(4, "big") + b"ftypisom" + bytes(4))
        file.write((1).to_bytes(4, "big") + b"mdat" + (end - 16).to_bytes(8, "big"))
        file.seek(end)
        file.write((8).to_bytes(4, "big") + b"moov")
    called: list[bool] = []
    monkeypatch.setattr(signing, "sign_stream", lambda *_, **__: called.append(True) or b"")
    if is_refused:
        with pytest.raises(ValueError, match="within 16 MiB of 4 GiB"):
            signing.sign(path, FACTS, mine)
    else:
        signing.sign(path, FACTS, mine)
    assert called == ([] if is_refused else [True])


def test_animated_pictures_are_stated() -> None:
    told = [to_statements(replace(FACTS, prompts=({"image": image},))) for image in (OF_LIVE, "sha256:00")]
    assert "A picture of a live input was animated: what it shows may be real, its motion is not." in told[0]
    assert "A given picture was animated: what it shows may be real, its motion is not." in told[1]
    assert not set(told[0]) & set(told[1]) - set(to_statements(FACTS))
    scene = to_statements(replace(FACTS, prompts=({"scene": "lake"},)))
    assert "A picture of the bundle was animated: what it shows may be real, its motion is not." in scene


def test_a_name_that_is_not_utf_8_is_escaped(tmp_path: Path, mine: Credentials) -> None:
    path = _record(tmp_path / "show.mp4").rename(tmp_path / "n\udcff.mp4")
    signing.sign(path, replace(FACTS, sound="\udcfe"), mine)
    [manifest] = _library_report(path)["manifests"].values()
    assert manifest["title"] == "n\\udcff.mp4"
    assert "The sound is not generated: \\udcfe." in read_manifest_report(path).statements
    stated = to_prompt({"text": "\udcff", "image": "a\0b"}, "00", keeps_text=False)
    assert stated["text"] == hash_text("\\udcff", "00")
    assert stated["image"] == "a file that could not be read again"
