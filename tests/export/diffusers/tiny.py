"""Tiny pipelines of diffusers with random weights, written as folders: every part is real, only small."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

from benchmarks.diffusion.pipeline import TRAINED, make_sensitive, write_tokenizer

SIZE = 64  # pixels of the frames
_WIDTH = 32  # of the text encoders
PROMPT = "a red cat over the sea"


def write_pipeline(folder: Path, kind: str) -> Path:
    """Write a pipeline.

    Args:
        folder: to write.
        kind: "turbo" (Euler, a full autoencoder), "lcm" (with a guidance embedding and a small autoencoder) or "sdxl"
            (two text encoders, ancestral Euler).

    Returns:
        The folder.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers
        import torch
        import transformers

        torch.manual_seed(5)
        parts: dict[str, Any] = {"unet": _unet(kind), "vae": _vae(kind), "scheduler": _scheduler(kind)}
        names = ("tokenizer", "tokenizer_2") if kind == "sdxl" else ("tokenizer",)
        for name in names:
            write_tokenizer(folder / name, ("a", "red", "cat", "sea", "storm", "the", "over", "calm"))
            parts[name] = transformers.CLIPTokenizer.from_pretrained(folder / name)
        make_sensitive(parts["unet"], parts["vae"])
        parts["text_encoder"] = transformers.CLIPTextModel(_text_config())
        if kind == "sdxl":
            parts["text_encoder_2"] = transformers.CLIPTextModelWithProjection(_text_config())
            pipeline: Any = diffusers.StableDiffusionXLPipeline(**parts)
        else:
            plain = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
            name = "LatentConsistencyModelPipeline" if kind == "lcm" else "StableDiffusionPipeline"
            pipeline = getattr(diffusers, name)(**parts, **plain)
        diffusers.utils.logging.disable_progress_bar()
        transformers.utils.logging.disable_progress_bar()
        pipeline.save_pretrained(folder)
        for name in names:  # as published pipelines have it: vocab.json and merges.txt alone
            (folder / name / "tokenizer.json").unlink(missing_ok=True)
    return folder


def write_lora(folder: Path, pipeline: Path) -> Path:
    """Write LoRA weights for the UNet of a pipeline, of the size that changes frames clearly; returns the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers
        import torch
        from peft import LoraConfig, get_peft_model_state_dict

        torch.manual_seed(9)
        unet = diffusers.UNet2DConditionModel.from_pretrained(pipeline / "unet")
        unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_v", "to_out.0"]))
        for name, value in unet.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(value, std=0.3)
        layers = get_peft_model_state_dict(unet)
        diffusers.StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    return next(folder.glob("*.safetensors"))


def _unet(kind: str) -> Any:
    import diffusers

    more: dict[str, Any] = {}
    if kind == "sdxl":
        more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
        more["projection_class_embeddings_input_dim"] = _WIDTH + 6 * 8
    return diffusers.UNet2DConditionModel(
        sample_size=SIZE // 8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        cross_attention_dim=_WIDTH * (2 if kind == "sdxl" else 1),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        norm_num_groups=8,
        time_cond_proj_dim=16 if kind == "lcm" else None,
        **more,
    )


def _vae(kind: str) -> Any:
    import diffusers

    if kind == "lcm":
        widths, depths = (8, 8, 8, 8), (1, 1, 1, 1)
        return diffusers.AutoencoderTiny(
            encoder_block_out_channels=widths,
            decoder_block_out_channels=widths,
            num_encoder_blocks=depths,
            num_decoder_blocks=depths,
        )
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        sample_size=SIZE,
    )


def _scheduler(kind: str) -> Any:
    import diffusers

    if kind == "lcm":
        return diffusers.LCMScheduler(**TRAINED)
    name = "EulerAncestralDiscreteScheduler" if kind == "sdxl" else "EulerDiscreteScheduler"
    return getattr(diffusers, name)(**TRAINED, timestep_spacing="trailing")


@functools.cache
def _text_config() -> Any:
    import transformers

    return transformers.CLIPTextConfig(
        vocab_size=200,
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=_WIDTH,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
