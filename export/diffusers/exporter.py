"""Exports a pipeline of diffusers as a bundle, which is written only if its frames are those of diffusers.

The parent process imports no PyTorch: parts and reference frames are made in processes of their own, one after the
other, and engines run when these have ended.
"""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.diffusers.assembly import build_condition, build_step, memories, write_graph
from export.diffusers.job import PipelineJob
from export.diffusers.manifest import build_manifest
from export.diffusers.parity import REFERENCE, SEED, EngineResult, ReferenceRun, compare_engines
from export.diffusers.parts import Run, export_parts, reference_frames, run_child
from export.diffusers.pipeline_folder import (
    PipelineFolder,
    check_size,
    part_names,
    read_folder,
    read_text_limits,
)
from export.diffusers.weight_files import file_sha256
from export.external_weights import INLINE_BYTES
from export.folder_writer import atomic_folder
from export.from_onnx.parity import OriginalRun, moving_frames
from export.from_onnx.preview import write_preview
from export.manifest_entries import Entry, write_golden
from export.tokenizer_files import TokenizerSource, read_tokenizer_source, write_tokenizers
from runtime.bundle.reader import open_bundle, write_manifest
from runtime.noise import CODES, normals

MODES = ("img2img", "txt2img")
MAX_STEPS = 8
COMPARED_FRAMES = 3  # with frames of diffusers, before a bundle is written
DEFAULT_STRENGTH, DEFAULT_GUIDANCE = 0.5, 8.0
_BLOCK = 8  # side of the blocks of pixels of the live pictures in golden files


@dataclass(frozen=True)
class DiffusersOptions:
    """Options of an export.

    Args:
        mode: "img2img" or "txt2img".
        steps: UNet steps of a frame, 1 to 8.
        size: (width, height) in pixels; None for the pipeline's own.
        strength: default of the control, in the mode "img2img".
        guidance: default of the control, for pipelines with a guidance embedding.
        precision: "fp32" or "fp16", as weights are stored; "" for FP16 from 100 MB on.
        vae: folder of another autoencoder.
        lora: files or folders of LoRA weights, with their scales.
        scheduler: a name of `pipeline_folder.SCHEDULERS`, or "" for the pipeline's own.
        prompt: text of the golden frames.
        fps: frames per second of a show.
        name, description, licence, source: of the bundle.
        parts: folder in which parts stay for other exports; None for one beside the bundle, which is removed.
        engines: (engine, precision) that the bundle is compared in beside ONNX Runtime in FP32; None for all of this
            machine, or for no others if the weights take 100 MB or more.
    """

    mode: str = "img2img"
    steps: int = 1
    size: tuple[int, int] | None = None
    strength: float = DEFAULT_STRENGTH
    guidance: float = DEFAULT_GUIDANCE
    precision: str = ""
    vae: Path | None = None
    lora: tuple[tuple[Path, float], ...] = ()
    scheduler: str = ""
    prompt: str = "a calm sea"
    fps: Fraction = Fraction(30)
    name: str = ""
    description: str = ""
    licence: str = "not stated"
    source: str = "not stated"
    parts: Path | None = None
    engines: Sequence[tuple[str, str]] | None = None


@dataclass(frozen=True)
class DiffusersReport:
    """Result of an export: the engines, and the most memory that one process took, in bytes."""

    results: tuple[EngineResult, ...]
    peak_bytes: int
    delay: int


def export_pipeline(
    path: Path,
    out: Path,
    options: DiffusersOptions | None = None,
    *,
    force: bool = False,
    run: Run = run_child,
    say: Callable[[str], object] = print,
) -> DiffusersReport:
    """Export a pipeline from its folder.

    Args:
        path: folder of the pipeline, as `save_pretrained` writes it.
        out: the bundle's folder; must not exist unless `force`. It appears, or is replaced, at the very end.
        options: None for the defaults.
        force: replace an existing bundle.
        run: does what needs PyTorch; a process for each part by default.
        say: called with a line for each stage.

    Raises:
        ValueError: the pipeline is not supported, or its frames differ from those of diffusers; nothing is written.
    """
    options = options or DiffusersOptions()
    folder = read_folder(path, vae=options.vae, lora=options.lora, scheduler=options.scheduler)
    job = make_job(path, folder, options)
    tokenizers = {
        name: _read_tokenizer(path, part) for name, part in zip(("clip", "clip_2"), folder.text_encoders, strict=False)
    }
    cache = options.parts or out.parent / f".{out.name}.parts"
    naming = contextlib.nullcontext() if options.parts is not None else _named_parts(cache)
    with atomic_folder(out, force=force) as target, naming:
        say(
            f"{path.name}: {folder.family}, {folder.scheduler}, {job.width}x{job.height}, {job.mode}, {job.steps} steps"
        )
        hashes = {file: file_sha256(file) for file in folder.weight_files}
        names = part_names(folder, job.mode)
        parts = export_parts(job, folder, names, cache, hashes=hashes, run=run, say=say)
        graphs: Entry = {}
        for name, (model, entry) in (
            ("condition", build_condition(folder, job, parts)),
            ("step", build_step(folder, job, parts)),
        ):
            graphs[name] = {**entry, **write_graph(model, target, name)}
        text = write_tokenizers(target, tokenizers, licence=options.licence, source=options.source)
        say(f"diffusers: {COMPARED_FRAMES} frames to compare with ...")
        reference = make_reference(job, options.prompt, memories(folder, job, parts)["noise"], cache, run=run)
        manifest = build_manifest(
            folder,
            job,
            name=options.name or re.sub(r"[^a-z0-9._-]+", "-", out.name.lower()).strip("-._")[:64] or "pipeline",
            description=options.description or f"{path.name}, exported from diffusers.",
            fps=options.fps,
            graphs=graphs,
            text=text,
            sources=hashes,
            licence=options.licence,
            source=options.source,
        )
        manifest["golden"] = [_write_pictures(target, reference)]
        write_manifest(target, manifest)
        say("the bundle: comparing its frames with those of diffusers ...")
        is_large = sum(file.stat().st_size for file in hashes) > INLINE_BYTES
        engines = (REFERENCE,) if options.engines is None and is_large else options.engines
        results = compare_engines(target, reference, engines)
        manifest["verified"] = {
            "parity": [result.check.to_json() for result in results if result.check is not None],
            "refusals": [result.refusal for result in results if result.refusal],
        }
        write_manifest(target, manifest)
        open_bundle(target)
    if options.parts is None:
        shutil.rmtree(cache, ignore_errors=True)
    return DiffusersReport(tuple(results), peak_memory(), reference.delay)


def make_job(path: Path, folder: PipelineFolder, options: DiffusersOptions) -> PipelineJob:
    """Check the options and return the job; raises ValueError."""
    if options.mode not in MODES:
        raise ValueError(f"--mode must be one of {', '.join(MODES)}, got {options.mode!r}")
    if not 1 <= options.steps <= MAX_STEPS:
        raise ValueError(f"--steps must be from 1 to {MAX_STEPS}, got {options.steps}: more are too slow for a show")
    if not 0 < options.strength <= 1:
        raise ValueError(f"--strength must be above 0 and at most 1, got {options.strength:g}")
    if not 1 <= options.guidance <= 15:
        raise ValueError(f"--guidance must be from 1 to 15, got {options.guidance:g}")
    size = options.size or folder.default_size
    check_size(folder, size)
    total = sum(file.stat().st_size for file in folder.weight_files)
    return PipelineJob(
        folder=str(path.resolve()),
        vae="" if options.vae is None else str(options.vae.resolve()),
        lora=tuple((str(source.resolve()), scale) for source, scale in options.lora),
        scheduler=options.scheduler,
        mode=options.mode,
        steps=options.steps,
        width=size[0],
        height=size[1],
        halve=options.precision == "fp16" or (not options.precision and total > INLINE_BYTES),
        strength=options.strength if options.mode == "img2img" else 1.0,
        guidance=options.guidance,
    )


def seed_noise(shape: tuple[int, ...], seed: int = SEED, index: int = 0) -> npt.NDArray[np.float32]:
    """Return the noise that the runtime draws for a seed and its renewal `index`, float32 of a shape."""
    return normals(seed, CODES, index, math.prod(shape)).reshape(shape)


def make_reference(
    job: PipelineJob, prompt: str, noise_shape: tuple[int, ...], scratch: Path, *, run: Run = run_child
) -> ReferenceRun:
    """Return frames of diffusers for the first seed and a moving live picture."""
    live = None
    if job.mode == "img2img":
        live = moving_frames(job.height, job.width, COMPARED_FRAMES, block=_BLOCK)
    count = 1 if live is None else COMPARED_FRAMES
    noise = np.repeat(seed_noise(noise_shape)[np.newaxis], count, axis=0)
    made = reference_frames(job, prompt, noise, live, scratch, run=run)
    frames = made if live is not None else np.repeat(made, COMPARED_FRAMES, axis=0)
    return ReferenceRun(frames, live, prompt, job.steps - 1)


def _read_tokenizer(path: Path, part: str) -> TokenizerSource:
    """Read the tokenizer of a text encoder, and check that it fits; raises ValueError."""
    folder = path / part.replace("text_encoder", "tokenizer")
    source = read_tokenizer_source(folder)
    length, vocabulary = read_text_limits(path / part)
    if source.length != length:
        raise ValueError(
            f"{folder} makes texts of {source.length} tokens, but {part} takes {length}: mend the pipeline"
        )
    if source.size > vocabulary:
        raise ValueError(f"{folder} has {source.size} tokens, but {part} knows {vocabulary}: mend the pipeline")
    return source


@contextlib.contextmanager
def _named_parts(cache: Path) -> Iterator[None]:
    """Say in an error where exported parts are."""
    try:
        yield
    except ValueError as error:
        if not any(cache.glob("*.json")):
            raise
        raise ValueError(
            f"{error}. Exported parts stay in {cache}: the same command reuses them; delete the folder otherwise"
        ) from error


def peak_memory() -> int:
    """Return the most memory that this process or one of its children had in main memory, in bytes; 0 if unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) * unit


def _write_pictures(target: Path, run: ReferenceRun) -> Entry:
    """Write the golden file and preview.png; returns the entry of the golden file."""
    height, width = run.frames.shape[1:3]
    empty = np.zeros((height, width, 3), np.uint8)  # frames of a show before the first picture has come through
    frames = [*[empty] * run.delay, *run.frames]
    numbers = [run.delay + 1, run.delay + 2] if run.live is not None else [run.delay + 1]
    live = None if run.live is None else np.roll(run.live, run.delay, axis=0)  # beside the frame made of it
    write_preview(target, OriginalRun(frames, None, live, 0.0, 1.0, 0.0), numbers)
    return write_golden(target, "diffusers", frames, numbers, seed=SEED, live=run.live, text=run.prompt)
