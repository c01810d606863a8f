"""What may move in a picture that came without a mask: a small network in a bundle of its own says it, once per scene.

The generator itself cannot tell rock from water well enough: flow of footage shows where something moved, and not where
nothing can. The network's bundle turns a live picture into a frame that is white where things may move.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime.bundle.reader import Bundle, open_bundle
from runtime.bundle.tensors import GraphSpec
from runtime.engines.engine import Session


def with_areas(bundle: Bundle, areas: str | Path | None) -> Bundle:
    """Return a bundle whose pictures without a mask get one from another bundle; errors as of `open_areas`.

    Args:
        bundle: as `with_size` returns it; bundles that take no mask, and those of schema 1, stay as they are.
        areas: folder of the other bundle; None for none.
    """
    is_used = areas is not None and bundle.work is not None and bundle.work.only_input("moving") is not None
    return replace(bundle, areas=open_areas(areas)) if areas is not None and is_used else bundle


def open_areas(path: str | Path) -> Bundle:
    """Open a bundle that says what may move.

    Raises:
        BundleError: it is damaged.
        ValueError: it needs more than a picture, or makes no RGB frames.
    """
    bundle = open_bundle(path)
    graph = bundle.manifest.step
    roles = [item.role for item in graph.inputs]
    is_rgb = any(item.pixels == "rgb" for item in graph.outputs_of("frame"))
    if roles != ["live"] or bundle.manifest.condition is not None or bundle.manifest.shapes or not is_rgb:
        raise ValueError(
            f"{path} does not say what may move: it must turn a live picture alone into an RGB frame that is white "
            "where things may move; name bundles/areas, or none"
        )
    return bundle


class AreaSession:
    """A session of such a bundle's graph.

    Args:
        graph: its tensors; the only output is the RGB frame.
        session: of the graph; this object takes ownership.
    """

    def __init__(self, graph: GraphSpec, session: Session) -> None:
        self._live, self._frame, self._session = graph.inputs[0], graph.outputs[0], session

    def moving(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return where things may move in a picture, uint8 (H, W, 3): uint8 (H, W, 1), 255 there and 0 elsewhere."""
        from PIL import Image

        height, width = self._live.shape[1:3]
        small = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
        self._session.write(self._live.name, np.asarray(small)[np.newaxis])
        self._session.run()
        made = np.ascontiguousarray(self._session.read(self._frame.name)[0, ..., 0])
        size = picture.shape[1], picture.shape[0]
        return np.asarray(Image.fromarray(made).resize(size, Image.Resampling.BILINEAR))[..., np.newaxis]

    def close(self) -> None:
        """Free the engine's memory."""
        self._session.close()
