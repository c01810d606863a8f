"""The table of sinks; no stream key is shown."""

from __future__ import annotations

import importlib

import pytest

from runtime.masking import mask
from streaming.errors import SinkError
from streaming.sinks.sink import Sink
from streaming.sinks.table import KINDS, make_sinks


def test_every_line_of_the_table_leads_to_a_sink() -> None:
    for kind in KINDS:
        cls = getattr(importlib.import_module(f"streaming.sinks.{kind.module}"), kind.cls)
        assert issubclass(cls, Sink), kind.form


@pytest.mark.parametrize(
    ("spec", "cls"),
    [
        ("out.mp4", "FileSink"),
        ("/some/where/OUT.MKV", "FileSink"),
        ("rtmp://host/app/key", "RtmpSink"),
        ("rtmps://host/app/inner/key?a=b", "RtmpSink"),
        ("webcam", "WebcamSink"),
        ("webcam:/dev/video7", "WebcamSink"),
        ("http://127.0.0.1:8000", "PageSink"),
        ("-", "PipeSink"),
        ("null", "NullSink"),
    ],
)
def test_specs_find_their_sinks(spec: str, cls: str) -> None:
    (sink,) = make_sinks([spec], "i420")
    assert type(sink).__name__ == cls


@pytest.mark.parametrize(
    ("spec", "nearest"),
    [
        ("webcan", "webcam[:DEVICE]"),
        ("rmtp://host/app/SECRET", "rtmp://HOST/APP/KEY"),
        ("https://127.0.0.1:8000", "http://HOST:PORT"),
        ("out.avi", "FILE.mp4 or FILE.mkv"),
        ("nul", "null"),
    ],
)
def test_an_unknown_sink_names_the_known_ones_and_the_nearest(spec: str, nearest: str) -> None:
    with pytest.raises(SinkError) as caught:
        make_sinks([spec], "i420")
    message = str(caught.value)
    assert message.endswith(f"did you mean {nearest}?")
    assert all(kind.form in message for kind in KINDS)
    assert "SECRET" not in message


def test_a_sink_may_be_given_once() -> None:
    with pytest.raises(SinkError, match="null is given twice"):
        make_sinks(["null", "-", "null"], "i420")


def test_rgb_is_for_raw_sinks() -> None:
    assert len(make_sinks(["-", "null"], "rgb")) == 2
    with pytest.raises(SinkError, match=r"out\.mp4 accepts i420, got --pixels rgb"):
        make_sinks(["-", "out.mp4"], "rgb")


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("rtmp://live.example.com/app/SECRET", "rtmp://live.example.com/app/***"),
        ("rtmps://host:443/a/b/SECRET?backup=SECRET", "rtmps://host:443/a/b/***"),
        ("rtmp://name:SECRET@host/app/SECRET", "rtmp://host/app/***"),
        ("RTMP://host/app/SECRET#SECRET", "RTMP://host/app/***"),
        ("rtmp://host/SECRET", "rtmp://host/***"),
        ("rmtp://host/app/SECRET\nSECRET", "rmtp://host/app/***"),
        ("live.example.com/app/SECRET", "live.example.com/app/***"),
        ("srt://host:9000?streamid=SECRET", "srt://host:9000"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://name:SECRET@192.168.1.20/video?token=SECRET", "http://192.168.1.20/video"),
        ("rtsp://name:SECRET@10.0.0.15", "rtsp://10.0.0.15"),
        ("rtsp://name:SECRET@camera/live.sdp", "rtsp://camera/live.sdp"),
        ("/home/me/out.avi", "/home/me/out.avi"),
        ("/home/me/folder", "/home/me/folder"),
        ("webcam", "webcam"),
    ],
)
def test_mask(spec: str, shown: str) -> None:
    assert mask(spec) == shown
