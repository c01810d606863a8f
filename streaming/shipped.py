"""Where the bundles that come with Everframe are: here, in the checkout, or in the installed package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

AREAS = Path("bundles/areas")  # says what may move in pictures without a mask


def find_areas(name: str | None) -> Path | None:
    """Return the folder of the bundle that says what may move; None for none.

    Args:
        name: of the user's; "none" for none; None for the shipped one, if it is there.

    Raises:
        ValueError: there is no bundle of the user's name.
    """
    if name == "none":
        return None
    if name is not None:
        found = find_shipped(Path(name))
        if not (found / "bundle.json").is_file():
            raise ValueError(f'--areas "{name}" is no bundle: name bundles/areas, another bundle, or none')
        return found
    found = find_shipped(AREAS)
    return found if found.is_dir() else None


def find_shipped(path: Path) -> Path:
    """Return a bundle's folder: the path itself, or a shipped bundle of that path if there is nothing at it."""
    checkout = Path(__file__).resolve().parents[1] / path
    for place in (path, checkout):
        if place.is_dir():
            return place
    package = find_spec("everframe_bundles")
    places = [] if package is None else package.submodule_search_locations or []
    is_shipped = path.parent.name == "bundles"
    return next(
        (Path(place) / path.name for place in places if is_shipped and (Path(place) / path.name).is_dir()), path
    )
