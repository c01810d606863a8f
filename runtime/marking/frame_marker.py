"""Marks frames that come from no stage: pictures, blurred inputs, frames of a clip as they are."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from runtime.bundle.tensors import TensorSpec
from runtime.engines.engine import Engine, Program, Session
from runtime.errors import EngineError
from runtime.marking.graph import mark_frame, with_mark
from runtime.marking.plane import PLANE, make_plane, plane_input
from runtime.pixels.graph import GraphBuilder, value_info

Frame = npt.NDArray[np.uint8]
_OPSET = 17


class EngineChoice(NamedTuple):
    """An engine and how it opens a stage.

    Args:
        engine: compiles the graph.
        threads: CPU threads.
        folder: for compiled graphs; None for no cache.
    """

    engine: Engine
    threads: int
    folder: Path | None


class FrameMarker:
    """Marks frames one by one; for one thread.

    Args:
        payload: of the mark.
        width, height: of the frames, even.
        pixels: "rgb" or "i420".
        choice: opens the stage when the first frame comes. Without an engine, or when it has failed, NumPy does the
            same in about ten times the time.

    Raises:
        ValueError: the payload is not a whole number in [0, 2**48).
    """

    def __init__(self, payload: int, width: int, height: int, pixels: str, choice: EngineChoice | None = None) -> None:
        shape = (1, height, width, 3) if pixels == "rgb" else (1, height * 3 // 2, width)
        self._frame = TensorSpec("frame", "uint8", shape, "frame", pixels=pixels)
        self._plane, self._choice = make_plane(payload, self._frame), choice
        self._session: Session | None = None

    def __call__(self, frame: Frame) -> Frame:
        """Return a marked frame, valid until the next call.

        Args:
            frame: uint8 (H, W, 3) or (H * 3 / 2, W); not changed.
        """
        try:
            if self._session is None and self._choice is not None:
                self._session = self._open(self._choice)
            if self._session is not None:
                self._session.write("shown", frame[np.newaxis])
                self._session.run()
                marked: Frame = self._session.read("frame")[0]
                return marked
        except EngineError:
            self._choice = None
            self.close()
        return mark_frame(frame, self._plane, self._frame.pixels)

    def close(self) -> None:
        """Free the engine's memory."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _open(self, choice: EngineChoice) -> Session:
        shown = TensorSpec("shown", "uint8", self._frame.shape, "live")
        graph = GraphBuilder("stage.")
        graph.add("Cast", [graph.to_float("shown")], output="frame", to=TensorProto.UINT8)
        proto = helper.make_graph(graph.nodes, "marking", [value_info(shown)], [value_info(self._frame)])
        model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
        marked = with_mark(model, self._frame).SerializeToString()
        program = Program(marked, (shown, plane_input(self._frame)), (self._frame,))
        session = choice.engine.open(program, "fp32", choice.threads, choice.folder)
        session.write(PLANE, self._plane)
        return session
