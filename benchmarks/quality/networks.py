"""Frozen networks: I3D for clips, LPIPS for pictures; ONNX files run by ONNX Runtime on the CPU.

Each has the SHA-256 of its file. Features are kept by the content of a clip, so that they are computed only once.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.quality.clips import Clip
from benchmarks.quality.store import Arrays, ResultStore

SIDE = 224  # pixels, what I3D was trained on
MIN_FRAMES = 16  # of a clip, in I3D's FVD protocol

Floats = npt.NDArray[np.float32]


class Features(NamedTuple):
    """Logits (clips, 400), of which FVD is computed; features (clips, 1024), the mean of the last layer."""

    logits: Floats
    features: Floats


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits; ValueError if there is none."""
    if not path.is_file():
        raise ValueError(f"there is no weights file {path}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=16)
def _bilinear(size: int, target: int) -> Floats:
    """Return the (target, size) matrix of a bilinear resize with half-pixel centres and no antialiasing."""
    places = (np.arange(target) + 0.5) * size / target - 0.5
    low = np.floor(places)
    share = (places - low).astype(np.float32)
    matrix = np.zeros((target, size), np.float32)
    rows = np.arange(target)
    np.add.at(matrix, (rows, np.clip(low, 0, size - 1).astype(int)), 1 - share)
    np.add.at(matrix, (rows, np.clip(low + 1, 0, size - 1).astype(int)), share)
    return matrix


def resize_bilinear(clip: Clip, height: int, width: int) -> Floats:
    """Resize every frame as in the I3D protocol: bilinear, half-pixel centres, no antialiasing.

    Args:
        clip: (T, H, W, 3) uint8.
        height, width: of the result.

    Returns:
        (3, T, height, width) float32, 0 to 255.
    """
    planes = clip.transpose(3, 0, 1, 2).astype(np.float32)  # (3, T, H, W)
    rows, columns = _bilinear(clip.shape[1], height), _bilinear(clip.shape[2], width)
    return np.ascontiguousarray(rows @ planes @ columns.T)


class _Network:
    """An ONNX file and its session, which is opened when first used."""

    def __init__(self, path: Path, threads: int | None, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.path, self.sha256, self._threads = path, file_sha256(path), threads
        self._names = (list(inputs), list(outputs))

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if self._threads:
            options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - ONNX Runtime raises many kinds for a file that is not a model
            raise ValueError(f"{self.path} cannot be opened as ONNX: {str(error).splitlines()[0]}") from None
        found = [value.name for value in session.get_inputs()], [value.name for value in session.get_outputs()]
        if not all(set(wanted) <= set(names) for wanted, names in zip(self._names, found, strict=True)):
            raise ValueError(
                f"{self.path} has the inputs {', '.join(found[0])} and outputs {', '.join(found[1])}, expected "
                f"{', '.join(self._names[0])} and {', '.join(self._names[1])}: name another file"
            )
        return session

    def _run(self, **inputs: Floats) -> list[Floats]:
        result: list[Floats] = self._session.run(self._names[1], inputs)
        return result


class I3D(_Network):
    """I3D trained on Kinetics-400 (Carreira and Zisserman 1705.07750).

    Args:
        path: ONNX: `video` (N, 3, T, 224, 224) float32 in [-1, 1] -> `logits` (N, 400), `features` (N, 1024).
        threads: of the CPU; None for every core.
    """

    name = "I3D Kinetics-400"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        super().__init__(path, threads, ["video"], ["logits", "features"])

    def extract(self, clip: Clip) -> tuple[Floats, Floats]:
        """Return logits (400,) and features (1024,) of a clip (T, H, W, 3) uint8 RGB."""
        video = resize_bilinear(clip, SIDE, SIDE) / 127.5 - 1
        logits, features = self._run(video=video[np.newaxis])
        return logits[0], features[0]


class Lpips(_Network):
    """LPIPS (Zhang et al. 1801.03924).

    Args:
        path: ONNX: `img0`, `img1` (N, 3, H, W) float32 in [-1, 1] -> `distance` (N,).
        threads: of the CPU; None for every core.
    """

    name = "LPIPS AlexNet"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        super().__init__(path, threads, ["img0", "img1"], ["distance"])

    def distance(self, one: Clip, two: Clip) -> Floats:
        """Return the distance of picture to picture, (N,), of two arrays (N, H, W, 3) uint8 RGB."""
        a, b = (np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32) / 127.5 - 1 for x in (one, two))
        return self._run(img0=a, img1=b)[0].reshape(-1)


class FeatureCache:
    """Features by content of the clip, kept in a folder.

    Args:
        extractor: computes what is not there yet.
        folder: see `ResultStore`.
    """

    def __init__(self, extractor: I3D, folder: Path) -> None:
        self.extractor = extractor
        self._store = ResultStore(folder / extractor.sha256[:16])

    def features(self, clips: Sequence[Clip], advance: Callable[[], None] = lambda: None) -> Features:
        """Return the features of clips, in their order; `advance` is called after each."""
        if not clips:
            raise ValueError("there are no clips to extract features of")
        rows = []
        for clip in clips:
            digest = hashlib.sha256(repr(clip.shape).encode() + np.ascontiguousarray(clip).tobytes()).hexdigest()
            rows.append(self._store.get(digest[:2], {"clip": digest}, lambda: self._extract(clip)))  # noqa: B023
            advance()
        return Features(np.stack([row["logits"] for row in rows]), np.stack([row["features"] for row in rows]))

    def _extract(self, clip: Clip) -> Arrays:
        logits, features = self.extractor.extract(clip)
        if not (np.isfinite(logits).all() and np.isfinite(features).all()):
            raise ValueError(f"{self.extractor.name} found no finite features in a clip of shape {clip.shape}")
        return {"logits": logits, "features": features}


def cache_folder() -> Path:
    """Return the folder where features are kept between evaluations."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "everframe" / "quality"
