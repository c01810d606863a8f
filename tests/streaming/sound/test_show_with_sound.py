"""A whole show with sound, into a recording."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from streaming import stream
from tests.streaming.sound.wav import write_tone


def recorded(path: Path) -> tuple[np.ndarray, int]:
    """Return the sound of a recording, one side of it, and the number of its frames."""
    parts, num_frames = [], 0
    with av.open(str(path)) as container:
        for frame in container.decode():
            if isinstance(frame, av.AudioFrame):
                parts.append(frame.to_ndarray()[0])
            else:
                num_frames += 1
    return np.concatenate(parts), num_frames


@pytest.mark.live
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_file_is_heard_in_a_recording(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    tone = write_tone(tmp_path / "tone.wav", seconds=10)
    path = tmp_path / name
    assert stream(bundle, to=[path], seconds=2, engine="onnxruntime", sound=tone) == 0
    wave, _ = recorded(path)
    assert len(wave) == pytest.approx(2 * 48_000, abs=48_000 / 5)
    middle = wave[24_000:72_000]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == pytest.approx(1000, abs=2)
    assert np.abs(middle).max() == pytest.approx(0.49, abs=0.05)
    assert f"sound: {tone}" in capsys.readouterr().err


@pytest.mark.live
def test_a_muted_show_is_silent_and_bad_sound_is_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tone = write_tone(tmp_path / "tone.wav", seconds=10)
    assert stream(bundle, to=[tmp_path / "a.mkv"], seconds=1, sound=tone, control={"sound.mute": 1}) == 0
    wave, num_frames = recorded(tmp_path / "a.mkv")
    assert num_frames
    assert len(wave) > 24_000
    assert np.abs(wave).max() < 0.001
    with pytest.raises(ValueError, match=r"^the sound nothing.wav cannot be opened: No such file"):
        stream(bundle, to=[tmp_path / "b.mkv"], seconds=1, sound="nothing.wav")
    assert not list(tmp_path.glob("b.*")), "nothing is left behind"
    capsys.readouterr()


def test_without_sound_a_recording_has_no_track(bundle: Path, tmp_path: Path) -> None:
    assert stream(bundle, to=[tmp_path / "a.mkv"], seconds=0.5, engine="onnxruntime") == 0
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert [item.type for item in container.streams] == ["video"]
