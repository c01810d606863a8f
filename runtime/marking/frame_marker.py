"""Marks frames that come from no stage: pictures, blurred inputs, frames of a clip as they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

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


class EngineSettings(NamedTuple):
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
        plane: of the mark, from `runtime.marking.plane.make_plane`.
        frame: the format of the frames.
        settings: of the stage, which is opened when the first frame comes. Without an engine, NumPy does the same in
            about ten times the time.
        say: called with a sentence when the engine has failed; NumPy goes on. None raises EngineError instead.

    Attributes:
        plane, say: as above.
    """

    def __init__(
        self,
        plane: npt.NDArray[np.float32],
        frame: TensorSpec,
        settings: EngineSettings | None = None,
        say: Callable[[str], object] | None = None,
    ) -> None:
        self.plane, self._frame, self._settings, self.say = plane, frame, settings, say
        self._session: Session | None = None

    @classmethod
    def of_payload(
        cls,
        payload: int,
        width: int,
        height: int,
        pixels: str,
        settings: EngineSettings | None = None,
        say: Callable[[str], object] | None = None,
    ) -> Self:
        """Return a marker of frames of a size.

        Args:
            payload: of the mark, [0, 2**48).
            width, height: of the frames, even.
            pixels: "rgb" or "i420".
            settings, say: as in the constructor.

        Raises:
            ValueError: the payload is not a whole number in [0, 2**48).
        """
        shape = (1, height, width, 3) if pixels == "rgb" else (1, height * 3 // 2, width)
        frame = TensorSpec("frame", "uint8", shape, "frame", pixels=pixels)
        return cls(make_plane(payload, frame), frame, settings, say)

    def __call__(self, frame: Frame) -> Frame:
        """Return a marked frame, valid until the next call.

        Args:
            frame: uint8 (H, W, 3) or (H * 3 / 2, W); not changed.

        Raises:
            EngineError: the engine failed, and `say` is None.
        """
        try:
            if self._session is None and self._settings is not None:
                self._session = self._open(self._settings)
            if self._session is not None:
                self._session.write("shown", frame[np.newaxis])
                self._session.run()
                marked: Frame = self._session.read(self._frame.name)[0]
                return marked
        except EngineError as error:
            if self.say is None:
                raise
            self._settings = None
            with suppress(EngineError):  # freeing a failed engine may fail too
                self.close()
            self._session = None
            self.say(f"the mark is added without the engine from now on, which takes longer: {error}")
        return mark_frame(frame, self.plane, self._frame.pixels)

    def close(self) -> None:
        """Free the engine's memory."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _open(self, settings: EngineSettings) -> Session:
        shown = TensorSpec("shown", "uint8", self._frame.shape, "live")
        graph = GraphBuilder("stage.")
        graph.add("Cast", [graph.to_float("shown")], output=self._frame.name, to=TensorProto.UINT8)
        proto = helper.make_graph(graph.nodes, "marking", [value_info(shown)], [value_info(self._frame)])
        model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
        marked = with_mark(model, self._frame).SerializeToString()
        program = Program(marked, (shown, plane_input(self._frame)), (self._frame,))
        session = settings.engine.open(program, "fp32", settings.threads, settings.folder)
        session.write(PLANE, self.plane)
        return session
