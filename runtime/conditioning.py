"""Prompt -> memory: fills the inputs of the condition graph and runs it, beside the show."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from runtime.background import Background
from runtime.engine import Array, Session
from runtime.images import load_image
from runtime.noise import CODES, check_seed, normals
from runtime.tensors import Graph

Picture = str | Path | npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Memory:
    """What a generator plays: a picture, a scene, a prompt, as the condition graph made it.

    Args:
        tensors: slot -> read-only array of that slot's dtype and shape.
        seed: the seed that alone made it and whose content codes may renew it; None if it keeps its scene.
    """

    tensors: Mapping[str, Array]
    seed: int | None

    def is_for(self, step: Graph) -> bool:
        """Tell whether a step graph has exactly these slots."""
        slots = {tensor.slot: (tensor.dtype, tensor.shape) for tensor in step.inputs_of("memory_a")}
        return {slot: (str(value.dtype), value.shape) for slot, value in self.tensors.items()} == slots


class Conditioner:
    """The condition graph of one generator; safe to use from several threads, whose jobs then take turns.

    Args:
        graph: the condition graph of the manifest.
        session: a session of it, which the conditioner owns from now on.
    """

    def __init__(self, graph: Graph, session: Session) -> None:
        self._graph = graph
        self._session = session
        self._lock = threading.Lock()
        self._is_closed = False
        self._background: Background[Memory] = Background()

    def prepare(self, image: Picture | None, seed: int | None, default_seed: int, *, beside: bool) -> Memory:
        """Make a memory from what is given; what is not given is zeros.

        Args:
            image: path or uint8 (h, w, 3) RGB array of any size, or None.
            seed: of the content code; None for `default_seed`.
            default_seed: used where no seed was given and the graph takes noise.
            beside: whether a show is on, which the engine's work must give way to.

        Returns:
            The memory, independent of this object.

        Raises:
            ValueError: the graph does not take what was given, or a value is bad.
        """
        takes_seed = self._graph.only_input("noise") is not None
        tensor = self._graph.only_input("image")
        if seed is not None and not takes_seed:
            raise ValueError("this generator takes no seed for its scene; give an image alone")
        if image is not None and tensor is None:
            raise ValueError("this generator takes no image; give a seed")
        if image is None and tensor is not None and not takes_seed:
            raise ValueError("this generator makes nothing without an image: give one")
        pixels = None
        if image is not None and tensor is not None:
            pixels = load_image(image, tensor.shape[2], tensor.shape[1])
        used_seed = check_seed(default_seed if seed is None else seed)
        code = self.draw(used_seed, 0) if takes_seed else None
        memory = self.submit(pixels, code).result() if beside else self._run(pixels, code)
        return Memory(memory.tensors, used_seed if image is None and takes_seed else None)

    def draw(self, seed: int, renewal: int) -> npt.NDArray[np.float32]:
        """Return the fresh part `e_k` of content code number `renewal`: float32 (N,)."""
        tensor = self._graph.only_input("noise")
        return normals(seed, CODES, renewal, 0 if tensor is None else tensor.shape[1])

    def submit(self, image: npt.NDArray[np.uint8] | None, code: npt.NDArray[np.float32] | None) -> Future[Memory]:
        """Evaluate the graph beside the show, in a thread of low priority.

        Args:
            image: uint8 (H, W, 3) RGB of the frame's size, or None.
            code: content code, float32 (N,), or None.

        Returns:
            What gives the memory, which keeps its scene; or raises EngineError, or ValueError after `close`.
        """
        return self._background.submit(lambda: self._run(image, code))

    def close(self) -> None:
        """Wait for a run that is under way, then free the session."""
        self._background.close()
        with self._lock:
            self._is_closed = True
            self._session.close()

    def _run(self, image: npt.NDArray[np.uint8] | None, code: npt.NDArray[np.float32] | None) -> Memory:
        given = {
            tensor.name
            for tensor in self._graph.inputs
            if (tensor.role == "image" and image is not None) or (tensor.role == "noise" and code is not None)
        }
        with self._lock:
            if self._is_closed:
                raise ValueError("this generator is closed")
            for tensor in self._graph.inputs:
                value: Array = np.zeros(tensor.shape, tensor.dtype)
                if tensor.role == "image" and image is not None:
                    value = image[np.newaxis]
                elif tensor.role == "noise" and code is not None:
                    value = code[np.newaxis].astype(np.float32)
                elif tensor.role == "mask" and tensor.of[0] in given:
                    value = np.full(tensor.shape, 255, np.uint8)
                elif tensor.role == "given":
                    value = np.array([[name in given for name in tensor.of]], np.float32)
                self._session.write(tensor.name, value)
            self._session.run()
            tensors = {tensor.name: self._session.read(tensor.name).copy() for tensor in self._graph.outputs}
        for array in tensors.values():
            array.flags.writeable = False
        return Memory(MappingProxyType(tensors), None)
