"""The inputs of the condition graph for one prompt."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from runtime.bundle.tensors import GraphSpec
from runtime.engines.engine import Array
from runtime.prompts.hinted_scenes import raster_for
from runtime.prompts.scene import Prompt


def condition_inputs(
    graph: GraphSpec,
    prompt: Prompt,
    code: npt.NDArray[np.float32] | None,
    text_inputs: Mapping[str, Array],
    steps_per_s: float,
) -> dict[str, Array]:
    """Return the value of every input; what the prompt does not give is zeros.

    Args:
        graph: the condition graph of the manifest.
        prompt: the prompt.
        code: content code, float32 (N,), or None.
        text_inputs: input -> value of what a text fills, also those that stand for no text.
        steps_per_s: how often a second things move by the flow of a scene, for hints.
    """
    values = {"image": prompt.image, "clip": prompt.clip, "noise": code, "moving": prompt.moving}
    given = {tensor.name for tensor in graph.inputs if values.get(tensor.role) is not None}
    given |= set() if prompt.text is None else set(text_inputs)
    inputs: dict[str, Array] = {}
    for tensor in graph.inputs:
        inputs[tensor.name] = np.zeros(tensor.shape, tensor.dtype)
        if tensor.name in text_inputs:
            inputs[tensor.name] = text_inputs[tensor.name]
        elif tensor.role == "hints":
            inputs[tensor.name] = raster_for(graph, prompt.hints, steps_per_s)
        elif (content := values.get(tensor.role)) is not None:
            inputs[tensor.name] = content[np.newaxis]
        elif tensor.role == "moving" and prompt.where is not None:
            inputs[tensor.name] = prompt.where[np.newaxis]
        elif tensor.role == "moving" or (tensor.role == "mask" and tensor.of[0] in given):
            inputs[tensor.name] = np.full(tensor.shape, 255, np.uint8)
        elif tensor.role == "given":
            inputs[tensor.name] = np.array([[name in given for name in tensor.of]], np.float32)
    return inputs
