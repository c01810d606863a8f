"""Golden frames: PyTorch's own frames replayed on any engine of any machine, without PyTorch."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.errors import BundleError
from runtime.generator import Generator
from runtime.manifest import GoldenSpec, Manifest


class GoldenFile(NamedTuple):
    """What a golden file holds.

    Args:
        frames: uint8 (N, H, W, 3).
        image: what they were conditioned on, uint8 (H, W, 3), or None.
        clip: what they were conditioned on, uint8 (T, H, W, 3), or None.
        live: what was fed, uint8 (T, h, w, 3): number (k - 1) mod T before frame k; or None.
    """

    frames: npt.NDArray[np.uint8]
    image: npt.NDArray[np.uint8] | None
    clip: npt.NDArray[np.uint8] | None
    live: npt.NDArray[np.uint8] | None = None


class GoldenResult(NamedTuple):
    """How close one frame came: `frame` counts from 1, `psnr_db` is infinite where every value is the same."""

    file: str
    frame: int
    psnr_db: float


def check_golden(
    bundle: str | Path, engine: str = "auto", precision: str = "auto", *, cache_dir: str | Path | None = None
) -> list[GoldenResult]:
    """Replay a bundle's golden files.

    Args:
        bundle: folder of the bundle.
        engine: see `Generator.open`.
        precision: see `Generator.open`.
        cache_dir: see `Generator.open`.

    Returns:
        One result per golden frame, in the manifest's order.

    Raises:
        BundleError: the bundle or a golden file is damaged.
        EngineError: the engine cannot run here, or a package for text is missing.
        ValueError: a golden run's text cannot be read.
    """
    results: list[GoldenResult] = []
    with Generator.open(bundle, engine=engine, precision=precision, renewal=False, cache_dir=cache_dir) as generator:
        for spec in generator.manifest.golden:
            content = load_golden(Path(bundle), spec, generator.manifest)
            generator.reset(seed=spec.seed)
            if spec.image or spec.clip or spec.text is not None:
                seed = spec.seed if _takes_seed(generator.manifest) else None
                generator.condition(image=content.image, clip=content.clip, text=spec.text, seed=seed)
            wanted = dict(zip(spec.frames, content.frames, strict=True))
            for number in range(1, max(wanted) + 1):
                if content.live is not None:
                    generator.feed_live(content.live[(number - 1) % len(content.live)])
                frame = next(generator)
                if number in wanted:
                    results.append(GoldenResult(spec.file, number, psnr_db(frame, wanted[number])))
    return results


def psnr_db(frame: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of two frames of one shape, `10 log10(255^2 / mse)`, in dB."""
    error = float(np.mean((frame.astype(np.float64) - reference.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def load_golden(folder: Path, spec: GoldenSpec, manifest: Manifest) -> GoldenFile:
    """Load one golden file, whose hash was checked when the bundle was opened.

    Raises:
        BundleError: it does not hold what the manifest says.
    """
    try:
        with (folder / spec.file).open("rb") as stream:
            arrays = np.load(stream, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array and no names")
            content = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(f"{spec.file} is no golden file: {error}") from error
    shape = (manifest.frame.height, manifest.frame.width, 3)
    wanted = {"frames": ((len(spec.frames), *shape), "uint8"), "indices": ((len(spec.frames),), "int32")}
    if spec.image:
        wanted["image"] = (shape, "uint8")
    if spec.clip and manifest.condition is not None and (tensor := manifest.condition.only_input("clip")) is not None:
        wanted["clip"] = (tensor.shape[1:], "uint8")
    if spec.live and (tensor := manifest.step.only_input("live")) is not None:
        # Any number of frames but none; for a file without them, the shape of one is what the message expects.
        wanted["live"] = ((max(1, len(content.get("live", ()))), *tensor.shape[1:]), "uint8")
    for name in sorted(set(wanted) | set(content)):
        got = (content[name].shape, content[name].dtype.name) if name in content else None
        if name == "clip" and name in wanted and got is not None and 1 <= got[0][0] <= wanted[name][0][0]:
            got = ((wanted[name][0][0], *got[0][1:]), got[1])  # a shorter one is padded as any clip is
        if name not in wanted or got != wanted[name]:
            raise BundleError(f'{spec.file}: "{name}" is {got}, expected {wanted.get(name)}')
    if tuple(content["indices"].tolist()) != spec.frames:
        raise BundleError(
            f"{spec.file} holds the frames {content['indices'].tolist()}, the manifest says {spec.frames}"
        )
    return GoldenFile(content["frames"], content.get("image"), content.get("clip"), content.get("live"))


def _takes_seed(manifest: Manifest) -> bool:
    return manifest.condition is not None and manifest.condition.only_input("noise") is not None
