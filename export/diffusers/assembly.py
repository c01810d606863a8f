"""Builds the step graph and the condition graph of a bundle from the parts of a pipeline (docs/diffusers.md).

Legend: N steps, K latents of constant noise, h and w of the latent; the batch of a frame is 1.

The step graph is the stream batch of StreamDiffusion (Kodaira et al. 2023): the N steps of N frames that are under way
run as one batch of the UNet. N - 1 latents are the state, and a frame comes out N - 1 frames after its picture went in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from export.diffusers.job import PipelineJob
from export.diffusers.pipeline_folder import LATENT_CHANNELS, PipelineFolder
from export.diffusers.schedule import ScheduleTables
from export.external_weights import INLINE_BYTES, load_external, read_external, save_external, weight_bytes
from export.from_onnx.model import OPSET
from export.from_onnx.pixels import GraphFragment, PictureSpec, from_pixels, to_i420, to_picture, to_rgb
from export.manifest_entries import Entry

IR_VERSION = 10
_LEAST_VARIANCE = 1e-4


@dataclass(frozen=True)
class ExportedParts:
    """The parts of a pipeline on disk.

    Args:
        folder: with `PART.onnx` and `PART.weights`.
        facts: of each part, from `export_part`.
        tables: of the scheduler.
    """

    folder: Path
    facts: Mapping[str, Mapping[str, Any]]
    tables: ScheduleTables

    def shape(self, part: str, tensor: str) -> tuple[int, ...]:
        """Return the shape of an input or output of a part."""
        return tuple(self.facts[part]["shapes"][tensor])

    def embed(self, graph: GraphFragment, part: str, inputs: Mapping[str, str]) -> dict[str, str]:
        """Add a part's nodes to a graph.

        Args:
            graph: the nodes are added here; weights stay in the part's file.
            part: its name.
            inputs: tensor of the graph for each input of the part.

        Returns:
            The tensor of the graph for each of its outputs.
        """
        model = read_external(self.folder / f"{part}.onnx")
        given = {value.name for value in model.graph.input}
        for name, tensor in inputs.items():
            if name in given:  # an input that the part does not depend on is gone
                graph.add("Identity", tensor, out=f"{part}/{name}")
        graph.embed(model, f"{part}/")
        return {name: f"{part}/{name}" for name in self.facts[part]["outputs"]}


def memories(folder: PipelineFolder, job: PipelineJob, parts: ExportedParts) -> dict[str, tuple[int, ...]]:
    """Return the shape of every memory, by its slot: "prompt", "pooled" (SDXL) and "noise"."""
    found = {"prompt": parts.shape("unet", "embedding")}
    if folder.family == "sdxl":
        found["pooled"] = parts.shape("unet", "pooled")
    rows, columns = job.height // folder.scale, job.width // folder.scale
    found["noise"] = (job.num_noises(folder.scheduler), LATENT_CHANNELS, rows, columns)
    return found


def build_condition(folder: PipelineFolder, job: PipelineJob, parts: ExportedParts) -> tuple[onnx.ModelProto, Entry]:
    """Build the condition graph: tokens -> embeddings, and a seed's noise -> the constant noise of the steps.

    Returns:
        The model, whose weights lie in the files of the parts, and its manifest entry without `file`.
    """
    graph, entries, shapes = GraphFragment(), [], memories(folder, job, parts)
    embeddings, pooled = [], ""
    for place, part in enumerate(folder.text_encoders):
        shape = parts.shape(part, "tokens")
        name = graph.add_input(part.replace("text_encoder", "tokens"), "int64", shape)
        tokenizer = "clip" if place == 0 else "clip_2"
        entries.append(_entry(name, "int64", shape, "tokens", tokenizer=tokenizer))
        made = parts.embed(graph, part, {"tokens": name})
        embeddings.append(made["embedding"])
        pooled = made.get("pooled", pooled)
    total = 1
    for side in shapes["noise"]:
        total *= side
    code = graph.add_input("code", "float32", (1, total))
    entries.append(_entry(code, "float32", (1, total), "noise"))
    if len(embeddings) > 1:
        graph.add("Concat", *embeddings, out="prompt", axis=-1)
        graph.add("Identity", pooled, out="pooled")
    else:
        graph.add("Identity", embeddings[0], out="prompt")
    graph.add("Reshape", code, graph.constant(list(shapes["noise"]), "int64"), out="noise")
    for slot, shape in shapes.items():
        graph.add_output(slot, "float32", shape)
    outputs = [_entry(slot, "float32", shape, "memory") for slot, shape in shapes.items()]
    return _model(graph, "condition"), {"inputs": entries, "outputs": outputs}


def build_step(folder: PipelineFolder, job: PipelineJob, parts: ExportedParts) -> tuple[onnx.ModelProto, Entry]:
    """Build the step graph: encode, add noise, N steps of the UNet as one batch, decode; see `build_condition`."""
    graph, steps = GraphFragment(), job.steps
    entries: list[Entry] = []
    mixed = _add_memories(graph, memories(folder, job, parts), entries)
    level, guidance = _add_controls(graph, folder, job, parts.tables, entries)
    first = graph.add("Slice", mixed["noise"], *_bounds(graph, 0, 1))  # (1, 4, h, w)
    fresh = graph.add("Mul", first, _gathered(graph, parts.tables.noise, level))
    if job.mode == "img2img":
        pixels_shape = (1, job.height, job.width, 3)
        graph.add_input("live", "uint8", pixels_shape)
        entries.append(_entry("live", "uint8", pixels_shape, "live"))
        from_pixels(graph, "live", (job.height, job.width), _picture(job), "frame/live")
        latent = parts.embed(graph, "encoder", {"picture": "frame/live"})["latent"]
        fresh = graph.add("Add", graph.add("Mul", latent, _gathered(graph, parts.tables.latent, level)), fresh)
    batch = fresh
    waiting = (steps - 1, *parts.shape("unet", "latents")[1:])
    if steps > 1:
        graph.add_input("latents", "float32", waiting)
        entries.append(_entry("latents", "float32", waiting, "state", next="next_latents"))
        batch = graph.add("Concat", fresh, "latents", axis=0)  # (N, 4, h, w)
    moved = _denoised(graph, folder, parts, batch, mixed, level, guidance)
    last = moved
    if steps > 1:
        last = graph.add("Slice", moved, *_bounds(graph, steps - 1, steps))
        graph.add("Slice", moved, *_bounds(graph, 0, steps - 1), out="next_latents")
    decoded = parts.embed(graph, "decoder", {"latent": last})["picture"]
    size = (job.height, job.width)
    to_picture(graph, decoded, _picture(job), size, "picture")
    to_rgb(graph, "picture", "rgb")
    to_i420(graph, "picture", size, "i420")
    frames = {"rgb": (1, *size, 3), "i420": (1, job.height * 3 // 2, job.width)}
    outputs = []
    for pixels, shape in frames.items():
        graph.add_output(pixels, "uint8", shape)
        outputs.append(_entry(pixels, "uint8", shape, "frame", pixels=pixels))
    if steps > 1:
        graph.add_output("next_latents", "float32", waiting)
        outputs.append(_entry("next_latents", "float32", waiting, "state"))
    return _model(graph, "step"), {"inputs": entries, "outputs": outputs, "picture": "picture"}


def write_graph(model: onnx.ModelProto, folder: Path, name: str) -> dict[str, str]:
    """Write a graph of a bundle; large weights in a file of their own.

    Returns:
        The keys `file` and, for large weights, `weights` of its manifest entry.
    """
    path = folder / f"{name}.onnx"
    if weight_bytes(model) <= INLINE_BYTES:
        load_external(model)
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())
        return {"file": path.name}
    save_external(model, path, folder / f"{name}.weights")
    return {"file": path.name, "weights": f"{name}.weights"}


def _add_memories(graph: GraphFragment, shapes: Mapping[str, tuple[int, ...]], entries: list[Entry]) -> dict[str, str]:
    """Add both memories of every slot and their cross-fade; noise keeps its variance."""
    for slot, shape in shapes.items():
        for side in "ab":
            graph.add_input(f"{side}_{slot}", "float32", shape)
            entries.append(_entry(f"{side}_{slot}", "float32", shape, f"memory_{side}", slot=slot))
    mix = graph.add_input("mix", "float32", (1,))
    entries.append(_entry(mix, "float32", (1,), "mix"))
    mixed = {}
    for slot in shapes:
        one, other = f"a_{slot}", f"b_{slot}"
        mixed[slot] = graph.add("Add", one, graph.add("Mul", mix, graph.add("Sub", other, one)))
    # With shares s and m = 1 - s, the variance is s^2 + m^2 + 2 s m r, where r is the correlation: 1 for equal noise,
    # which a prompt with the same seed has, about 0 for two seeds.
    rest = graph.add("Sub", graph.constant([1.0]), mix)
    product, one, other = (
        graph.add("ReduceMean", graph.add("Mul", f"{first}_noise", f"{second}_noise"), keepdims=0)
        for first, second in ("ab", "aa", "bb")
    )
    size = graph.add("Max", graph.add("Sqrt", graph.add("Mul", one, other)), graph.constant(_LEAST_VARIANCE))
    correlation = graph.add("Clip", graph.add("Div", product, size), graph.constant(0.0), graph.constant(1.0))
    squares = graph.add("Add", graph.add("Mul", mix, mix), graph.add("Mul", rest, rest))
    both = graph.add("Mul", graph.add("Mul", graph.add("Mul", mix, rest), graph.constant(2.0)), correlation)
    variance = graph.add("Max", graph.add("Add", squares, both), graph.constant([_LEAST_VARIANCE]))
    mixed["noise"] = graph.add("Div", mixed["noise"], graph.add("Sqrt", variance))
    return mixed


def _add_controls(
    graph: GraphFragment, folder: PipelineFolder, job: PipelineJob, tables: ScheduleTables, entries: list[Entry]
) -> tuple[str, str]:
    """Add the controls; returns the level of strength, int64 (), and the guidance scale (1,) or ""."""
    names = control_names(folder, job)
    if not names:
        return graph.constant(tables.levels - 1, "int64"), ""
    shape = (1, len(names))
    graph.add_input("control", "float32", shape)
    entries.append(_entry("control", "float32", shape, "control"))
    values = {
        name: graph.add("Gather", "control", graph.constant([place], "int64"), axis=1)  # (1, 1)
        for place, name in enumerate(names)
    }
    scalar = graph.constant([], "int64")
    level = graph.constant(tables.levels - 1, "int64")
    if "strength" in values:
        place = graph.add(
            "Sub", graph.add("Mul", values["strength"], graph.constant(tables.levels)), graph.constant(1.0)
        )
        place = graph.add("Clip", graph.add("Round", place), graph.constant(0.0), graph.constant(tables.levels - 1))
        level = graph.add("Reshape", graph.cast(place, "int64"), scalar)
    guidance = ""
    if "guidance" in values:
        guidance = graph.add("Reshape", values["guidance"], graph.constant([1], "int64"))
    return level, guidance


def control_names(folder: PipelineFolder, job: PipelineJob) -> list[str]:
    """Return the controls of the step graph, in the order of their index."""
    strength = ["strength"] if job.mode == "img2img" else []
    return [*strength, *(["guidance"] if folder.guidance_values else [])]


def _denoised(
    graph: GraphFragment,
    folder: PipelineFolder,
    parts: ExportedParts,
    batch: str,
    mixed: Mapping[str, str],
    level: str,
    guidance: str,
) -> str:
    """Add one step of every latent of the batch, (N, 4, h, w) -> the same."""
    tables = parts.tables
    steps = tables.timestep.shape[1]
    timesteps = graph.add("Gather", graph.constant(tables.timestep), level, axis=0)  # (N,)
    scaled = graph.add("Mul", batch, _gathered(graph, tables.scale, level))
    inputs = {"latents": scaled, "timesteps": timesteps, "embedding": mixed["prompt"]}
    if folder.family == "sdxl":
        inputs["pooled"] = mixed["pooled"]
    if guidance:
        inputs["guidance"] = guidance
    predicted = parts.embed(graph, "unet", inputs)["predicted"]
    kept = graph.add("Mul", batch, _gathered(graph, tables.keep, level))
    moved = graph.add("Add", kept, graph.add("Mul", predicted, _gathered(graph, tables.add, level)))
    if steps > 1 and tables.renoise.any():
        # Step i adds the noise i + 1; the last one, whose factor is 0, gets the first.
        order = graph.constant([*range(1, steps), 0], "int64")
        noise = graph.add("Gather", mixed["noise"], order, axis=0)
        moved = graph.add("Add", moved, graph.add("Mul", noise, _gathered(graph, tables.renoise, level)))
    return moved


def _gathered(graph: GraphFragment, table: Any, level: str) -> str:
    """Add the row of a table, (L, N) or (L,), as (N, 1, 1, 1) or (1, 1, 1, 1)."""
    columns = table.reshape(len(table), -1)
    return graph.add("Gather", graph.constant(columns.reshape(*columns.shape, 1, 1, 1)), level, axis=0)


def _bounds(graph: GraphFragment, start: int, end: int) -> list[str]:
    return [graph.constant([value], "int64") for value in (start, end, 0)]


def _picture(job: PipelineJob) -> PictureSpec:
    return PictureSpec((1, 3, job.height, job.width), "float32", "nchw", "rgb", "-1..1")


def _model(graph: GraphFragment, name: str) -> onnx.ModelProto:
    made = onnx.helper.make_graph(graph.nodes, name, graph.inputs, graph.outputs, graph.constants)
    opset = onnx.helper.make_opsetid("", OPSET)
    return onnx.helper.make_model(made, opset_imports=[opset], ir_version=IR_VERSION)


def _entry(name: str, dtype: str, shape: tuple[int, ...], role: str, **extra: str) -> Entry:
    return {"name": name, "dtype": dtype, "shape": list(shape), "role": role, **extra}
