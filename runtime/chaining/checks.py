"""The rules for the bundles of a chain, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from runtime.bundle.manifest import Manifest
from runtime.pixels.assemble import MAX_SIDE, MIN_SIDE


def check_links(manifests: Sequence[Manifest], size: tuple[int, int] | None = None) -> None:
    """Check that bundles can form a chain.

    Args:
        manifests: of the bundles, the first link first.
        size: wanted (width, height) of the last link's frames; None for the bundle's own.

    Raises:
        ValueError: there is no bundle, one cannot follow or be followed, or the size is not the last one's.
    """
    if not manifests:
        raise ValueError("a chain has at least one bundle, got none")
    for before, manifest in pairwise(manifests):
        if manifest.step.only_input("live") is None:
            raise ValueError(
                f"{manifest.name} cannot follow {before.name}, as it has no live input: use it as the first bundle, "
                "or another bundle here, e.g. an imported model with an input of the role live"
            )
        formats = {item.pixels for item in before.step.outputs_of("frame")}
        if not before.shapes and "rgb" not in formats:
            raise ValueError(
                f"{manifest.name} cannot follow {before.name}, which has no RGB frames: use it as the last bundle"
            )
    last = manifests[-1]
    own = (last.frame.width, last.frame.height)
    if len(manifests) > 1 and size is not None and size != own and not last.shapes:
        raise ValueError(
            f"{last.name} makes frames of {own[0]}x{own[1]} only, and is the last bundle of the chain, got the size "
            f"{size[0]}x{size[1]}: leave the size out"
        )


def size_for(manifest: Manifest, then: Manifest) -> tuple[int, int] | None:
    """Return the (width, height) of frames for the live input of `then`; None if only the bundle's own is possible."""
    live = then.step.only_input("live")
    if live is None or not manifest.shapes:
        return None
    height, width, _ = live.shape[1:]
    is_allowed = height % 2 == width % 2 == 0 and min(width, height) >= MIN_SIDE and max(width, height) <= MAX_SIDE
    return (width, height) if is_allowed else None


def unique_names(manifests: Sequence[Manifest]) -> tuple[str, ...]:
    """Return a name for each link: that of its bundle, with -2, -3 ... if it is taken."""
    names: list[str] = []
    for manifest in manifests:
        name, number = manifest.name, 1
        while name in names:
            number += 1
            name = f"{manifest.name}-{number}"
        names.append(name)
    return tuple(names)


def describe_rates(manifests: Sequence[Manifest]) -> str:
    """Return a sentence about links that were made for another frame rate than the first; "" if there are none."""
    first = manifests[0].frame.fps
    others = {item.name: item.frame.fps for item in manifests[1:] if item.frame.fps != first}
    if not others:
        return ""
    made = ", ".join(f"{name} is made for {float(fps):g} fps" for name, fps in others.items())
    return f"the frame rate is that of {manifests[0].name}, {float(first):g} fps; {made}"
