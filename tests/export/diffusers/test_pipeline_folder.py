"""Folders of pipelines that cannot be exported: one sentence each. No weights are read."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from export.diffusers.command import to_lora
from export.diffusers.pipeline_folder import check_size, read_folder
from export.diffusers.weight_files import weight_files

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "image_encoder": [None, None],
}
PARTS: dict[str, dict[str, Any]] = {
    "unet/config.json": {"_class_name": "UNet2DConditionModel", "in_channels": 4, "sample_size": 64},
    "vae/config.json": {"_class_name": "AutoencoderTiny", "encoder_block_out_channels": [64, 64, 64, 64]},
    "text_encoder/config.json": {"architectures": ["CLIPTextModel"]},
    "scheduler/scheduler_config.json": {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that looks like a pipeline."""
    _write(tmp_path, "model_index.json", INDEX)
    for name, value in PARTS.items():
        _write(tmp_path, name, value)
    (tmp_path / "tokenizer").mkdir()
    for part, name in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        (tmp_path / part / f"{name}.safetensors").touch()
    return tmp_path


def test_a_whole_folder_is_read(folder: Path) -> None:
    found = read_folder(folder)
    assert (found.family, found.scheduler, found.scale) == ("sd", "EulerDiscreteScheduler", 8)
    assert found.default_size == (512, 512)
    assert found.is_tiny
    assert found.variant == ""


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("model_index.json", {"_class_name": "FluxPipeline"}, "is a FluxPipeline, which cannot be exported"),
        ("model_index.json", {"image_encoder": ["transformers", "CLIPVision"]}, "needs its image encoder"),
        ("model_index.json", {"unet": [None, None]}, "has no unet"),
        ("unet/config.json", {"in_channels": 9}, "has 9 channels, expected 4: networks for inpainting"),
        ("unet/config.json", {"addition_embed_type": "image"}, "needs image embeddings"),
        ("unet/config.json", {"_class_name": "FluxTransformer2DModel"}, "expected a UNet2DConditionModel"),
        ("vae/config.json", {"_class_name": "AsymmetricAutoencoderKL"}, "expected one of AutoencoderTiny"),
        ("vae/config.json", {"latent_channels": 16}, "has 16 channels in its latent, expected 4"),
        ("vae/config.json", {"latents_mean": [0.1, 0.2, 0.3, 0.4]}, "has latents_mean, which is not supported"),
        ("text_encoder/config.json", {"vocab_size": "many"}, "has vocab_size many, expected a positive number"),
        ("text_encoder/config.json", {"architectures": ["T5EncoderModel"]}, "expected a CLIPTextModel"),
        ("scheduler/scheduler_config.json", {"_class_name": "PNDMScheduler"}, "supported are LCMScheduler"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "expected 'epsilon' or 'v_prediction'"),
        ("scheduler/scheduler_config.json", {"use_karras_sigmas": True}, "has use_karras_sigmas True"),
        ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, "has clip_sample True"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "DDIMScheduler", "clip_sample": False, "timestep_spacing": "leading"},
            "pass --scheduler ddim",
        ),
    ],
)
def test_what_is_not_supported(folder: Path, file: str, change: dict[str, Any], message: str) -> None:
    stated = json.loads((folder / file).read_text())
    _write(folder, file, {**stated, **change})
    with pytest.raises(ValueError, match=message):
        read_folder(folder)


def test_another_scheduler(folder: Path) -> None:
    _write(folder, "scheduler/scheduler_config.json", {"_class_name": "PNDMScheduler", "beta_end": 0.012})
    found = read_folder(folder, scheduler="lcm")
    assert found.scheduler == "LCMScheduler"
    assert found.scheduler_config["beta_end"] == 0.012


def test_no_index(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no model_index\.json: give the folder of a diffusers pipeline"):
        read_folder(tmp_path)


def test_damaged_settings(folder: Path) -> None:
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        read_folder(folder)


@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "cannot be read as JSON: it is nested too deeply"),
        (" " * 2**21, "cannot be read as JSON: it has 2097152 bytes, expected at most 1048576"),
    ],
)
def test_settings_that_are_too_large(folder: Path, file: str, text: str, message: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_folder(folder)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("model_index.json", "_class_name"),
        ("unet/config.json", "_class_name"),
        ("unet/config.json", "in_channels"),
        ("unet/config.json", "addition_embed_type"),
        ("unet/config.json", "sample_size"),
        ("vae/config.json", "_class_name"),
        ("vae/config.json", "latent_channels"),
        ("text_encoder/config.json", "architectures"),
        ("text_encoder/config.json", "vocab_size"),
        ("scheduler/scheduler_config.json", "_class_name"),
        ("scheduler/scheduler_config.json", "prediction_type"),
    ],
)
def test_messages_are_safe_to_print(folder: Path, file: str, key: str) -> None:
    stated = json.loads((folder / file).read_text())
    text = "\x1b[2J\n" + 10_000 * "x"
    _write(folder, file, {**stated, key: [text] if key == "architectures" else text})
    message = _message(folder)
    assert message.isprintable()
    assert message
    assert len(message) < 600 + 2 * len(str(folder))


def test_other_weights_are_passed_over(folder: Path) -> None:
    for name in ("diffusion_pytorch_model.non_ema", "sd_turbo", "diffusion_pytorch_model.fp16"):
        (folder / "unet" / f"{name}.safetensors").touch()
    assert [file.name for file in weight_files(folder / "unet")] == ["diffusion_pytorch_model.safetensors"]
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    for number in (1, 2):
        (folder / "unet" / f"diffusion_pytorch_model-0000{number}-of-00002.safetensors").touch()
    assert len(weight_files(folder / "unet")) == 2
    assert read_folder(folder).variant == ""
    for file in weight_files(folder / "unet"):
        file.unlink()
    assert [file.name for file in weight_files(folder / "unet")] == ["diffusion_pytorch_model.fp16.safetensors"]
    assert read_folder(folder).variant == "fp16"


def test_shards_in_fp16(folder: Path) -> None:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    for number in (1, 2):
        (folder / "unet" / f"diffusion_pytorch_model.fp16-0000{number}-of-00002.safetensors").touch()
    assert len(weight_files(folder / "unet", "fp16")) == 2
    assert read_folder(folder).variant == "fp16"


def test_no_scheduler_of_that_name(folder: Path) -> None:
    with pytest.raises(ValueError, match="must be one of lcm, euler, euler-ancestral, ddim, got pndm"):
        read_folder(folder, scheduler="pndm")


def test_a_missing_part(folder: Path) -> None:
    (folder / "tokenizer").rmdir()
    with pytest.raises(ValueError, match="has no tokenizer"):
        read_folder(folder)


def test_pickled_weights(folder: Path) -> None:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"has weights in a pickle \(\.bin.* save the part as model\.safetensors"):
        read_folder(folder)


def test_weights_in_fp16_are_a_variant(folder: Path) -> None:
    for part in ("unet", "vae", "text_encoder"):
        file = next((folder / part).glob("*.safetensors"))
        file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    found = read_folder(folder)
    assert found.variant == "fp16"
    assert [file.name for file in weight_files(folder / "unet", "fp16")] == ["diffusion_pytorch_model.fp16.safetensors"]


def test_size_and_lora(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="works on multiples of 8 pixels"):
        check_size(read_folder(folder), (500, 512))
    with pytest.raises(ValueError, match=r"expected a \.safetensors file, or a folder with one"):
        read_folder(folder, lora=((tmp_path / "none.safetensors", 1.0),))
    several = tmp_path / "loras"
    several.mkdir()
    for name in ("one", "two"):
        (several / f"{name}.safetensors").touch()
    with pytest.raises(ValueError, match=r"the folder has 2 \.safetensors files, name one of them"):
        read_folder(folder, lora=((several, 1.0),))
    assert to_lora("style.safetensors:0.8") == (Path("style.safetensors"), 0.8)
    assert to_lora("style.safetensors") == (Path("style.safetensors"), 1.0)
    with pytest.raises(ValueError, match="must be FILE or FILE:SCALE"):
        to_lora("style.safetensors:much")
    with pytest.raises(ValueError, match="from -4 to 4"):
        to_lora("style.safetensors:9")


def _write(folder: Path, name: str, value: Any) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(value))


def test_damaged_folders(folder: Path) -> None:
    drawn = random.Random(4)
    files = ["model_index.json", *PARTS]
    whole = {name: (folder / name).read_text() for name in files}
    refused = 0
    for _ in range(2000):
        name = drawn.choice(files)
        (folder / name).write_text(_damaged(whole[name], drawn))
        message = _message(folder)
        refused += bool(message)
        assert len(message.splitlines()) <= 1
        (folder / name).write_text(whole[name])
    assert 500 < refused < 2000


def _message(folder: Path) -> str:
    """Return the error of a folder, "" for none."""
    try:
        found = read_folder(folder)
        check_size(found, found.default_size)
    except ValueError as error:
        return str(error)
    return ""


def _damaged(text: str, drawn: random.Random) -> str:
    """Return a JSON text with another value, without a key, or with other characters."""
    value = json.loads(text)
    key = drawn.choice(list(value))
    match drawn.randrange(3):
        case 0:
            value[key] = drawn.choice([None, -1, 0, 2.5, 10**30, "", "x", [], [None], [[], {}], {}, True])
        case 1:
            del value[key]
        case _:
            place = drawn.randrange(len(text))
            return text[:place] + drawn.choice('{}[]",:0x\x00') + text[place + drawn.randrange(3) :]
    return json.dumps(value)
