"""The folder of a diffusers pipeline: what it holds, and whether it can be exported. Imports no PyTorch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.diffusers.weight_files import weight_files, weight_variant
from runtime.errors import printable

FAMILIES = {
    "StableDiffusionPipeline": "sd",
    "StableDiffusionImg2ImgPipeline": "sd",
    "LatentConsistencyModelPipeline": "lcm",
    "LatentConsistencyModelImg2ImgPipeline": "lcm",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusionXLImg2ImgPipeline": "sdxl",
}
# Names of --scheduler, and what they stand for.
SCHEDULERS = {
    "lcm": "LCMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-ancestral": "EulerAncestralDiscreteScheduler",
    "ddim": "DDIMScheduler",
}
AUTOENCODERS = ("AutoencoderTiny", "AutoencoderKL")
LATENT_CHANNELS = 4
CLIP_LENGTH, CLIP_VOCABULARY = 77, 49408  # of text encoders whose settings do not state them
_MAX_JSON_BYTES = 2**20
_SHOWN_CHARACTERS = 80  # of a value of a file, in a message
# Settings of a scheduler that change its arithmetic, and the only values that are supported.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "prediction_type": ("epsilon", "v_prediction"),
    "thresholding": (False,),
    "clip_sample": (False,),
    "use_karras_sigmas": (False, None),
    "use_exponential_sigmas": (False, None),
    "use_beta_sigmas": (False, None),
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "final_sigmas_type": ("zero",),
}
# Their values where a file does not state them (diffusers 0.42).
_DEFAULTS = {"clip_sample": {"DDIMScheduler": True}}


@dataclass(frozen=True)
class PipelineFolder:
    """A pipeline that can be exported.

    Args:
        path: of the folder.
        family: "sd", "lcm" or "sdxl".
        scheduler: class of the scheduler, after --scheduler.
        unet, vae, scheduler_config: their settings.
        vae_path: folder of the autoencoder.
        lora: files and folders of LoRA weights, with their scale.
        variant: "fp16" if only weights of that name are there, else "".
    """

    path: Path
    family: str
    scheduler: str
    unet: dict[str, Any]
    vae: dict[str, Any]
    scheduler_config: dict[str, Any]
    vae_path: Path
    lora: tuple[tuple[Path, float], ...] = ()
    variant: str = ""

    @property
    def text_encoders(self) -> tuple[str, ...]:
        """Names of the text encoders."""
        return ("text_encoder", "text_encoder_2") if self.family == "sdxl" else ("text_encoder",)

    @property
    def scale(self) -> int:
        """Pixels of a picture for each value of a latent, in each direction."""
        return int(2 ** (len(self.vae.get(_channels_key(self.vae), (64,) * 4)) - 1))

    @property
    def is_tiny(self) -> bool:
        """Whether the autoencoder is an AutoencoderTiny."""
        return bool(self.vae["_class_name"] == "AutoencoderTiny")

    @property
    def default_size(self) -> tuple[int, int]:
        """(width, height) in pixels that the pipeline was trained for."""
        side = int(self.unet.get("sample_size") or 64) * self.scale
        return side, side

    @property
    def text_length(self) -> int:
        """Tokens of a text."""
        return read_text_limits(self.path / "text_encoder")[0]

    @property
    def guidance_values(self) -> int:
        """Length of the guidance embedding, 0 for none."""
        return int(self.unet.get("time_cond_proj_dim") or 0)

    @property
    def weight_files(self) -> list[Path]:
        """Files with the weights of all parts, of the autoencoder and of the LoRAs."""
        folders = [self.path / name for name in (*self.text_encoders, "unet")] + [self.vae_path]
        files = [file for folder in folders for file in weight_files(folder, self.variant)]
        for source, _ in self.lora:
            files += sorted(source.glob("*.safetensors")) if source.is_dir() else [source]
        return files


def read_folder(
    path: Path, *, vae: Path | None = None, lora: tuple[tuple[Path, float], ...] = (), scheduler: str = ""
) -> PipelineFolder:
    """Read the settings of a pipeline and check that it can be exported.

    Args:
        path: folder of the pipeline.
        vae: folder of an autoencoder to use instead of the pipeline's; None for its own.
        lora: files or folders of LoRA weights, each with its scale.
        scheduler: a name of `SCHEDULERS` to use instead of the pipeline's own; "" for its own.

    Raises:
        ValueError: it cannot, in one sentence.
    """
    index_file = path / "model_index.json"
    if not index_file.is_file():
        raise ValueError(f"{path} has no model_index.json: give the folder of a diffusers pipeline (save_pretrained)")
    index = _read_json(index_file)
    kind = index.get("_class_name")
    if not isinstance(kind, str) or kind not in FAMILIES:
        names = ", ".join(sorted(FAMILIES))
        raise ValueError(f"{path} is a {_shown(kind)}, which cannot be exported; supported are {names}")
    family = FAMILIES[kind]
    for name, part in index.items():
        if _is_present(part) and name in ("image_encoder", "controlnet", "adapter"):
            what = f"{name.replace('_', ' ')} ({_shown(part[1])})"
            raise ValueError(f"{path} needs its {what}, which is not supported: remove it")
    if index.get("requires_aesthetics_score"):
        raise ValueError(
            f"{path} is a refiner (requires_aesthetics_score), which is not supported: give the base model"
        )
    encoders = ("text_encoder", "text_encoder_2") if family == "sdxl" else ("text_encoder",)
    tokenizers = tuple(name.replace("text_encoder", "tokenizer") for name in encoders)
    for name in ("unet", *encoders, *tokenizers, "scheduler", *(() if vae else ("vae",))):
        if not _is_present(index.get(name)) or not (path / name).is_dir():
            raise ValueError(f"{path} has no {name}: the part is missing in model_index.json, or its folder is")
    vae_path = vae or path / "vae"
    unet, autoencoder = (_read_json(folder / "config.json") for folder in (path / "unet", vae_path))
    _check_networks(path, unet, vae_path, autoencoder)
    for name in encoders:
        settings = _read_json(path / name / "config.json")
        got = settings.get("architectures")
        if not isinstance(got, list) or not str(*got[:1]).startswith("CLIPText"):
            raise ValueError(f"{path / name} is {_shown(got)}, which is not supported; expected a CLIPTextModel")
        read_text_limits(path / name)
    settings = _read_json(path / "scheduler" / "scheduler_config.json")
    if scheduler:
        if scheduler not in SCHEDULERS:
            raise ValueError(f"the scheduler must be one of {', '.join(SCHEDULERS)}, got {_shown(scheduler)}")
        # As pipelines distilled with other schedulers are used: scheduler = from_config(old, timestep_spacing=...).
        settings = {**settings, "_class_name": SCHEDULERS[scheduler], "timestep_spacing": "trailing"}
        settings = {key: value for key, value in settings.items() if key not in ("clip_sample", "use_karras_sigmas")}
        settings["clip_sample"] = False
    _check_scheduler(path, settings)
    for source, _ in lora:
        found = sorted(source.glob("*.safetensors")) if source.is_dir() else [source]
        if not found or not all(file.is_file() and file.suffix == ".safetensors" for file in found):
            raise ValueError(f"--lora {source}: expected a .safetensors file, or a folder with one")
        if len(found) > 1:
            raise ValueError(f"--lora {source}: the folder has {len(found)} .safetensors files, name one of them")
    folders = [path / name for name in (*encoders, "unet")] + [vae_path]
    variants = {weight_variant(folder) for folder in folders}
    return PipelineFolder(
        path=path,
        family=family,
        scheduler=str(settings["_class_name"]),
        unet=unet,
        vae=autoencoder,
        scheduler_config=settings,
        vae_path=vae_path,
        lora=lora,
        variant="fp16" if "fp16" in variants else "",
    )


def check_size(folder: PipelineFolder, size: tuple[int, int]) -> None:
    """Check a frame's (width, height) in pixels; raises ValueError."""
    if any(side % folder.scale or side < 2 * folder.scale for side in size):
        raise ValueError(
            f"the frame is {size[0]}x{size[1]} pixels, but the autoencoder works on multiples of {folder.scale} "
            f"pixels: pass another --size"
        )


def read_text_limits(folder: Path) -> tuple[int, int]:
    """Return the tokens of a text, and the size of the vocabulary, of a CLIP text encoder; raises ValueError."""
    settings = _read_json(folder / "config.json")
    found = []
    for key, default in (("max_position_embeddings", CLIP_LENGTH), ("vocab_size", CLIP_VOCABULARY)):
        value = settings.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"the text encoder {folder} has {key} {_shown(value)}, expected a positive number")
        found.append(value)
    return found[0], found[1]


def part_names(folder: PipelineFolder, mode: str) -> tuple[str, ...]:
    """Return the parts that a bundle consists of, in the order in which they are exported."""
    encoder = ("encoder",) if mode == "img2img" else ()
    return (*folder.text_encoders, *encoder, "unet", "decoder")


def _channels_key(vae: dict[str, Any]) -> str:
    return "encoder_block_out_channels" if vae["_class_name"] == "AutoencoderTiny" else "block_out_channels"


def _shown(value: Any) -> str:
    """Return a value of an untrusted file as a message shows it."""
    return printable(str(value)[:_SHOWN_CHARACTERS])


def _is_present(part: Any) -> bool:
    """Return whether an entry of model_index.json, [library, class], names a part."""
    return isinstance(part, list) and len(part) == 2 and all(isinstance(word, str) for word in part)


def _check_networks(path: Path, unet: dict[str, Any], vae_path: Path, vae: dict[str, Any]) -> None:
    if unet.get("_class_name") != "UNet2DConditionModel":
        raise ValueError(
            f"the network of {path} is a {_shown(unet.get('_class_name'))}, expected a UNet2DConditionModel"
        )
    if unet.get("in_channels", 4) != LATENT_CHANNELS or unet.get("out_channels", 4) != LATENT_CHANNELS:
        raise ValueError(
            f"the UNet of {path} has {_shown(unet.get('in_channels'))} channels, expected 4: networks for inpainting, "
            "depth or editing are not supported"
        )
    kind = unet.get("addition_embed_type")
    if kind not in (None, "text_time") or unet.get("encoder_hid_dim_type") or unet.get("class_embed_type"):
        raise ValueError(
            f"the UNet of {path} needs image embeddings or classes ({_shown(kind)}), which are not supported"
        )
    if vae.get("_class_name") not in AUTOENCODERS:
        got = _shown(vae.get("_class_name"))
        raise ValueError(f"the autoencoder {vae_path} is a {got}, expected one of {', '.join(AUTOENCODERS)}")
    for settings, key, most in ((unet, "sample_size", 1024), (unet, "time_cond_proj_dim", 8192)):
        value = settings.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 4 <= value <= most):
            raise ValueError(f"the UNet of {path} has {key} {_shown(value)}, expected a number from 4 to {most}")
    channels = vae.get(_channels_key(vae), (64,) * 4)
    if not isinstance(channels, list | tuple) or not 1 <= len(channels) <= 6:
        raise ValueError(f"the autoencoder {vae_path} has {_channels_key(vae)} {_shown(channels)}, expected 1 to 6")
    if vae.get("latent_channels", 4) != LATENT_CHANNELS:
        got = _shown(vae["latent_channels"])
        raise ValueError(f"the autoencoder {vae_path} has {got} channels in its latent, expected 4")
    for key in ("latents_mean", "latents_std"):
        if vae.get(key) is not None:
            raise ValueError(
                f"the autoencoder {vae_path} has {key}, which is not supported: pass another one with --vae"
            )


def _check_scheduler(path: Path, settings: dict[str, Any]) -> None:
    kind = str(settings.get("_class_name"))
    if kind not in SCHEDULERS.values():
        raise ValueError(
            f"the scheduler of {path} is {_shown(kind)}; supported are {', '.join(SCHEDULERS.values())}: if the "
            f"pipeline was distilled for another one, pass --scheduler with one of {', '.join(SCHEDULERS)}"
        )
    for key, allowed in _PLAIN.items():
        value = settings.get(key, _DEFAULTS.get(key, {}).get(kind, allowed[0]))
        if value not in allowed:
            names = " or ".join(map(repr, allowed[:2]))
            raise ValueError(
                f"the scheduler of {path} has {key} {_shown(value)}, which is not supported; expected {names}"
            )
    if kind in (SCHEDULERS["euler-ancestral"], SCHEDULERS["ddim"]) and settings.get("timestep_spacing") != "trailing":
        name = next(name for name, full in SCHEDULERS.items() if full == kind)
        raise ValueError(
            f"the {kind} of {path} has no trailing timesteps, which few-step pipelines use: pass --scheduler {name}"
        )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        size = file.stat().st_size
        if size > _MAX_JSON_BYTES:
            raise ValueError(f"it has {size} bytes, expected at most {_MAX_JSON_BYTES}")
        value = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{file} is missing: save the pipeline again") from error
    except RecursionError as error:
        raise ValueError(f"{file} cannot be read as JSON: it is nested too deeply") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{file} is not a JSON object: save the pipeline again")
    return value
