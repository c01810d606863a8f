"""The original model in ONNX Runtime, with its pixels converted in NumPy: the reference for the imported bundle.

It shares no graph code with the import, so that the comparison finds errors there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.external_weights import read_external, without_folder
from export.from_onnx.model import OnnxSource, first_line
from export.from_onnx.pixels import LUMA, PictureSpec
from runtime.engines.onnxruntime import open_session
from runtime.engines.table import count_cores

Array = npt.NDArray[Any]


def onnxruntime_version() -> str:
    """Return ONNX Runtime's version; its package has several names (onnxruntime, onnxruntime-gpu)."""
    import onnxruntime

    return str(onnxruntime.__version__)


def single_batch_error(source: OnnxSource) -> str:
    """Return the beginning of the message about a batch that cannot be made 1."""
    return (
        f"{source.path.name} is made for a batch of {source.batch}, and its graph does not work with a batch of 1 "
        "(export the model for a batch of 1, or with a free batch)"
    )


class OriginalModel:
    """A session of the original file, or of its content if that had to be changed.

    Args:
        source: the file.
        is_optimised: whether ONNX Runtime changes the graph to make it faster.

    Raises:
        ValueError: ONNX Runtime cannot load it; the message names the first operator that is not standard.
    """

    def __init__(self, source: OnnxSource, *, is_optimised: bool = True) -> None:
        self._source = source
        try:
            content: str | bytes = str(source.path)
            folder: Path | None = None
            if not source.is_runnable or source.is_split:
                # ONNX Runtime maps large weights into memory, but finds no shapes in other files: these are loaded.
                model = read_external(source.path) if source.is_runnable else source.model
                folder = source.path.parent.resolve()
                content = without_folder(model, folder).SerializeToString()
            self._session: Any = open_session(content, count_cores(), is_optimised=is_optimised, weights_folder=folder)
        except Exception as error:  # its errors have no common base class
            if source.before is not None:
                raise ValueError(f"{single_batch_error(source)}: {first_line(error)[:160]}") from error
            foreign = [node for node in source.model.graph.node if node.domain not in ("", "ai.onnx", "ai.onnx.ml")]
            what = f"the operator {foreign[0].domain}.{foreign[0].op_type} is not standard ONNX: " if foreign else ""
            raise ValueError(
                f"{what}ONNX Runtime cannot load {source.path}: {first_line(error)}; export the model with standard "
                "operators"
            ) from error

    def close(self) -> None:
        """Free the session's memory; it cannot be used afterwards."""
        self._session = None

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Run it once.

        Args:
            feeds: every input.
            outputs: the wanted outputs; None for all.

        Raises:
            ValueError: ONNX Runtime failed.
        """
        names = [port.name for port in self._source.outputs] if outputs is None else list(outputs)
        try:
            found = self._session.run(names, dict(feeds))
        except Exception as error:  # its errors have no common base class
            shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in feeds.items())
            if self._source.before is not None:
                raise ValueError(f"{single_batch_error(self._source)}: {first_line(error)[:160]}") from error
            raise ValueError(
                f"{self._source.path.name} fails on {shapes}: try another --size (many models need multiples of 16 or "
                f"32), or add a --shape; ONNX Runtime says: {first_line(error)[:160]}"
            ) from error
        return dict(zip(names, found, strict=True))


def encode_picture(pixels: npt.NDArray[np.uint8], picture: PictureSpec) -> Array:
    """Convert uint8 (h, w, 3) RGB, or a mask (h, w, 1), to a model's input format."""
    planes: Array = pixels.astype(np.float64)
    if planes.shape[:2] != picture.size:
        planes = np.round(_resize(planes, picture.size))
    planes = planes / 255
    if picture.channels == 1 and planes.shape[2] == 3:
        planes = (planes @ np.array(LUMA))[..., np.newaxis]
    black, white = picture.black_and_white()
    planes = black + planes * (white - black)
    if picture.order == "bgr":
        planes = planes[..., ::-1]
    if np.issubdtype(np.dtype(picture.dtype), np.integer):
        planes = np.round(planes)
    if picture.layout == "nchw":
        planes = planes.transpose(2, 0, 1)
    return np.ascontiguousarray(planes[np.newaxis].astype(picture.dtype))


def decode_picture(values: Array, picture: PictureSpec, size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], Array]:
    """Convert a model's picture to a frame.

    Returns:
        The frame, uint8 (H, W, 3) RGB, and its values before clipping, where 0 is black and 1 is white.
    """
    planes = values[0].astype(np.float32)  # as in the bundle, so that values round alike
    if picture.layout == "nchw":
        planes = planes.transpose(1, 2, 0)
    planes = planes[: size[0], : size[1]]
    if picture.channel is not None:
        planes = planes[..., picture.channel : picture.channel + 1]
    if picture.channels == 3 and picture.order == "bgr":
        planes = planes[..., ::-1]
    black, white = (end.astype(np.float32) for end in picture.black_and_white())
    planes = (planes - black) / (white - black)
    if picture.channels == 1:
        planes = planes.repeat(3, axis=2)
    return np.floor(planes.clip(0, 1) * 255 + 0.5).astype(np.uint8), planes


def _resize(planes: Array, size: tuple[int, int]) -> Array:
    """Resize (h, w, C) by linear interpolation between pixel centres."""
    for axis, count in enumerate(size):
        places = ((np.arange(count) + 0.5) * planes.shape[axis] / count - 0.5).clip(0, planes.shape[axis] - 1)
        lower = np.floor(places).astype(int)
        upper = np.minimum(lower + 1, planes.shape[axis] - 1)
        share = (places - lower).reshape([-1 if other == axis else 1 for other in range(3)])
        planes = planes.take(lower, axis) * (1 - share) + planes.take(upper, axis) * share
    return planes
