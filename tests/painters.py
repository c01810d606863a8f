"""Small bundles of schema 1 that paint a picture from a text or a seed, and a painter for shows that needs no process.

What they paint: one colour that depends on the words and the code, darker from left to right by the control "shade".
With `stages`, colours pass through a row of states like latents through a stream batch: the picture is complete after
so many frames, and they have come to rest after one more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from runtime import EngineError
from runtime.bundle.reader import read_manifest, write_manifest
from runtime.painting import PicturePainter
from streaming.painting.painter import Painter
from streaming.sinks.sink import Picture
from tests.runtime.prompted import DIMENSIONS, TEXT, write_text
from tests.streaming.doubles import WAIT_S
from tests.tiny import GraphBuilder, tensor

WIDTH, HEIGHT, CODE = 48, 32, 4


def build(folder: Path, *, text: bool = True, seed: bool = True, stages: int = 0, live: bool = False) -> Path:
    """Write a bundle that paints, and return its folder.

    Args:
        folder: where; made if missing.
        text, seed: what it paints from.
        stages: number of states that a colour passes through; 0 for none.
        live: whether it needs a live input.
    """
    folder.mkdir(parents=True, exist_ok=True)
    graphs = {}
    parts = {"step": _step(stages, live=live, has_memory=text or seed)}
    if text or seed:
        parts["condition"] = _condition(text=text, seed=seed)
    for name, (model, part) in parts.items():
        onnx.save(model, folder / f"{name}.onnx")
        graphs[name] = part
    if text:
        write_text(folder)
    shade = {"name": "shade", "description": "how dark the right is", "unit": "share", "index": 0}
    value = {
        "schema": 1,
        "name": "painter",
        "description": "Paints one colour, for tests.",
        "frame": {"width": WIDTH, "height": HEIGHT, "fps": "30", "colour": "bt709"},
        "graphs": graphs,
        "controls": [{**shade, "minimum": 0, "maximum": 1, "default": 0}],
        "renewal": None,
        "text": TEXT if text else None,
        "golden": [],
        "provenance": {"data": [], "imported": [{"source": "the tests", "licence": "CC0-1.0"}]},
        "verified": {},
    }
    write_manifest(folder, value)
    return folder


class HeldPainter(Painter):
    """A painter that paints in this process, and waits for a permit before each picture if it is held.

    Args:
        bundle: as `build` writes it.
        options: of `Painter`.

    Attributes:
        permits: one is taken for each picture while `is_held`.
        begun: is released when a picture is begun.
        jobs: what was asked for.
        failure: raised instead of painting, once.
    """

    def __init__(self, bundle: Path, **options: Any) -> None:
        super().__init__(bundle, read_manifest(bundle), **options)
        self.is_held, self.permits, self.begun = False, threading.Semaphore(0), threading.Semaphore(0)
        self.jobs: list[dict[str, Any]] = []
        self.failure: Exception | None = None
        self._own = PicturePainter.open(bundle, engine="onnxruntime", threads=1)

    def close(self) -> None:
        """Let go whoever waits, and free the engine."""
        super().close()
        self.permits.release(100)
        self._own.close()

    def _ask(self, job: Mapping[str, Any], is_wanted: Callable[[], bool]) -> tuple[Picture, str] | None:
        self.jobs.append({name: value for name, value in job.items() if name != "controls"})
        self.begun.release()
        if self.is_held:
            assert self.permits.acquire(timeout=WAIT_S)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        try:
            picture = list(self._own.paint(**job))[-1].picture
        except ValueError as error:
            raise EngineError(str(error)) from error
        scene = self._own.generator.scene
        return picture, "" if scene is None else scene.note


def _condition(*, text: bool, seed: bool) -> tuple[onnx.ModelProto, dict[str, Any]]:
    rng = np.random.default_rng(7)
    graph, sums, inputs = GraphBuilder(), [], []
    if text:
        sums.append(graph.add("MatMul", "words", graph.constant(3 * rng.normal(size=(DIMENSIONS, 3)))))
        inputs.append(tensor("words", "float32", (1, DIMENSIONS), "text"))
    if seed:
        sums.append(graph.add("MatMul", "code", graph.constant(rng.normal(size=(CODE, 3)))))
        inputs.append(tensor("code", "float32", (1, CODE), "noise"))
    total = graph.add("Add", *sums) if len(sums) == 2 else sums[0]
    graph.add("Sigmoid", total, out="hue")
    outputs = [tensor("hue", "float32", (1, 3), "memory")]
    return graph.to_model(inputs, outputs), {"file": "condition.onnx", "inputs": inputs, "outputs": outputs}


def _step(stages: int, *, live: bool, has_memory: bool) -> tuple[onnx.ModelProto, dict[str, Any]]:
    graph, inputs, outputs = GraphBuilder(), [], []
    hue = graph.constant([[0.2, 0.5, 0.8]])
    if has_memory:
        inputs += [tensor(f"{side}_hue", "float32", (1, 3), f"memory_{side}", slot="hue") for side in "ab"]
        inputs.append(tensor("mix", "float32", (1,), "mix"))
        hue = graph.add("Add", "a_hue", graph.add("Mul", "mix", graph.add("Sub", "b_hue", "a_hue")))
    for number in range(stages):
        graph.add("Identity", hue, out=f"latent_{number}_next")
        inputs.append(tensor(f"latent_{number}", "float32", (1, 3), "state", next=f"latent_{number}_next"))
        outputs.append(tensor(f"latent_{number}_next", "float32", (1, 3), "state"))
        hue = f"latent_{number}"
    inputs.append(tensor("control", "float32", (1, 1), "control"))
    ramp = graph.constant(np.linspace(0, 1, WIDTH).reshape(1, 1, 1, WIDTH))
    shade = graph.add("Sub", graph.constant(1), graph.add("Mul", ramp, "control"))
    colour = graph.add("Reshape", hue, graph.constant([1, 3, 1, 1], np.int64))
    full = graph.add("Mul", graph.add("Mul", colour, shade), graph.constant(np.ones((1, 1, HEIGHT, 1))))
    if live:
        inputs.append(tensor("live", "uint8", (1, HEIGHT, WIDTH, 3), "live"))
        seen = graph.add("Transpose", graph.add("Cast", "live", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
        full = graph.add("Mul", full, graph.add("Mul", seen, graph.constant(1 / 255)))
    graph.add("Identity", full, out="picture")
    levels = graph.add("Round", graph.add("Mul", "picture", graph.constant(255)))
    graph.add("Transpose", graph.add("Cast", levels, to=TensorProto.UINT8), perm=[0, 2, 3, 1], out="rgb")
    grey = graph.add("ReduceMean", "picture", graph.constant([1], np.int64), keepdims=0)
    luma = graph.add("Add", graph.add("Mul", grey, graph.constant(219)), graph.constant(16))
    planes = graph.add("Concat", luma, graph.constant(np.full((1, HEIGHT // 2, WIDTH), 128)), axis=1)
    graph.add("Cast", graph.add("Round", planes), to=TensorProto.UINT8, out="i420")
    outputs += [
        tensor("rgb", "uint8", (1, HEIGHT, WIDTH, 3), "frame", pixels="rgb"),
        tensor("i420", "uint8", (1, HEIGHT * 3 // 2, WIDTH), "frame", pixels="i420"),
    ]
    part = {"file": "step.onnx", "inputs": inputs, "outputs": outputs, "picture": "picture"}
    return graph.to_model(inputs, outputs), part
