"""Makes scenes for frames of any size: the picture, and what the condition graph says about a small copy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from runtime.bundle.tensors import GraphSpec, TensorSpec
from runtime.engines.engine import Array, Session
from runtime.pixels.areas import AreaSession
from runtime.pixels.planes import SHARP, to_planes
from runtime.pixels.stage import PREFIX, PlaneSet
from runtime.prompts.images import load_image

KEPT = f"{PREFIX}kept."  # begin of the names of what is kept of a scene, so that its motion can be drawn again
HAS_MOVING = f"{PREFIX}has_moving"  # input: 255 if a mask of what may move was given
AREAS = "areas"  # what is kept of the network's mask, behind KEPT
REACH = 4  # cells of hints around an arrow or a brush, which the network of areas does not hold
FLOW = "flow"  # slot of the memory that says how things move steadily, and how free they are (docs/bundle.md)


def kept_inputs(condition: GraphSpec) -> tuple[TensorSpec, ...]:
    """Return the inputs of a condition graph, at its work size, from which motion is drawn again.

    All of them if the graph reads hints itself; those that `with_drawn_motion` needs if it has a memory `FLOW`; else
    none, and no motion can be drawn.
    """
    if condition.only_input("hints") is not None:
        return tuple(item for item in condition.inputs if item.role != "hints")
    image = condition.only_input("image")
    for item in condition.outputs:
        if image is not None and item.name == FLOW and item.dtype == "float32" and item.shape[:2] == (1, 3):
            (height, width), (rows, columns) = image.shape[1:3], item.shape[2:]
            if (height % rows, width % columns, height // rows) == (0, 0, width // columns):
                return tuple(item for item in condition.inputs if item.role in ("image", "moving"))
    return ()


def kept_mask(condition: GraphSpec) -> TensorSpec | None:
    """Return the tensor whose shape the network's mask has where it is kept: for graphs that read hints themselves."""
    return None if condition.only_input("hints") is None else condition.only_input("moving")


class SceneSession:
    """A condition graph that reads and makes pictures of the frame's size; a `Session`.

    Its picture is the given image, else the last frame of the given clip, else one that is made up. If the outputs of
    `kept_inputs` of an earlier run are written, the next run is of the condition graph alone, on these.

    Args:
        spec: its own tensors, at the frame's size.
        graph: the tensors of the condition graph, at its work size.
        condition: session of the condition graph; this object takes ownership.
        painter: the tensors and a session of the graph that makes pictures up, or None.
        planes: of the frame.
        sharpness: gain on the finest detail of a picture that is displaced; 1 changes nothing.
        open_areas: opens what says what may move, when the first picture comes without a mask, and returns None if it
            cannot be opened; None if nothing says it.
    """

    def __init__(
        self,
        spec: GraphSpec,
        graph: GraphSpec,
        condition: Session,
        painter: tuple[GraphSpec, Session] | None,
        planes: tuple[PlaneSet, ...],
        sharpness: float,
        open_areas: Callable[[], AreaSession | None] | None = None,
    ) -> None:
        self._spec, self._graph, self._condition, self._painter, self._planes = spec, graph, condition, painter, planes
        self._sharpness, self._open_areas = sharpness, open_areas
        self._areas: AreaSession | None = None
        self._values: dict[str, Array] = {item.name: np.zeros(item.shape, item.dtype) for item in spec.inputs}
        self._results: dict[str, Array] = {}
        self._kept: dict[str, Array] = {}

    def write(self, name: str, value: Array) -> None:
        """Set an input, or what an earlier run has kept."""
        if name.startswith(KEPT):
            self._kept[name.removeprefix(KEPT)] = value
        else:
            self._values[name] = value

    def run(self) -> None:
        """Choose or make the picture, and run the condition graph on a small copy of it."""
        kept, self._kept = self._kept, {}
        if kept:
            for item in self._graph.inputs:
                self._condition.write(item.name, kept.get(item.name, self._values[item.name]))
            self._condition.run()
            self._results = {item.name: self._condition.read(item.name) for item in self._graph.outputs}
            self._hold(kept.get(AREAS))
            return
        picture = self._picture()
        mask = self._mask(picture)
        has_flow = any(item.name == FLOW for item in self._graph.outputs)
        small: dict[str, Array] = {}
        for item in self._graph.inputs:
            value = self._values[item.name]
            if item.role == "image":
                value = squeezed(picture, *item.shape[1:3])[np.newaxis]
            elif item.role == "clip":
                value = np.stack([squeezed(frame, *item.shape[2:4]) for frame in value[0]])[np.newaxis]
            elif item.role == "moving":
                value = squeezed(value[0], *item.shape[1:3])[np.newaxis]
            small[item.name] = value
            if item.role == "moving" and mask is not None and not has_flow:
                value = squeezed(mask, *item.shape[1:3])[np.newaxis]
            self._condition.write(item.name, value)
        self._condition.run()
        self._results = {item.name: self._condition.read(item.name) for item in self._graph.outputs}
        self._hold(None if mask is None else mask[np.newaxis])
        self._results |= {KEPT + item.name: small[item.name] for item in kept_inputs(self._graph)}
        if (own := kept_mask(self._graph)) is not None:
            whole = np.full(own.shape, 255, np.uint8)
            self._results[KEPT + AREAS] = whole if mask is None else squeezed(mask, *own.shape[1:3])[np.newaxis]
        self._results |= to_planes(picture, self._planes)
        given = next((self._values[item.name][0] for item in self._spec.inputs_of("moving")), None)
        moving = given if mask is None else mask
        sharp = sharpened(picture, self._sharpness, None if moving is None else moving[..., 0])
        planes = self._results if sharp is picture else to_planes(sharp, self._planes)
        self._results |= {item.name + SHARP: planes[item.name] for item in self._planes}

    def read(self, name: str) -> Array:
        """Return a memory of the last run."""
        return self._results[name]

    def reset(self) -> None:
        """Do nothing: there are no states."""

    def close(self) -> None:
        """Free the engine's memory."""
        self._condition.close()
        if self._painter is not None:
            self._painter[1].close()
        if self._areas is not None:
            self._areas.close()

    def _mask(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
        """Return what may move, uint8 (H, W, 1), for a given picture without a mask, else None.

        A clip's own motion is seen in it, and pictures that are made up are made to be moved: no mask is needed there.
        Without a mask, the input `moving` says where the picture is. What is beside it is not shown to the network.
        """
        image, moving = self._spec.only_input("image"), self._spec.only_input("moving")
        if self._open_areas is None or image is None or moving is None or self._values[HAS_MOVING].any():
            return None
        if not self._given()[image.name]:
            return None
        if self._areas is None:
            self._areas = self._open_areas()
        if self._areas is None:
            return None
        where: npt.NDArray[np.uint8] = self._values[moving.name][0]
        rows, columns = (np.flatnonzero(where[..., 0].any(axis=axis)) for axis in (1, 0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        mask = np.zeros_like(where)
        mask[box] = np.minimum(self._areas.moving(picture[box]), where[box])
        return mask

    def _hold(self, mask: Array | None) -> None:
        """Hold in the memory `FLOW` what stands still, but for what somebody has drawn.

        Args:
            mask: uint8 (1, H, W, 1), 255 where things may move; None for everywhere.
        """
        if mask is None or FLOW not in self._results:
            return
        flow: npt.NDArray[np.float32] = self._results[FLOW].astype(np.float32)
        free = squeezed(mask[0], *flow.shape[2:])[..., 0].astype(np.float32) / 255
        if (hints := self._graph.only_input("hints")) is not None:  # the graph has read arrows and brushes
            drawn = np.maximum(self._values[hints.name][0, 2], self._values[hints.name][0, 4]) > 0
            free = np.maximum(free, squeezed(_widened(drawn), *flow.shape[2:])[..., 0].astype(np.float32) / 255)
        flow[0, 2] *= free
        self._results[FLOW] = flow

    def _given(self) -> dict[str, bool]:
        """Return which inputs were given, by name."""
        return {
            item.of[index]: bool(np.ravel(self._values[item.name])[index])
            for item in self._spec.inputs
            if item.role in ("mask", "given")
            for index in range(len(item.of))
        }

    def _picture(self) -> npt.NDArray[np.uint8]:
        """Return the picture to animate, uint8 (H, W, 3)."""
        given = self._given()
        image, clip = self._spec.only_input("image"), self._spec.only_input("clip")
        assert image is not None, "a condition graph without an image"
        picture: npt.NDArray[np.uint8] = self._values[image.name][0]
        if not given[image.name] and clip is not None and given[clip.name]:
            picture = self._values[clip.name][0, -1]
        elif not given[image.name] and self._painter is not None:
            graph, session = self._painter
            for item in graph.inputs:
                session.write(item.name, self._values[item.name])
            session.run()
            picture = load_image(session.read(graph.outputs[0].name)[0], *picture.shape[1::-1])
        return picture


def _widened(cells: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return cells, bool (h, w), and all within `REACH` of them as 255: uint8 (h, w, 1)."""
    from PIL import Image, ImageFilter

    wide = Image.fromarray(cells.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * REACH + 1))
    return np.asarray(wide)[..., np.newaxis]


def sharpened(
    picture: npt.NDArray[np.uint8], gain: float, moving: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.uint8]:
    """Return a picture, uint8 (H, W, 3), with more of its finest detail.

    Args:
        picture: stays as it is where `moving` is 0, as nothing is displaced there.
        gain: on what a Gaussian blur with a deviation of one pixel removes; 1 changes nothing.
        moving: uint8 (H, W), 255 where things may move, or None for everywhere.
    """
    from PIL import Image, ImageFilter

    if gain == 1:
        return picture
    original = Image.fromarray(picture)
    sharp = original.filter(ImageFilter.UnsharpMask(radius=1, percent=round(100 * (gain - 1)), threshold=0))
    if moving is not None and moving.min() < 255:
        sharp = Image.composite(sharp, original, Image.fromarray(moving))
    return np.asarray(sharp)


def squeezed(picture: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize all of a picture, uint8 (H, W, 3) or (H, W, 1), to another size; its aspect ratio may change."""
    from PIL import Image

    if picture.shape[:2] == (height, width):
        return picture
    shaped = picture[..., 0] if picture.shape[2] == 1 else picture
    # Lanczos rings, which would move what must not.
    how = Image.Resampling.LANCZOS if picture.shape[2] == 3 else Image.Resampling.BOX
    small = Image.fromarray(shaped).resize((width, height), how)
    return np.asarray(small).reshape(height, width, picture.shape[2])
