"""A picture or a clip of the user behind the person of a live input."""

from __future__ import annotations

from pathlib import Path

from runtime.prompts.images import load_image, refusing
from streaming.inputs.live_input import ChildInputReader, InputReader, LiveInput, Rgb

_FIRST_S = 15.0  # for a clip's first frame


class Backdrop:
    """A picture, or a clip that is repeated in real time and decoded in a process of its own.

    Args:
        path: of the file.
        width, height: of a frame in pixels.
        fit: how it fits a frame of another shape, one of `runtime.prompts.images.FITS`.

    Raises:
        ValueError: the file is neither a picture nor a clip that can be read.
    """

    def __init__(self, path: Path, width: int, height: int, fit: str) -> None:
        self._clip: LiveInput | None = None
        self._seen = 0
        if not _is_clip(path):
            self._picture: Rgb | None = load_image(path, width, height, fit)
            return

        def dial(spec: str, width: int, height: int) -> InputReader:
            return ChildInputReader(spec, width, height, fit=fit)

        self._clip = LiveInput(f"file://{path.absolute()}", width, height, dial=dial, stall_s=_FIRST_S)
        try:
            self._picture = self._clip.wait_picture(_FIRST_S)
        except ValueError as error:
            self._clip.close()
            raise ValueError(f"{path} is neither a picture nor a clip that can be read: {error}") from error

    def news(self) -> Rgb | None:
        """Return the picture, uint8 (height, width, 3) RGB, if it is another one than in the last call, else None."""
        if self._clip is not None and self._clip.num_frames != self._seen:
            self._seen = self._clip.num_frames
            self._picture = None
            return self._clip.frame()
        picture, self._picture = self._picture, None
        return picture

    def close(self) -> None:
        """End the process."""
        if self._clip is not None:
            self._clip.close()


def _is_clip(path: Path) -> bool:
    """Return whether a file has moving pictures, or is none that Pillow knows."""
    from PIL import Image, UnidentifiedImageError

    with refusing(path, "image"):
        try:
            with Image.open(path) as opened:
                is_animated = opened.format == "GIF" and getattr(opened, "n_frames", 1) > 1
                return opened.format == "MPEG" or is_animated
        except UnidentifiedImageError:
            return True
