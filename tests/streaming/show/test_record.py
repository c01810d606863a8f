"""What a show states: signed recordings, the ledger, and that neither of them can harm the show."""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from provenance import signing
from provenance.keys.development import CERTIFICATES, KEY, ROOT, create
from provenance.ledger import BEAT, END, PROMPT, SIGNED, START
from provenance.ledger.command import main as ledger_main
from provenance.ledger.store import Ledger
from provenance.manifest import COMPOSITE, GENERATED
from provenance.report import read_manifest_report
from runtime.bundle.reader import read_manifest
from streaming import stream
from streaming.arguments import parse
from streaming.commandline import main
from streaming.show.record import ShowRecord, _watched
from streaming.sinks.sink import Frame, Sink, StreamFormat
from tests.streaming.doubles import WAIT_S, decode

ROOT_FOLDER = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    create(folder := tmp_path_factory.mktemp("keys") / "made", "A channel")
    return folder


def _options(*arguments: str) -> argparse.Namespace:
    return parse([*arguments, "b"])


def test_recordings_of_a_show_are_signed(
    bundle: Path, tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths, ledger = [tmp_path / "show.mp4", tmp_path / "show.mkv"], tmp_path / "shows.sqlite"
    status = stream(bundle, to=paths, seconds=0.5, engine="onnxruntime", sign=keys, ledger=ledger, seed=5)
    assert status == 0
    for path in paths:
        report = read_manifest_report(path, keys / ROOT)
        assert (report.state, report.is_trusted, report.source_type) == ("valid", True, GENERATED)
        assert report.show is not None
        assert report.show["prompts"] == [{"seed": 5}]
        [stated] = report.show["bundles"]
        assert (stated["name"], stated["sha256"]) == ("tiny", read_manifest(bundle).sha256)
        assert len(decode(path)[0]) >= 1
    told = capsys.readouterr().err
    assert f"{paths[0]} is signed by A channel" in told
    assert f"{paths[1]} is signed by A channel, in {tmp_path / 'show.c2pa'}" in told
    with Ledger(ledger) as opened:
        events = list(opened.events())
    assert [event.kind for event in events if event.kind != BEAT] == [START, PROMPT, SIGNED, SIGNED, END]
    assert {event.show for event in events} == {report.show["show"]}
    assert events[0].data["sinks"] == [str(path) for path in paths]
    assert events[-1].data["reason"] == "time is up"
    assert events[-1].data["frame"] >= 0


def test_a_failure_keeps_the_recording_and_is_told(
    bundle: Path, tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> bytes:
        raise OSError(28, "No space left on device")

    path, ledger = tmp_path / "show.mp4", tmp_path / "shows.sqlite"
    monkeypatch.setattr("streaming.show.record.load_credentials", lambda options: _loaded(keys))
    monkeypatch.setattr(signing, "sign_stream", full)
    assert stream(bundle, to=[path], seconds=0.3, engine="onnxruntime", sign=keys, ledger=ledger) == 3
    assert f"{path} is complete, and not signed: No space left on device" in capsys.readouterr().err
    assert len(decode(path)[0]) >= 1
    assert read_manifest_report(path).state == "none"
    with Ledger(ledger) as opened:
        [signed] = opened.events((SIGNED,))
        assert opened.last(signed.show, END) is not None
    assert signed.data == {"file": str(path), "error": "No space left on device"}


def _loaded(keys: Path) -> Any:
    from provenance.keys.credentials import load_folder

    return load_folder(keys)


def test_bad_keys_end_the_show_before_it_begins(
    bundle: Path, tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "show.mp4"
    show = [str(bundle), "--to", str(path), "--seconds", "0.1"]
    wrong = ["--sign-key", str(keys / KEY), "--sign-certificates", str(keys / ROOT)]
    for arguments, sentence in (
        (["--sign", str(tmp_path / "none")], "there is no folder of keys at"),
        (wrong, "is not that of the key in"),
        (["--sign-key", str(keys / KEY)], "--sign-key and --sign-certificates belong together"),
        (["--sign", str(keys), *wrong], "--sign has a key of its own"),
        (["--ledger", str(bundle / "bundle.json")], "cannot be used"),
        (["--ledger", str(tmp_path / "no" / "a.sqlite")], "there is no folder"),
    ):
        assert main([*show, *arguments]) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert sentence in told
        assert told.count("\n") == 1
        assert list(tmp_path.iterdir()) == []
    assert main([*show, "--sign-key", str(keys / KEY), "--sign-certificates", str(keys / CERTIFICATES)]) == 0
    assert read_manifest_report(path).state == "valid"


def test_without_the_library_signing_names_its_extra(
    bundle: Path, keys: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    assert main([str(bundle), "--to", "null", "--seconds", "0.1", "--sign", str(keys)]) == 2
    assert "signing needs the extra sign: pip install 'everframe[sign]'" in capsys.readouterr().err


def test_live_segments_get_a_chain(bundle: Path, tmp_path: Path, keys: Path) -> None:
    playlist = tmp_path / "live.m3u8"
    assert stream(bundle, to=[playlist], seconds=2.5, engine="onnxruntime", sign=keys) == 0
    report = read_manifest_report(playlist, keys / ROOT)
    assert (report.state, report.is_trusted, report.signer) == ("valid", True, "A channel")
    segments = sorted(tmp_path.glob("*.ts"))
    assert report.segments == (len(segments), len(segments))
    assert segments
    data = bytearray(segments[0].read_bytes())
    data[100] ^= 1
    segments[0].write_bytes(data)
    report = read_manifest_report(playlist)
    assert report.state == "changed"
    assert segments[0].name in " ".join(report.sentences())


def test_without_keys_there_is_no_chain(bundle: Path, tmp_path: Path) -> None:
    assert stream(bundle, to=[tmp_path / "live.m3u8"], seconds=0.5, engine="onnxruntime") == 0
    assert list(tmp_path.glob("*.jsonl")) == []


@pytest.mark.live
def test_a_killed_show_is_in_the_ledger(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = tmp_path / "shows.sqlite"
    arguments = [str(bundle), "--to", "null", "--to", "rtmp://127.0.0.1:9/live/SECRET", "--ledger", str(ledger)]
    child = subprocess.Popen(
        [sys.executable, "-m", "streaming", *arguments, "--engine", "onnxruntime"], cwd=ROOT_FOLDER
    )
    try:
        ends_s = time.monotonic() + WAIT_S
        while not _kinds(ledger) >= {START, PROMPT, BEAT}:
            assert time.monotonic() < ends_s, "nothing was noted"
            time.sleep(0.05)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    with Ledger(ledger) as opened:
        [start] = opened.events((START,))
        assert opened.last(start.show, END) is None
        assert opened.first_changed() is None
    assert "SECRET" not in json.dumps(start.data)
    assert b"SECRET" not in ledger.read_bytes()
    assert ledger_main([str(ledger)]) == 0
    assert "running, or killed just now" in capsys.readouterr().out


def _kinds(path: Path) -> set[str]:
    try:
        with Ledger(path) as ledger:
            return {event.kind for event in ledger.events()}
    except (ValueError, OSError):
        return set()


def test_a_locked_ledger_holds_up_nothing(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provenance.ledger.store._BUSY_S", 0.01)
    monkeypatch.setattr("provenance.ledger.writer.CLOSE_S", 0.1)
    ledger = tmp_path / "shows.sqlite"
    Ledger(ledger, is_writer=True).close()
    other = sqlite3.connect(ledger, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        status = stream(bundle, to=["null"], seconds=0.3, engine="onnxruntime", ledger=ledger)
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert status == 3
    told = capsys.readouterr().err
    assert "cannot be written (database is locked): the show goes on" in told
    assert "events of this show are not in the ledger" in told
    assert "ended: time is up" in told


def test_what_is_live_is_stated(bundle: Path) -> None:
    manifest = read_manifest(bundle)

    def facts(*arguments: str, matte: bool = False) -> Any:
        options = _options("--ledger", "unused", *arguments)
        options.ledger = None
        return ShowRecord(
            options, [manifest], {"matte": manifest} if matte else {}, (64, 48), Fraction(30), print
        ).facts

    person = facts("--input", "webcam:2", "--matte", "m", "--sound", "mic:USB", matte=True)
    assert (person.live, person.source, person.sound) == ("person", "a camera", "a microphone")
    assert [item.role for item in person.bundles] == ["generator", "matte"]
    told = facts("--input", "rtsp://user:password@camera/1", "--matte", "m", matte=True)
    assert "password" not in json.dumps(told.to_json())
    assert told.source == "a video"
    generated = facts("--input", "webcam")
    assert (generated.live, generated.source, generated.sound) == ("", "", "")


def test_a_person_makes_a_composite(tmp_path: Path, keys: Path, bundle: Path) -> None:
    options = _options("--input", "webcam", "--matte", "m", "--sign", str(keys))
    record = ShowRecord(
        options, [read_manifest(bundle)], {"matte": read_manifest(bundle)}, (64, 48), Fraction(30), print, payload=9
    )
    assert stream(bundle, to=[tmp_path / "show.mp4"], seconds=0.2, engine="onnxruntime") == 0
    record.prompt({"text": "a calm sea"}, 0.0)
    record.begin([_Finished(tmp_path / "show.mp4")])
    record.end("interrupted")
    record.close()
    report = read_manifest_report(tmp_path / "show.mp4")
    assert (report.source_type, report.mark) == (COMPOSITE, "000000000009")
    assert report.show is not None
    assert report.show["prompts"][0]["text"].startswith("sha256:")


class _Finished(Sink):
    name = "finished"
    makes_file = True

    def __init__(self, product: Path) -> None:
        self.product = product

    def open(self, feed: StreamFormat) -> None: ...

    def write(self, frame: Frame) -> bool:
        return True

    def close(self) -> None: ...


def test_after_a_second_interruption_nothing_is_signed(tmp_path: Path, keys: Path, bundle: Path) -> None:
    assert stream(bundle, to=[tmp_path / "show.mp4"], seconds=0.2, engine="onnxruntime") == 0
    options = _options("--sign", str(keys), "--ledger", str(tmp_path / "shows.sqlite"))
    record = ShowRecord(options, [read_manifest(bundle)], {}, (64, 48), Fraction(30), print)
    record.begin([_Finished(tmp_path / "show.mp4")])
    record.close(KeyboardInterrupt)
    assert read_manifest_report(tmp_path / "show.mp4").state == "none"
    with Ledger(tmp_path / "shows.sqlite") as ledger:
        [end] = ledger.events((END,))
    assert end.data == {"frame": None, "reason": "stopped at once"}


def test_a_show_without_a_file_says_that_nothing_is_signed(
    bundle: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stream(bundle, to=["null"], seconds=0.1, engine="onnxruntime", sign=keys) == 0
    assert "nothing will be signed: --sign is for recordings" in capsys.readouterr().err


def test_the_manifest_of_a_replaced_recording_goes(bundle: Path, tmp_path: Path, keys: Path) -> None:
    path = tmp_path / "show.mkv"
    assert stream(bundle, to=[path], seconds=0.1, engine="onnxruntime", sign=keys) == 0
    assert (tmp_path / "show.c2pa").exists()
    assert stream(bundle, to=[path], seconds=0.1, engine="onnxruntime") == 0
    assert not (tmp_path / "show.c2pa").exists()


def test_signing_tells_how_far_it_is_and_ends_when_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.show.record._TELL_S", 0.001)
    said: list[str] = []
    is_told = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        is_told.set()

    def work(progress: Callable[[float], bool]) -> Path:
        assert progress(0.5)
        assert is_told.wait(WAIT_S)
        return Path("done")

    assert _watched(work, "signing night.mp4", say) == Path("done")
    assert said[0] == "signing night.mp4: 50 %" or said[0] == "signing night.mp4: 0 %"

    stopped: list[bool] = []

    def endless(progress: Callable[[float], bool]) -> Path:
        while progress(0.1):
            time.sleep(0.001)
        stopped.append(True)
        raise InterruptedError

    def interrupt(_line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _watched(endless, "signing night.mp4", interrupt)
    assert stopped == [True]


def test_a_clip_after_many_prompts_is_stated(bundle: Path, tmp_path: Path, keys: Path) -> None:
    assert stream(bundle, to=[tmp_path / "show.mp4"], seconds=0.1, engine="onnxruntime") == 0
    record = ShowRecord(_options("--sign", str(keys)), [read_manifest(bundle)], {}, (64, 48), Fraction(30), print)
    record.begin([_Finished(tmp_path / "show.mp4")])
    for seed in range(200):
        record.prompt({"seed": seed}, 0.0)
    record.prompt({"clip": tmp_path / "gone.mp4"}, 1.0)
    record.close()
    report = read_manifest_report(tmp_path / "show.mp4")
    assert report.source_type == COMPOSITE
    assert report.show is not None
    assert (len(report.show["prompts"]), report.show["is_every_prompt_listed"]) == (200, False)


def test_a_recording_whose_name_is_not_utf_8_is_signed_and_noted(bundle: Path, tmp_path: Path, keys: Path) -> None:
    assert stream(bundle, to=[tmp_path / "show.mp4"], seconds=0.1, engine="onnxruntime") == 0
    path = (tmp_path / "show.mp4").rename(tmp_path / "n\udcff.mp4")
    options = _options("--sign", str(keys), "--ledger", str(tmp_path / "shows.sqlite"))
    said: list[str] = []
    record = ShowRecord(options, [read_manifest(bundle)], {}, (64, 48), Fraction(30), said.append)
    record.begin([_Finished(path)])
    record.close()
    assert record.is_complete
    assert not any("ledger" in line for line in said)
    assert read_manifest_report(path).state == "valid"
    with Ledger(tmp_path / "shows.sqlite") as ledger:
        [signed] = ledger.events((SIGNED,))
    assert signed.data["file"] == str(tmp_path / "n\\udcff.mp4")
