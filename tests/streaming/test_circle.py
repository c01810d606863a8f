"""Shows whose input would be their own output."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming.circle import refuse_circle


@pytest.mark.parametrize(
    ("source", "sink"),
    [
        ("http://127.0.0.1:8000/stream.mjpeg", "http://127.0.0.1:8000"),
        ("http://localhost:8000/stream.mjpeg", "http://0.0.0.0:8000"),
        ("http://[::1]:8000/", "http://127.0.0.1:8000/"),
        ("http://camera.example/", "http://camera.example:80"),
        ("rtmp://127.0.0.1/live/show", "rtmp://127.0.0.1/live/show"),
        ("rtmp://localhost:1935/live/show/", "rtmp://127.0.0.1/live/show"),
        ("srt://host:9000?streamid=show", "srt://host:9000?streamid=show"),
        ("webcam:/dev/video10", "webcam:/dev/video10"),
        ("webcam:10", "webcam:/dev/video10"),
        ("clip.mp4", "./clip.mp4"),
        ("file://clip.mkv", "clip.mkv"),
    ],
)
def test_an_input_that_is_the_output_is_refused(source: str, sink: str) -> None:
    with pytest.raises(ValueError, match=r"is the show's own output to .*: give another --input, or leave that sink"):
        refuse_circle(source, ["null", sink])


@pytest.mark.parametrize(
    ("source", "sink"),
    [
        (None, "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8001/stream.mjpeg", "http://127.0.0.1:8000"),
        ("http://camera:8000/stream.mjpeg", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/stream.mjpeg", "http://127.0.0.1:0"),
        ("http://127.0.0.1:port/", "http://127.0.0.1:8000"),
        ("rtmp://127.0.0.1/live/camera", "rtmp://127.0.0.1/live/show"),
        ("srt://host:9000?streamid=read:camera", "srt://host:9000?streamid=publish:show"),
        ("webcam", "webcam"),
        ("webcam", "webcam:/dev/video10"),
        ("webcam:/dev/video0", "webcam"),
        ("webcam:/dev/video0", "webcam:/dev/video10"),
        ("clip.mp4", "other.mp4"),
        ("rtmp://host/live/clip.mp4", "clip.mp4"),
        ("testcard", "null"),
        ("clip.mp4", "-"),
        ("clip.mp4", "window"),
    ],
)
def test_other_inputs_are_accepted(source: str | None, sink: str) -> None:
    refuse_circle(source, [sink])


def test_a_link_to_the_file_is_seen_and_keys_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "clip.mp4")
    with pytest.raises(ValueError, match="is the show's own output"):
        refuse_circle(str(tmp_path / "link.mp4"), [str(tmp_path / "clip.mp4")])
    with pytest.raises(ValueError, match="is the show's own output") as caught:
        refuse_circle("rtmp://host/app/SECRET", ["rtmp://host/app/SECRET"])
    assert "SECRET" not in str(caught.value)
