"""The text encoder: a text's vector is the mean of its tokens' static vectors; needs numpy and tokenizers only.

`python -m training words` makes the three files that `text` in bundle.json names: `tokenizer.json`, vectors ((V, D)
int8) and scales ((V,) float32). The vector of token v is `scales[v] * vectors[v]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.bundle.manifest import Manifest
from runtime.bundle.npy import read_header, to_array
from runtime.bundle.reader import read_file
from runtime.errors import BundleError, EngineError
from runtime.prompts.tokenizer import Tokenizer, check_text, read_tokenizer_file

_MAX_TOKENS = 2**20  # three times the largest vocabulary in use
_MAX_SCALE = 1e9  # no sum over a text leaves float32


class TextEncoder:
    """Token vectors and their tokenizer.

    Args:
        tokenizer: JSON of the package tokenizers; token ids are below V.
        vectors: (V, D) int8.
        scales: (V,) float32.

    Raises:
        EngineError: the package tokenizers is not installed.
        ValueError: the tokenizer is damaged, has unsupported parts, or has tokens without a vector.
    """

    def __init__(self, tokenizer: str, vectors: npt.NDArray[np.int8], scales: npt.NDArray[np.float32]) -> None:
        self._tokenizer = Tokenizer(tokenizer, len(vectors))
        self._vectors, self._scales = vectors, scales

    def encode(self, text: str) -> npt.NDArray[np.float32]:
        """Return the vector of a text: the normalised mean of the vectors of its known tokens, without special tokens.

        Args:
            text: see `check_text`; the tokenizer normalises its Unicode.

        Returns:
            float32 (D,), owned by the caller.

        Raises:
            ValueError: the text is invalid, or none of its words is known.
            BundleError: the tokenizer fails.
        """
        text = check_text(text)
        unknown = self._tokenizer.unknown
        known = [token for token in self._tokenizer.encode(text).ids if token != unknown]
        if not known:
            shown = repr(text) if len(text) <= 60 else repr(text[:57] + "...")
            raise ValueError(f"no word of the text {shown} is known: the vocabulary is English, use other words")
        # Same order of operations as in training, so that the vectors are identical to the last bit.
        total = (self._scales[known] @ self._vectors[known].astype(np.float32))[np.newaxis]
        length = np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
        vector: npt.NDArray[np.float32] = (total / length)[0]
        return vector


def open_text_encoder(folder: Path, manifest: Manifest) -> TextEncoder:
    """Open a bundle's text encoder; hashes, sizes and shapes are checked before anything is unpacked.

    Args:
        folder: of the bundle.
        manifest: of the bundle, with a `text`.

    Raises:
        BundleError: a file is missing, damaged, or does not fit the others or the condition graph.
        EngineError: the package tokenizers is not installed.
    """
    spec = manifest.text
    tensor = manifest.prompt_input("text")
    assert spec is not None, "open_text_encoder() of a bundle without text"
    assert tensor is not None, "a manifest with text and without a text input"
    tokenizer = read_tokenizer_file(folder, manifest, spec.tokenizer)
    scales = _read_array(folder, manifest, spec.scales, "<f4", (-1,))
    if not np.isfinite(scales).all():
        raise BundleError(f"{spec.scales} holds values that are not finite; export the bundle again")
    if (np.abs(scales) > _MAX_SCALE).any():
        raise BundleError(f"{spec.scales} holds values beyond {_MAX_SCALE:g}, which no scale is; export it again")
    vectors = _read_array(folder, manifest, spec.vectors, "|i1", (len(scales), tensor.shape[1]))
    try:
        return TextEncoder(tokenizer, vectors, scales)
    except ValueError as error:
        raise BundleError(f"{spec.tokenizer} cannot be used: {error}; export the bundle again") from error


def prepare_text_encoder(folder: Path, manifest: Manifest) -> Callable[[], TextEncoder]:
    """Read a bundle's text encoder now and return it later; arguments as in `open_text_encoder`.

    Returns:
        A function that returns it, or raises EngineError if the package tokenizers is not installed.

    Raises:
        BundleError: as in `open_text_encoder`.
    """
    try:
        encoder = open_text_encoder(folder, manifest)
    except EngineError as error:
        missing = str(error)
    else:
        return lambda: encoder

    def refuse() -> TextEncoder:
        raise EngineError(missing)

    return refuse


def _read_array(folder: Path, manifest: Manifest, name: str, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Read a .npy file of a known dtype and shape (-1: any number of tokens)."""
    width = 1 if len(shape) == 1 else shape[1]
    if manifest.files[name].size_bytes > _MAX_TOKENS * width * np.dtype(dtype).itemsize + 2**16:
        raise BundleError(f"{name} is too large: token vectors of at most {_MAX_TOKENS} tokens are read")
    data = read_file(folder, name, manifest.files[name])
    try:
        header = read_header(data)
    except ValueError as error:
        raise BundleError(f"{name} is not a .npy file: {error}; export the bundle again") from error
    got, kind = header.shape, header.dtype
    wanted = got if shape[0] < 0 and len(got) == 1 else shape
    size = len(data) - header.size
    is_right = not header.is_fortran and kind == np.dtype(dtype) and got == wanted
    if not is_right or size != kind.itemsize * math.prod(wanted):
        raise BundleError(
            f"{name} holds {kind} {got} in {size} bytes, expected {np.dtype(dtype)} {shape}; export the bundle again"
        )
    return to_array(header, data)
