"""Prompt -> memory: fills the inputs of the condition graph and runs it, beside the show."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from runtime.engine import Array, Session
from runtime.images import load_image
from runtime.manifest import Graph
from runtime.noise import CODES, check_seed, normals

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


class Conditioner:
    """The condition graph of one generator; safe to use from several threads, which then take turns.

    Args:
        graph: the condition graph of the manifest.
        session: a session of it, which the conditioner owns from now on.
    """

    def __init__(self, graph: Graph, session: Session) -> None:
        self._graph = graph
        self._session = session
        self._lock = threading.Lock()
        self._is_closed = False

    def prepare(self, image: Picture | None, seed: int | None, default_seed: int) -> Memory:
        """Make a memory from what is given; what is not given is zeros.

        Args:
            image: path or uint8 (h, w, 3) RGB array of any size, or None.
            seed: of the content code; None for `default_seed`.
            default_seed: used where no seed was given and the graph takes noise.

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
        memory = self.run(pixels, self.draw(used_seed, 0) if takes_seed else None)
        return Memory(memory.tensors, used_seed if image is None and takes_seed else None)

    def draw(self, seed: int, renewal: int) -> npt.NDArray[np.float32]:
        """Return the fresh part `e_k` of content code number `renewal`: float32 (N,)."""
        tensor = self._graph.only_input("noise")
        return normals(seed, CODES, renewal, 0 if tensor is None else tensor.shape[1])

    def run(self, image: npt.NDArray[np.uint8] | None, code: npt.NDArray[np.float32] | None) -> Memory:
        """Evaluate the graph.

        Args:
            image: uint8 (H, W, 3) RGB of the frame's size, or None.
            code: content code, float32 (N,), or None.

        Returns:
            The memory; it keeps its scene.

        Raises:
            EngineError: the engine failed.
            ValueError: the generator was closed meanwhile.
        """
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

    def close(self) -> None:
        """Wait for a run that is under way, then free the session."""
        with self._lock:
            self._is_closed = True
            self._session.close()
