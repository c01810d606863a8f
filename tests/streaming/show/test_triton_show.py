"""A show whose frames come from a stand-in for a Triton server; not yet run on a Triton server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.triton.repository import RepositoryOptions, write_repository
from runtime import EngineError
from streaming import Frame, Sink, StreamFormat, stream
from tests.triton_server import TritonServer

pytestmark = pytest.mark.live


class ClockSink(Sink):
    """Keeps the number that the tiny bundle draws into each frame."""

    name = "clock"

    def open(self, stream_format: StreamFormat) -> None:
        self.numbers: list[int] = []

    def write(self, frame: Frame) -> bool:
        self.numbers.append(int(frame.picture[0, 0, 0]))
        return True

    def close(self) -> None:
        """Do nothing."""


def test_a_show_is_a_sequence_of_the_server(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_repository(bundle, tmp_path / "models", RepositoryOptions(pixels=("rgb",)))
    with TritonServer(tmp_path / "models") as server:
        sink = ClockSink()
        address = f"grpc://{server.url}"
        options = {"seconds": 1, "engine": address, "pixels": "rgb", "no_mark": True, "log": "json"}
        assert stream(bundle, to=[sink], cue=["0.3:seed=5"], **options) == 0
        assert not server.models["tiny-step-rgb"].sequences
    assert sink.numbers[0] == 0
    assert sink.numbers == sorted(sink.numbers)
    assert sink.numbers[-1] > 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert any(f"30 fps, {address} fp32" in str(line) for line in lines)


def test_a_show_without_its_server_is_one_sentence(bundle: Path) -> None:
    with pytest.raises(EngineError, match=r"no Triton server answers at 127\.0\.0\.1:1 "):
        stream(bundle, to=[ClockSink()], seconds=1, engine="grpc://127.0.0.1:1", pixels="rgb")
