"""Static token vectors: a caption as one vector, computed with only numpy and tokenizers.

`python -m training words MODEL --out WORDS` distils a sentence encoder, by model2vec, into one vector per token of its
vocabulary; a text is the mean of its tokens' vectors. The folder WORDS holds `tokenizer.json`, `vectors.npy` ((V, D)
int8), `scales.npy` ((V,) float32, one per row) and `words.json`, which names the others by their SHA-256.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

VERSION = 1
DESCRIPTION = "words.json"
FILES = ("tokenizer.json", "vectors.npy", "scales.npy")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}


class WordVectors:
    """Token vectors of a folder WORDS, and the vectors of texts made from them. `WordVectors.open` reads one."""

    def __init__(self, tokenizer: str, vectors: npt.NDArray[np.int8], scales: npt.NDArray[np.float32], digest: str):
        """Take a tokenizer as JSON, vectors (V, D) int8, their scales (V,) float32 and the folder's digest."""
        from tokenizers import Tokenizer

        self.dimensions = int(vectors.shape[1])
        self.digest = digest
        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        model = json.loads(tokenizer)["model"]
        # Unigram names its unknown token by number, the other kinds by its text.
        unknown = model.get("unk_token")
        self._unknown = model.get("unk_id") if unknown is None else self._tokenizer.token_to_id(unknown)
        self._vectors, self._scales = vectors, scales

    @classmethod
    def open(cls, path: Path) -> WordVectors:
        """Read the folder that `python -m training words` wrote.

        Raises:
            ValueError: the folder or a file is missing, a file is damaged, the version is another one, or the package
                tokenizers is not installed.
        """
        path = Path(path)
        if not path.is_dir():
            raise ValueError(
                f"no token vectors at {path}: create them with `python -m training words MODEL --out {path}`"
            )
        try:
            description = json.loads((path / DESCRIPTION).read_bytes())
        except (OSError, ValueError) as error:
            raise ValueError(f"{path / DESCRIPTION} is missing or damaged ({type(error).__name__})") from None
        version = description.get("version") if isinstance(description, dict) else None
        if version != VERSION:
            raise ValueError(f"{path} is of version {version}, this release reads version {VERSION}: create it again")
        files = description.get("files")
        if not isinstance(files, dict) or sorted(files) != sorted(FILES):
            raise ValueError(f"{path / DESCRIPTION} is damaged: its files are not {', '.join(FILES)}")
        content = {name: _read_checked(path / name, files[name]) for name in FILES}
        try:
            vectors = np.load(io.BytesIO(content["vectors.npy"]), allow_pickle=False)
            scales = np.load(io.BytesIO(content["scales.npy"]), allow_pickle=False)
            words = cls(content["tokenizer.json"].decode(), vectors, scales, digest_of(files))
            tokens = words._tokenizer.get_vocab_size()
        except ImportError:
            raise ValueError(f"reading {path} needs the package tokenizers: install everframe[train]") from None
        except Exception as error:  # noqa: BLE001 - tokenizers raises plain Exception
            raise ValueError(f"{path} cannot be read ({type(error).__name__}): create it again") from None
        shapes = (vectors.shape, scales.shape)
        if shapes != ((tokens, description.get("dimensions")), (tokens,)) or vectors.dtype != np.int8:
            raise ValueError(f"{path} is inconsistent: {tokens} tokens, vectors {shapes[0]}, scales {shapes[1]}")
        return words

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return the unit vectors of texts, (N, D) float32; a text without a known token gives zeros.

        The mean of the vectors of all tokens except special and unknown ones, as in model2vec. Runs on this
        thread only, so that it may be called before and after a fork.

        Raises:
            ValueError: `texts` is a string, not a sequence of strings.
        """
        if isinstance(texts, str):
            raise ValueError("encode takes a sequence of texts, not one text")
        out = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in zip(out, texts, strict=True):
            ids = [i for i in self._tokenizer.encode(text, add_special_tokens=False).ids if i != self._unknown]
            if ids:
                row[:] = self._scales[ids] @ self._vectors[ids].astype(np.float32)
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)


def digest_of(files: Mapping[str, str]) -> str:
    """Return the SHA-256 (hex) of a table of files and their SHA-256, independent of its order."""
    return hashlib.sha256("".join(f"{files[name]}  {name}\n" for name in sorted(files)).encode()).hexdigest()


def _read_checked(path: Path, expected: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} is missing or unreadable ({type(error).__name__})") from None
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(f"{path} is damaged: its SHA-256 is not the one that {DESCRIPTION} names")
    return content


def write_words(out: Path, tokenizer: str, vectors: npt.NDArray[np.floating[Any]], facts: Mapping[str, Any]) -> None:
    """Write the folder WORDS under a temporary name, then rename it.

    Args:
        out: the folder; one that holds token vectors is replaced.
        tokenizer: a tokenizer of V tokens, as the JSON of the library tokenizers.
        vectors: (V, D), any floating type; rounded to int8 with a scale for every row.
        facts: more entries for `words.json`, such as source and licence.

    Raises:
        ValueError: `out` exists and is not a folder of token vectors.
    """
    refuse_foreign(out)
    vectors = np.asarray(vectors, np.float32)
    peaks = np.abs(vectors).max(axis=1)
    scales = np.where(peaks > 0, peaks / 127, 1).astype(np.float32)
    rounded = np.rint(vectors / scales[:, None]).clip(-127, 127).astype(np.int8)
    content = {"tokenizer.json": tokenizer.encode(), "vectors.npy": _npy(rounded), "scales.npy": _npy(scales)}
    description = {
        "version": VERSION,
        "dimensions": vectors.shape[1],
        "tokens": vectors.shape[0],
        "scale": "per row: vector = scales[row] * vectors[row]",
        **facts,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in content.items()},
    }
    content[DESCRIPTION] = (json.dumps(description, indent=2, ensure_ascii=False) + "\n").encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        folder = beside / "new"
        folder.mkdir()
        for name, data in content.items():
            (folder / name).write_bytes(data)
        if out.exists():
            out.rename(beside / "old")  # for a moment there is no folder, but never an incomplete one
        folder.rename(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def refuse_foreign(out: Path) -> None:
    """Raise ValueError if `out` exists and is neither empty nor a folder of token vectors."""
    if out.exists() and not (out.is_dir() and ((out / DESCRIPTION).is_file() or not any(out.iterdir()))):
        raise ValueError(f"{out} is there and holds no token vectors: name another folder for --out")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m training words`."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a folder with a sentence-transformers model")
    parser.add_argument("--out", type=Path, required=True, metavar="WORDS", help="the folder to write")
    parser.add_argument("--dimensions", type=int, default=128, metavar="D", help="of a vector (default: 128)")


def run(arguments: argparse.Namespace) -> None:
    """Distil MODEL into WORDS, offline; takes about half a minute for 30,000 tokens on one core.

    Raises:
        ValueError: MODEL is not a sentence encoder, a package is missing, or it has fewer dimensions.
    """
    model, out, dimensions = arguments.model, arguments.out, arguments.dimensions
    refuse_foreign(out)
    if dimensions < 1:
        raise ValueError(f"--dimensions is {dimensions}: at least 1")
    weights = sorted(model.glob("*.safetensors"))
    if not (model / "config.json").is_file() or not weights:
        raise ValueError(
            f"{model} is not a sentence encoder: expected config.json, a tokenizer and *.safetensors in it"
        )
    os.environ.update(OFFLINE)  # read by the imports below
    try:
        import model2vec
        from model2vec.distill import distill
    except ImportError as error:
        raise ValueError("distilling needs packages that are not installed: pip install 'everframe[words]'") from error
    try:
        static = distill(str(model), device="cpu", pca_dims=dimensions, quantize_to="float32")
    except Exception as error:  # noqa: BLE001 - transformers raises a dozen kinds for a folder it cannot read
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{model} could not be distilled: {reason}") from None
    vectors = np.asarray(static.embedding, np.float32)
    if vectors.shape[1] != dimensions:
        raise ValueError(f"--dimensions is {dimensions}, {model} gives at most {vectors.shape[1]}")
    static.tokenizer.no_truncation()
    static.tokenizer.no_padding()
    facts = {"source": read_source(model, weights), "model2vec": model2vec.__version__}
    write_words(out, static.tokenizer.to_str(), vectors, facts)
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"wrote {out}: {len(vectors)} tokens, {dimensions} dimensions, {size / 1e6:.1f} MB")


def read_source(model: Path, weights: Sequence[Path]) -> dict[str, Any]:
    """Return name, licence (as the model's card in README.md states them) and the weights' SHA-256."""
    card = model / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    front = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    licence = re.search(r"^license:\s*(.+?)\s*$", front.group(1), re.MULTILINE) if front else None
    name = re.search(r"^# (.+?)\s*$", text, re.MULTILINE)
    return {
        "name": name.group(1) if name else model.resolve().name,
        "licence": licence.group(1) if licence else "not stated in the model's folder",
        "sha256": {path.name: _sha256(path) for path in weights},
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
