"""Adds the mark to the step graph of a bundle, before any engine sees it."""

from __future__ import annotations

from dataclasses import replace

from runtime.bundle.reader import Bundle
from runtime.marking.graph import with_mark
from runtime.marking.plane import make_plane, plane_input


def marked(bundle: Bundle, payload: int | None, pixels: str) -> Bundle:
    """Return a bundle whose frames carry a mark; the bundle itself if the payload is None.

    Args:
        bundle: as `runtime.pixels.assemble.with_size` returns it.
        payload: of the mark, [0, 2**48), or None.
        pixels: the frame output that is marked, "rgb" or "i420".

    Returns:
        A bundle whose step graph has one more input of the role `mark`, for `plane`. All its graphs that make frames
        have it.

    Raises:
        BundleError: the step graph has tensors of the mark's names.
        ValueError: the payload is not a whole number in [0, 2**48), or the bundle has no such frame output.
    """
    if payload is None:
        return bundle
    step, build_half = bundle.manifest.step, bundle.build_half
    frame = next((item for item in step.outputs_of("frame") if item.pixels == pixels), None)
    if frame is None:
        raise ValueError(f'{bundle.manifest.name} has no frames in "{pixels}"')
    taken = replace(step, inputs=(*step.inputs, plane_input(frame)))
    return replace(
        bundle,
        manifest=replace(bundle.manifest, step=taken),
        step=with_mark(bundle.step, frame),
        build_half=None if build_half is None else lambda: with_mark(build_half(), frame),
        plane=make_plane(payload, frame),
        int8=None if bundle.int8 is None else marked(bundle.int8, payload, pixels),
    )
