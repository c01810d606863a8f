"""Prompts that are a clip which plays on for ever."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from runtime.bundle.manifest import Manifest
from runtime.clips.clip_frames import check_readable
from runtime.clips.endless import ClipReader, EndlessClip
from runtime.clips.playback import ClipPlayback
from runtime.errors import EngineError
from runtime.prompts.scene import Picture, PromptParts, Scene


def endless_clip(parts: PromptParts, reader: ClipReader | None) -> Picture | EndlessClip | None:
    """Return the clip of a prompt that plays on for ever; None if there is none.

    Args:
        parts: of the prompt.
        reader: None if the generator cannot play clips, which then are clips to go on from.

    Raises:
        ValueError: something else is given with it.
    """
    clip = parts.get("clip")
    if clip is None or reader is None:
        return None
    others = [name for name, value in parts.items() if value is not None and name not in ("clip", "seed")]
    if others:
        raise ValueError(
            f"a clip plays on with its own frames, got {others[0]} as well: leave it out, or give the clip as past"
        )
    return clip


def kinds_taken(manifest: Manifest, *, plays_clips: bool) -> tuple[str, ...]:
    """Return the kinds of prompt that a bundle takes; see `GeneratorInputs.takes`."""
    roles = {"text": "text", "image": "image", "clip": "clip", "past": "clip", "seed": "noise"}
    taken = {kind for kind, role in roles.items() if manifest.prompt_input(role) is not None}
    taken |= {"text"} if manifest.tokens is not None else set()
    return tuple(kind for kind in roles if kind in taken or (kind == "clip" and plays_clips))


def check_clip(clip: Picture | EndlessClip) -> None:
    """Raise ValueError if a clip's file is missing or holds no video; its length is not checked."""
    if isinstance(clip, (str, Path)):
        check_readable(clip)


def clip_scene(
    clip: Picture | EndlessClip,
    reader: ClipReader | None,
    playback: ClipPlayback | None,
    fit: str,
    check: Callable[[], None],
    *,
    is_playing: bool,
) -> Scene:
    """Read a clip and find its jumps; other arguments and errors as of `ClipReader.read`.

    The stage that plays clips is opened as well, because that would delay a frame.

    Args:
        is_playing: whether frames are being made, for which all cores but one are left.
    """
    assert reader is not None, "a clip for a generator that plays none"
    if playback is not None:
        with suppress(EngineError):  # the first frame that needs it tries again, and another engine after that
            playback.open()
    if not isinstance(clip, EndlessClip):
        clip = reader.read(clip, fit, check, threads=1 if is_playing else 0)
    return Scene(MappingProxyType({}), None, clip=clip)
