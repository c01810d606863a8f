"""What is stated about a show, in its recordings' manifests and in the ledger."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.bundle.manifest import Manifest

LIVE_PERSON, LIVE_PICTURE = "person", "picture"
FILES = ("image", "clip", "past", "moving")  # parts of a prompt that are files
PAINTED = "painted"  # a part of a prompt: the picture that the painter made from its text and seed
LIVE_IMAGE = "input"  # as an image: the current picture of the live input
OF_LIVE = "a picture of the live input"  # what is stated about it
_MAX_ITEMS, _MAX_CHARACTERS = 64, 300  # of what a bundle says about itself, which nobody has checked
_SALT_BYTES = 16
_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class BundleFacts:
    """A bundle of the show.

    Args:
        name: of the bundle.
        sha256: of its manifest, which lists the hashes of its files.
        role: "generator", "link" (a later one of a chain), "matte", "areas" (says what may move), or "painter" (paints
            pictures that the generator animates).
        training: what it was trained on, or the network it was imported from: name, source, licence, and the number of
            clips or pictures.
    """

    name: str
    sha256: str
    role: str
    training: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, manifest: Manifest, role: str = "generator") -> BundleFacts:
        """Return the facts of a bundle; its statements are shortened, as anybody may have written them."""
        stated = manifest.provenance
        lists = (stated.get(key) for key in ("data", "pictures", "imported"))
        items = [item for value in lists if isinstance(value, list) for item in value if isinstance(item, Mapping)]
        return cls(manifest.name, manifest.sha256, role, tuple(_shorten(item) for item in items[:_MAX_ITEMS]))

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "role": self.role,
            "training": [dict(item) for item in self.training],
        }


@dataclass(frozen=True)
class Shown:
    """What prompts have put on air, as far as statements depend on it.

    Args:
        has_clip: a clip with its own frames.
        has_live_picture: an animated picture of the live input.
        has_given_picture: an animated picture or past of a file.
        has_scene: an animated picture of the bundle.
        has_generated: anything but a clip.
        has_painted: an animated picture that the painter has made.
    """

    has_clip: bool = False
    has_live_picture: bool = False
    has_given_picture: bool = False
    has_scene: bool = False
    has_generated: bool = False
    has_painted: bool = False

    @classmethod
    def of(cls, prompt: Mapping[str, Any]) -> Shown:
        """Return it for one prompt, as `to_prompt` returns it."""
        pictures = [prompt[part] for part in ("image", "past") if part in prompt]
        return cls(
            "clip" in prompt,
            OF_LIVE in pictures,
            any(picture != OF_LIVE for picture in pictures),
            "scene" in prompt,
            any(part in prompt for part in ("text", "image", "past", "seed", "scene", PAINTED)),
            PAINTED in prompt,
        )

    def __or__(self, other: Shown) -> Shown:
        return Shown(
            self.has_clip or other.has_clip,
            self.has_live_picture or other.has_live_picture,
            self.has_given_picture or other.has_given_picture,
            self.has_scene or other.has_scene,
            self.has_generated or other.has_generated,
            self.has_painted or other.has_painted,
        )


class PromptList:
    """The prompts of a show: each once, in order of its first time, and only the first ones; not thread-safe.

    Args:
        most: how many different ones are listed.

    Attributes:
        listed: the first ones.
        left_out: what the others have shown; None if there are none.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.listed: tuple[Mapping[str, Any], ...] = ()
        self.left_out: Shown | None = None

    def add(self, prompt: Mapping[str, Any]) -> None:
        """Add a prompt, as `to_prompt` returns it."""
        if prompt in self.listed:
            return
        if len(self.listed) < self._most:
            self.listed = (*self.listed, prompt)
        else:
            self.left_out = (self.left_out or Shown()) | Shown.of(prompt)


@dataclass(frozen=True)
class ShowFacts:
    """One show, or one recording of it.

    Args:
        show: its id, 32 hex digits.
        version: of Everframe.
        started: UTC, as ISO 8601 with a Z.
        bundles: the generator first.
        size: width and height of a frame in pixels.
        fps: as a fraction: "30" or "30000/1001".
        live: `LIVE_PERSON` if a person is cut out of a live input, `LIVE_PICTURE` if the pictures of a live input go
            through the bundle, else "".
        source: of the live input, in a few words; "" for none.
        sound: where the sound is from, in a few words; "" for silence.
        payload: of the invisible mark in every frame, 48 bits; None if it is not known.
        has_no_mark: whether the show was started without a mark.
        prompts: what was shown, as `to_prompt` returns it; each once, in order of its first time.
        salt: of hashed texts, as hex digits.
        left_out: what further prompts have shown, which are not listed; None if all of them are.
    """

    show: str
    version: str
    started: str
    bundles: tuple[BundleFacts, ...]
    size: tuple[int, int]
    fps: str
    live: str = ""
    source: str = ""
    sound: str = ""
    payload: int | None = None
    has_no_mark: bool = False
    prompts: tuple[Mapping[str, Any], ...] = ()
    salt: str = field(default_factory=lambda: secrets.token_hex(_SALT_BYTES))
    left_out: Shown | None = None

    @property
    def shown(self) -> Shown:
        """What all prompts have shown, also those that are not listed."""
        return reduce(or_, map(Shown.of, self.prompts), self.left_out or Shown())

    @property
    def mark(self) -> str | None:
        """The payload as 12 hex digits."""
        return None if self.payload is None else f"{self.payload:012x}"

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "show": self.show,
            "version": self.version,
            "started": self.started,
            "bundles": [bundle.to_json() for bundle in self.bundles],
            "width": self.size[0],
            "height": self.size[1],
            "fps": self.fps,
            "live": self.live,
            "source": self.source,
            "sound": self.sound,
            "mark": self.mark,
            "has_no_mark": self.has_no_mark,
            "prompts": [dict(prompt) for prompt in self.prompts],
            "is_every_prompt_listed": self.left_out is None,
            "salt": self.salt,
        }


def encodable(value: Any) -> Any:
    """Return a value for JSON whose texts can be encoded.

    File names that are not UTF-8 have lone surrogates in Python; each becomes its escape, e.g. backslash udcff.
    """
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, Mapping):
        return {encodable(key): encodable(item) for key, item in value.items()}
    return [encodable(item) for item in value] if isinstance(value, (list, tuple)) else value


def now() -> str:
    """Return the time in UTC, as ISO 8601 with a Z."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def to_prompt(parts: Mapping[str, Any], salt: str, *, keeps_text: bool) -> dict[str, Any]:
    """Return what is stated about a prompt; it reads the files that the prompt names.

    Args:
        parts: as `Generator.prepare` takes them.
        salt: of the show, as hex digits.
        keeps_text: whether texts are stated themselves; otherwise their hashes: SHA-256 of the salt and the text in
            UTF-8. Files are stated by the SHA-256 of their bytes.

    Returns:
        Part -> text, number, or "sha256:" and 64 hex digits; ready for JSON.
    """
    stated: dict[str, Any] = {}
    for part, value in parts.items():
        if value is None:
            continue
        if part == "text":
            stated[part] = str(value) if keeps_text else hash_text(str(value), salt)
        elif part in (*FILES, PAINTED):
            stated[part] = _hash_input(value)
        elif part in ("seed", "scene"):
            stated[part] = value
        else:
            stated[part] = "drawn motion"
    return stated


def hash_text(text: str, salt: str) -> str:
    """Return "sha256:" and the hash of the salt and the text."""
    return f"sha256:{hashlib.sha256(bytes.fromhex(salt) + encodable(text).encode()).hexdigest()}"


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits; read in blocks of a megabyte."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _hash_input(value: Any) -> str:
    if isinstance(value, str) and value == LIVE_IMAGE:
        return OF_LIVE
    if isinstance(value, (str, Path)):
        try:
            return f"sha256:{hash_file(Path(value))}"
        except (OSError, ValueError):
            return "a file that could not be read again"
    try:
        return f"sha256:{hashlib.sha256(memoryview(value).tobytes()).hexdigest()} of its pixels"
    except TypeError:
        return "a picture"


def _shorten(item: Mapping[str, Any]) -> dict[str, Any]:
    known = ("name", "source", "licence", "clips", "pictures", "sha256")
    return {
        key: value[:_MAX_CHARACTERS] if isinstance(value, str) else value
        for key in known
        if isinstance(value := item.get(key), (str, int)) and value != item.get("name" if key == "source" else "")
    }
