"""The files with the weights of a part of a pipeline, as diffusers and transformers name them. Imports no PyTorch."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

# One file or several (-00001-of-00002), in FP32 or of the variant "fp16". Others, such as those of non-EMA weights or
# of a whole pipeline in one file, are not loaded.
_NAME = re.compile(
    r"(model|diffusion_pytorch_model)(-[0-9]+-of-[0-9]+)?(\.fp16)?(-[0-9]+-of-[0-9]+)?\.safetensors", re.ASCII
)
_HALF = ".fp16"
_PIECE = 2**24


def weight_files(folder: Path, variant: str = "") -> list[Path]:
    """Return the files with the weights of a part; those of a variant if the part has them."""
    every = [file for file in sorted(folder.glob("*.safetensors")) if _NAME.fullmatch(file.name)]
    of_variant = [file for file in every if _HALF in file.name]
    plain = [file for file in every if file not in of_variant]
    return (of_variant or plain) if variant == "fp16" or not plain else plain


def weight_variant(folder: Path) -> str:
    """Return "fp16" if a part has only weights of that variant, else "".

    Raises:
        ValueError: it has no weights in the format safetensors.
    """
    files = weight_files(folder)
    if not files:
        others = [*folder.glob("*.bin"), *folder.glob("*.ckpt"), *folder.glob("*.pt")]
        got = "weights in a pickle (.bin, .ckpt or .pt), which can run code" if others else "no weights"
        raise ValueError(
            f"{folder} has {got}: save the part as model.safetensors or diffusion_pytorch_model.safetensors "
            "(save_pretrained with safe_serialization=True)"
        )
    return "" if any(_HALF not in file.name for file in files) else "fp16"


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
