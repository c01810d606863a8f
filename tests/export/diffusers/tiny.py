"""Tiny diffusers pipelines with random weights, written as folders: every part is real, only small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

SIZE = 64  # pixels of the frames
WORDS = ("a", "red", "cat", "sea", "storm", "the", "over", "calm")
_EDGES = 128  # positions of the learnt embeddings are 77, as in CLIP


def clip_tokenizer_files(folder: Path, pad: str) -> None:
    """Write vocab.json, merges.txt and tokenizer_config.json of a small CLIP tokenizer."""
    from transformers.models.clip.tokenization_clip import CLIPTokenizer  # noqa: F401 - the class that reads them

    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz!"
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merge = (parts[0], parts[1])
            if merge not in merges:
                merges.append(merge)
                vocabulary.append("".join(merge))
            parts = ["".join(merge), *parts[2:]]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(merge) for merge in merges) + "\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": pad,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_pipeline(folder: Path, kind: str = "turbo", **scheduler: Any) -> Path:
    """Write a pipeline.

    Args:
        folder: to write.
        kind: "turbo" (Euler, epsilon, a full VAE), "lcm" (with a guidance embedding and a small VAE), "sdxl" (two text
            encoders).
        scheduler: settings in place of the kind's own.

    Returns:
        The folder.
    """
    import diffusers
    import transformers

    torch.manual_seed(5)
    wide = 32

    def text_config(width: int) -> Any:
        return transformers.CLIPTextConfig(
            vocab_size=200,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            projection_dim=width,
            bos_token_id=0,
            eos_token_id=2,
            pad_token_id=1,
        )

    clip_tokenizer_files(folder / "tokenizer", "!")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    is_large = kind == "sdxl"
    unet = diffusers.UNet2DConditionModel(
        sample_size=SIZE // 2,
        block_out_channels=(32, 64),
        layers_per_block=1,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * wide if is_large else wide,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        norm_num_groups=8,
        time_cond_proj_dim=32 if kind == "lcm" else None,
        **(
            {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 80,
            }
            if is_large
            else {}
        ),
    )
    if kind == "lcm":
        vae: Any = diffusers.AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            num_encoder_blocks=(1, 1, 1, 1),
            num_decoder_blocks=(1, 1, 1, 1),
        )
    else:
        vae = diffusers.AutoencoderKL(
            block_out_channels=(8, 16, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=SIZE,
        )
    trained = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    if kind == "lcm":
        planned: Any = diffusers.LCMScheduler(**{**trained, "original_inference_steps": 50, **scheduler})
    elif kind == "sdxl":
        planned = diffusers.EulerAncestralDiscreteScheduler(**{**trained, "timestep_spacing": "trailing", **scheduler})
    else:
        planned = diffusers.EulerDiscreteScheduler(**{**trained, "timestep_spacing": "trailing", **scheduler})
    parts = {"vae": vae, "unet": unet, "scheduler": planned, "tokenizer": tokenizer}
    if is_large:
        second = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
        pipeline: Any = diffusers.StableDiffusionXLPipeline(
            **parts,
            text_encoder=transformers.CLIPTextModel(text_config(wide)),
            text_encoder_2=transformers.CLIPTextModelWithProjection(text_config(wide)),
            tokenizer_2=second,
        )
    else:
        name = "LatentConsistencyModelPipeline" if kind == "lcm" else "StableDiffusionPipeline"
        pipeline = getattr(diffusers, name)(
            **parts,
            text_encoder=transformers.CLIPTextModel(text_config(wide)),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    return folder
