"""Opens a bundle as a generator wants it: frames of a size, what may move in its pictures, the mark of its frames."""

from __future__ import annotations

from pathlib import Path

from runtime.bundle.reader import Bundle, open_bundle
from runtime.engines.opening import frame_output
from runtime.errors import EngineError
from runtime.marking.marked_bundle import marked
from runtime.pixels.areas import with_areas
from runtime.pixels.assemble import with_size
from runtime.prompts.prompt_text import OpenEncoder, prepare_encoder


def prepare_bundle(
    path: str | Path,
    pixels: str,
    size: tuple[int, int] | None,
    *,
    areas: str | Path | None,
    mark: int | None,
    trust_engines: bool,
) -> tuple[Bundle, OpenEncoder | None]:
    """Open a bundle and check all that can be checked before an engine is loaded.

    Args:
        path, pixels, size, areas, mark, trust_engines: as of `Generator.open`.

    Returns:
        The bundle, and what encodes its texts, None if it takes no text.

    Raises:
        BundleError: the bundle is damaged or of an unknown schema.
        EngineError: there is not enough memory, or a package is missing without which no frame can be made.
        ValueError: a name or number is wrong.
    """
    try:
        bundle = with_areas(with_size(open_bundle(path, trust_engines=trust_engines), size, pixels), areas)
        bundle = marked(bundle, mark, pixels)
        encoder = prepare_encoder(bundle.path, bundle.manifest)
    except MemoryError as error:
        raise EngineError(f"there is not enough memory to open {path}: end other programs") from error
    frame_output(bundle.manifest.step, pixels)
    return bundle, encoder
