"""Writes pipelines of diffusers with random weights: their tokenizer, and one of the size of SD-turbo.

python -m benchmarks.diffusion.pipeline FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LENGTH = 77  # tokens of a text, as in CLIP
TRAINED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def write_tokenizer(folder: Path, words: Sequence[str]) -> None:
    """Write a small CLIP tokenizer: vocab.json, merges.txt and tokenizer_config.json.

    Args:
        folder: to write.
        words: of lower-case letters, which become one token each; other words are spelt.
    """
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz!"
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in words:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merge = (parts[0], parts[1])
            if merge not in merges:
                merges.append(merge)
                vocabulary.append("".join(merge))
            parts = ["".join(merge), *parts[2:]]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(vocabulary)}))
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "!",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def make_sensitive(unet: Any, vae: Any) -> None:
    """Scale random weights so that frames depend clearly on the live picture, the noise and the words."""
    import torch

    attention = unet.mid_block.attentions[0].transformer_blocks[0].attn2
    factors = [(attention.to_v, 20.0), (unet.conv_out, 3.0)]
    if hasattr(vae.encoder, "layers"):
        factors += [(vae.encoder.layers[-1], 100.0), (vae.decoder.layers[-1], 12.0)]
    else:
        factors.append((vae.encoder.conv_out, 20.0))
    with torch.no_grad():
        for layer, factor in factors:
            layer.weight.mul_(factor)


def write_turbo(folder: Path) -> None:
    """Write a pipeline with the sizes of SD-turbo (those of Stable Diffusion 2.1) and of TAESD, in FP16."""
    import diffusers
    import torch
    import transformers

    torch.manual_seed(5)
    folder.mkdir(parents=True)
    write_tokenizer(folder / "tokenizer", ("calm", "sea"))
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=49408, hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16,
            max_position_embeddings=LENGTH, hidden_act="gelu", projection_dim=512, pad_token_id=1,
        )
    )  # fmt: skip
    _save(text, folder / "text_encoder")
    del text
    unet = diffusers.UNet2DConditionModel(
        sample_size=64, block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=1024,
        attention_head_dim=(5, 10, 20, 20), use_linear_projection=True,
    )  # fmt: skip
    vae = diffusers.AutoencoderTiny()
    make_sensitive(unet, vae)
    torch.nn.init.constant_(vae.decoder.layers[-1].bias, 0.5)  # pictures around grey, which are not clipped
    _save(unet, folder / "unet")
    _save(vae, folder / "vae")
    del unet, vae
    diffusers.EulerDiscreteScheduler(**TRAINED, timestep_spacing="trailing").save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderTiny"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))


def _save(model: Any, folder: Path) -> None:
    model.half().save_pretrained(folder, safe_serialization=True)


if __name__ == "__main__":
    write_turbo(Path(sys.argv[1]))
