"""Golden frames: replays on any engine the frames that PyTorch made at export, without PyTorch."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.bundle.manifest import GoldenSpec, Manifest
from runtime.bundle.npy import MAX_HEADER_BYTES, NpyHeader, read_header, to_array
from runtime.bundle.reader import read_file, read_manifest
from runtime.errors import BundleError
from runtime.generator import Generator

_MAX_BYTES = 2**30  # packed and unpacked; a hundred frames of 1080p are half of it
_MAX_ENTRIES = 16
_END = struct.Struct("<4s4H2LH")  # the last record of a zip archive


class _Wanted(NamedTuple):
    """An array of a golden file; the length of its first axis is from `low` (if given) to `high`."""

    shape: tuple[int, ...]
    dtype: str
    low: int | None = None
    high: int | None = None

    def fits(self, header: NpyHeader) -> bool:
        """Return whether a header describes such an array."""
        if header.dtype.name != self.dtype or len(header.shape) != len(self.shape):
            return False
        if self.low is None:
            return header.shape == self.shape
        is_in_range = self.low <= header.shape[0] and (self.high is None or header.shape[0] <= self.high)
        return is_in_range and header.shape[1:] == self.shape[1:]


class GoldenFile(NamedTuple):
    """The content of a golden file.

    Args:
        frames: uint8 (N, H, W, 3).
        image: prompt, uint8 (H, W, 3), or None.
        clip: prompt, uint8 (T, H, W, 3), or None.
        live: live input, uint8 (T, h, w, 3), index (k - 1) mod T before frame k; or None.
    """

    frames: npt.NDArray[np.uint8]
    image: npt.NDArray[np.uint8] | None
    clip: npt.NDArray[np.uint8] | None
    live: npt.NDArray[np.uint8] | None = None


class GoldenResult(NamedTuple):
    """The similarity of one frame: `frame` counts from 1, `psnr_db` is infinite if all values are equal."""

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
        BundleError: the bundle or a golden file is damaged, or the prompt of a golden run cannot be read.
        EngineError: the engine cannot run here, or a package for text is missing.
    """
    results: list[GoldenResult] = []
    size = golden_size(read_manifest(Path(bundle)))
    with Generator.open(
        bundle, engine=engine, precision=precision, renewal=False, cache_dir=cache_dir, size=size
    ) as generator:
        for spec in generator.manifest.golden:
            content = load_golden(Path(bundle), spec, generator.manifest)
            generator.reset(seed=spec.seed)
            if spec.image or spec.clip or spec.text is not None:
                seed = spec.seed if _takes_seed(generator.manifest) else None
                try:
                    generator.condition(image=content.image, past=content.clip, text=spec.text, seed=seed)
                except ValueError as error:
                    raise BundleError(f"the run of {spec.file} cannot be replayed: {error}") from error
            wanted = dict(zip(spec.frames, content.frames, strict=True))
            for number in range(1, max(wanted) + 1):
                if content.live is not None:
                    feed_golden(generator, content.live, number - 1, is_masked=spec.mask)
                frame = next(generator)
                if number in wanted:
                    results.append(GoldenResult(spec.file, number, psnr_db(frame, wanted[number])))
    return results


def feed_golden(generator: Generator, live: npt.NDArray[np.uint8], number: int, *, is_masked: bool) -> None:
    """Feed the live frame, uint8 (T, h, w, 3) repeated, and the mask, of frame `number` of a golden run, from 0."""
    hidden = generator.manifest.step.only_input("mask")
    mask = golden_mask(number, *hidden.shape[1:3]) if is_masked and hidden is not None else None
    generator.feed_live(live[number % len(live)], mask)


def golden_mask(number: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return the mask of the live input in a golden run, uint8 (height, width): 0 in a box that goes to the right.

    Args:
        number: of the frame, from 0.
        height: of the live input in pixels.
        width: the like.
    """
    mask = np.full((height, width), 255, np.uint8)
    left = number * max(1, width // 24) % width
    mask[height // 3 : 2 * height // 3, left : left + width // 4] = 0
    return mask


def golden_size(manifest: Manifest) -> tuple[int, int]:
    """Return the (width, height) of golden frames: that of the frames, in schema 2 half that of the first shape."""
    if manifest.shapes:
        return manifest.shapes[0].width // 2, manifest.shapes[0].height // 2
    return manifest.frame.width, manifest.frame.height


def psnr_db(frame: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of two frames of one shape, `10 log10(255^2 / mse)`, in dB."""
    error = float(np.mean((frame.astype(np.float64) - reference.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def load_golden(folder: Path, spec: GoldenSpec, manifest: Manifest) -> GoldenFile:
    """Load one golden file; every size that it claims is checked before anything is unpacked.

    Args:
        folder: of the bundle.
        spec: of the file.
        manifest: of the bundle.

    Raises:
        BundleError: it is damaged, does not hold what the manifest says, or would unpack to more than 1 GiB.
    """
    wanted = _wanted(spec, manifest)
    claimed = sum(math.prod(item.shape) * np.dtype(item.dtype).itemsize for item in wanted.values())
    size = manifest.files[spec.file].size_bytes
    if max(claimed, size) > _MAX_BYTES:
        raise BundleError(
            f"{spec.file} would take {max(claimed, size)} bytes of memory, at most {_MAX_BYTES} are read: "
            "list fewer frames"
        )
    data = read_file(folder, spec.file, manifest.files[spec.file])
    try:
        _check_directory(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            if len(entries) != len(archive.infolist()):
                raise ValueError("a name appears twice")
            for name in sorted(set(wanted) | set(entries)):
                if name not in wanted or name not in entries:
                    got, expected = ("there", None) if name in entries else (None, wanted[name][:2])
                    raise BundleError(f'{spec.file}: "{name[:60]}" is {got}, expected {expected}')
            content = {name: _unpack(archive, entries[name], item, spec.file) for name, item in wanted.items()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise BundleError(f"{spec.file} is not a golden file: {error}; export the bundle again") from error
    if tuple(content["indices"].tolist()) != spec.frames:
        raise BundleError(
            f"{spec.file} holds the frames {content['indices'].tolist()}, the manifest says {spec.frames}"
        )
    return GoldenFile(content["frames"], content.get("image"), content.get("clip"), content.get("live"))


def _wanted(spec: GoldenSpec, manifest: Manifest) -> dict[str, _Wanted]:
    """Return the arrays that a golden file must hold, by name."""
    width, height = golden_size(manifest)
    shape = (height, width, 3)
    wanted = {
        "frames": _Wanted((len(spec.frames), *shape), "uint8"),
        "indices": _Wanted((len(spec.frames),), "int32"),
    }
    if spec.image:
        wanted["image"] = _Wanted(shape, "uint8")
    if spec.clip and (tensor := manifest.prompt_input("clip")) is not None:
        wanted["clip"] = _Wanted((tensor.shape[1], *shape), "uint8", 1, tensor.shape[1])  # a shorter one is padded
    if spec.live and (tensor := manifest.step.only_input("live")) is not None:
        wanted["live"] = _Wanted((1, *tensor.shape[1:]), "uint8", 1, None)  # at least one frame
    return wanted


def _check_directory(data: bytes) -> None:
    """Raise ValueError unless a zip archive ends as numpy writes it, with a short table of contents."""
    end = data[-_END.size :]
    if len(end) < _END.size or data[-_END.size - 20 :].startswith(b"PK\x06\x07"):
        raise ValueError("it is not a plain zip archive")
    magic, _, _, _, entries, size, _, comment = _END.unpack(end)
    if magic != b"PK\x05\x06" or comment:
        raise ValueError("it is not a zip archive, or its end is missing")
    if entries > _MAX_ENTRIES or size > 2**16:
        raise ValueError(f"it lists {entries} entries in {size} bytes, at most {_MAX_ENTRIES} are expected")


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, wanted: _Wanted, file: str) -> npt.NDArray[Any]:
    """Unpack one array, never more bytes than its header says.

    Raises:
        BundleError: it differs from the manifest.
        ValueError: it is not an array, or its length differs from its header.
    """
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
        raise ValueError(f"{entry.filename} has a compression that numpy does not write")
    with archive.open(entry) as stream:
        head = stream.read(MAX_HEADER_BYTES)
        header = read_header(head)
        if not wanted.fits(header):
            got = (header.shape, header.dtype.name)
            name = entry.filename.removesuffix(".npy")
            raise BundleError(f'{file}: "{name}" is {got}, expected {wanted[:2]}')
        size = header.size + header.dtype.itemsize * math.prod(header.shape)
        if entry.file_size != size or size > _MAX_BYTES:
            raise ValueError(f"{entry.filename} unpacks to {entry.file_size} bytes, its header says {size}")
        content = head + stream.read(size - len(head)) if size > len(head) else head
    if len(content) != size:
        raise ValueError(f"{entry.filename} ends after {len(content)} bytes, its header says {size}")
    return to_array(header, content)


def _takes_seed(manifest: Manifest) -> bool:
    return manifest.prompt_input("noise") is not None
