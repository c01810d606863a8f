"""Loads a pipeline, or some of its parts, in the library diffusers; in FP32, rounded to FP16 if the job says so."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from export.diffusers.job import PipelineJob
from export.diffusers.pipeline_folder import PipelineFolder
from export.diffusers.weight_files import weight_variant
from export.packed_weights import MIN_PACKED

PIPELINES = {
    ("sd", "txt2img"): "StableDiffusionPipeline",
    ("sd", "img2img"): "StableDiffusionImg2ImgPipeline",
    ("lcm", "txt2img"): "LatentConsistencyModelPipeline",
    ("lcm", "img2img"): "LatentConsistencyModelImg2ImgPipeline",
    ("sdxl", "txt2img"): "StableDiffusionXLPipeline",
    ("sdxl", "img2img"): "StableDiffusionXLImg2ImgPipeline",
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars, advice and warnings of the libraries: they do not concern the user."""
    import diffusers
    import transformers

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "diffusers", "transformers", "peft")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        diffusers.utils.logging.disable_progress_bar()
        transformers.utils.logging.disable_progress_bar()
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def load_scheduler(folder: PipelineFolder) -> Any:
    """Return the pipeline's scheduler."""
    import diffusers

    return getattr(diffusers, folder.scheduler).from_config(folder.scheduler_config)


def load_pipeline(job: PipelineJob, parts: Sequence[str] = (), *, rounded: bool = True) -> Any:
    """Load a pipeline, with LoRA weights fused.

    Args:
        job: of the export.
        parts: what is needed of "unet", "vae" and the text encoders; () for all. The others are None.
        rounded: whether the job's rounding to FP16 is done.

    Returns:
        The pipeline of diffusers of the job's mode, in FP32 and ready to run.

    Raises:
        ValueError: diffusers cannot load it; in one sentence.
    """
    import diffusers

    folder = job.read()
    every = (*folder.text_encoders, "unet", "vae")
    wanted = set(parts or every) | ({*folder.text_encoders, "unet"} if folder.lora and set(parts) != {"vae"} else set())
    kind = getattr(diffusers, PIPELINES[folder.family, job.mode])
    options: dict[str, Any] = {name: None for name in every if name not in wanted}
    if folder.family != "sdxl":
        options |= {"safety_checker": None, "requires_safety_checker": False}
    options |= {"feature_extractor": None, "image_encoder": None, "scheduler": load_scheduler(folder)}
    try:
        if "vae" in wanted:
            options["vae"] = _load_vae(folder)
        pipeline = kind.from_pretrained(
            folder.path,
            local_files_only=True,
            use_safetensors=True,
            torch_dtype=torch.float32,
            variant=folder.variant or None,
            **options,
        )
        for source, scale in folder.lora if "unet" in wanted else ():
            _fuse(pipeline, source, scale)
    except (OSError, KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"diffusers cannot load {folder.path}: {_one_line(error)}") from error
    pipeline.set_progress_bar_config(disable=True)
    for name in every:
        module = getattr(pipeline, name)
        if isinstance(module, nn.Module):
            module.eval().requires_grad_(False)
            if job.halve and rounded:
                round_weights(module)
    return pipeline


def round_weights(module: nn.Module) -> None:
    """Round the weights that are stored in FP16 to it, in place; values outside of its range stay."""
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.dtype == torch.float32 and tensor.numel() >= MIN_PACKED:
            rounded = tensor.half().float()
            tensor.copy_(torch.where(rounded.isfinite(), rounded, tensor))


def _load_vae(folder: PipelineFolder) -> Any:
    import diffusers

    kind = getattr(diffusers, str(folder.vae["_class_name"]))
    variant = weight_variant(folder.vae_path) or None
    return kind.from_pretrained(
        folder.vae_path, local_files_only=True, use_safetensors=True, torch_dtype=torch.float32, variant=variant
    )


def _fuse(pipeline: Any, source: Any, scale: float) -> None:
    """Add LoRA weights to the weights of the pipeline."""
    if source.is_dir():
        pipeline.load_lora_weights(source, weight_name=sorted(source.glob("*.safetensors"))[0].name)
    else:
        pipeline.load_lora_weights(source.parent, weight_name=source.name)
    pipeline.fuse_lora(lora_scale=scale)
    pipeline.unload_lora_weights()


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
