"""What is stated about a show: gathered while it runs, written to the ledger, and signed into its recordings."""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from provenance.facts import LIVE_PERSON, LIVE_PICTURE, BundleFacts, PromptList, ShowFacts, encodable, now, to_prompt
from provenance.ledger import END, PROMPT, SIGNED, START
from streaming.arguments import DEFAULT_SINK
from streaming.errors import explain
from streaming.shipped import find_areas, find_shipped
from streaming.sinks.sink import Sink

if TYPE_CHECKING:
    from provenance.keys.credentials import Credentials
    from provenance.ledger.writer import LedgerWriter
    from runtime import Manifest

EXTRA = "signing needs the extra sign: pip install 'everframe[sign]'"
_MAX_PROMPTS = 200  # that a manifest lists; the ledger has all of them
_TELL_S = 3.0  # a line about the progress of signing
_STOP_S = 2.0  # for signing to end when it is stopped
_SOURCES = {"webcam": "a camera", "page": "the camera of a browser", "testcard": "a test card"}
_SOUNDS = {"mic": "a microphone", "input": "the sound of the live input", "page": "the microphone of a browser"}


class ShowRecord:
    """The record of one show. Without --sign and --ledger it does nothing.

    Args:
        options: as `streaming.arguments.parse` returns them.
        manifests: of the bundles: the generator, and the later links of a chain.
        others: of the other bundles, as `read_others` returns them.
        size: width and height of a frame in pixels.
        fps: of the show.
        say: called with one line for each event.
        payload: of the mark in every frame; None if there is none or it is not known.
        has_no_mark: whether the show was started without a mark.

    Attributes:
        facts: of the show, without its prompts.
        is_complete: whether everything that was wanted is signed and in the ledger.

    Raises:
        ValueError: a key, a certificate or the ledger cannot be used.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        manifests: Sequence[Manifest],
        others: Mapping[str, Manifest],
        size: tuple[int, int],
        fps: Fraction,
        say: Callable[[str], None],
        *,
        payload: int | None = None,
        has_no_mark: bool = False,
    ) -> None:
        from runtime import __version__  # after --help, which needs no runtime

        self.is_complete = True
        self._say, self._keeps_text = say, options.prompts == "text"
        self._credentials = load_credentials(options)
        if self._credentials is not None and self._credentials.warning:
            say(self._credentials.warning)
        bundles = [
            BundleFacts.of(manifest, "link" if number else "generator") for number, manifest in enumerate(manifests)
        ]
        bundles += [BundleFacts.of(manifest, role) for role, manifest in others.items()]
        live = LIVE_PERSON if options.matte is not None else LIVE_PICTURE if _is_fed(manifests[0]) else ""
        self.facts = ShowFacts(
            uuid4().hex,
            __version__,
            now(),
            tuple(bundles),
            size,
            str(fps),
            live,
            _describe(options.input, _SOURCES, "a video") if live else "",
            _describe(options.sound, _SOUNDS, "a file or a stream"),
            payload,
            has_no_mark,
        )
        self._ledger = None if options.ledger is None else _open_ledger(Path(options.ledger), self.facts.show, say)
        self._prompts = PromptList(_MAX_PROMPTS)  # of the thread below
        self._first: list[tuple[Mapping[str, Any], float]] = []  # before the show
        self._reader = ThreadPoolExecutor(1, "prompts")  # reads the files that prompts name
        self._sinks: Sequence[Sink] = ()
        self._reason, self._has_begun, self._frame = "it failed", False, -1

    @property
    def chain(self) -> str:
        """The first line of a chain of segments; "" if nothing is signed."""
        if self._credentials is None:
            return ""
        from provenance.segments import begin_line

        return begin_line(self.facts)

    def begin(self, sinks: Sequence[Sink]) -> None:
        """Note that the show begins."""
        self._sinks, self._has_begun = sinks, True
        if self._credentials is not None and not any(sink.makes_file for sink in sinks):
            self._say(
                "nothing will be signed: --sign is for recordings (FILE.mp4, FILE.mkv) and HLS (FOLDER/NAME.m3u8)"
            )
        self._note(START, {**self.facts.to_json(), "sinks": [sink.name for sink in sinks]}, self.facts.mark)
        first, self._first = self._first, []
        for parts, at_s in first:
            self.prompt(parts, at_s)

    def prompt(self, parts: Mapping[str, Any], at_s: float) -> None:
        """Note that something else is shown; returns at once."""
        if self._credentials is None and self._ledger is None:
            return
        if not self._has_begun:  # the first one is taken before the show begins
            self._first.append((parts, at_s))
            return

        def read() -> None:
            stated = to_prompt(parts, self.facts.salt, keeps_text=self._keeps_text)
            self._prompts.add(stated)
            self._note(PROMPT, {"at_s": round(at_s, 3), "prompt": stated})

        with contextlib.suppress(RuntimeError):  # the show has just ended
            self._reader.submit(read)

    def frame(self, slot: int) -> None:
        """Note the number of the last frame; may be called for every frame."""
        self._frame = slot
        if self._ledger is not None:
            self._ledger.beat(slot)

    def end(self, reason: str) -> None:
        """Say why the show has ended."""
        self._reason = reason

    def close(self, kind: type[BaseException] | None = None) -> None:
        """Sign what the sinks have made, and end the ledger's entry.

        Args:
            kind: of the exception that ends the show; after KeyboardInterrupt nothing is signed.
        """
        is_stopped = kind is not None and not issubclass(kind, Exception)
        self._reader.shutdown(wait=not is_stopped, cancel_futures=is_stopped)
        try:
            for sink in self._sinks:
                if self._credentials is not None and sink.product is not None and not is_stopped:
                    self._sign(self._credentials, sink.product)
        finally:
            if self._ledger is not None:
                if self._has_begun:
                    frame = self._frame if self._frame >= 0 else None
                    self._note(END, {"frame": frame, "reason": "stopped at once" if is_stopped else self._reason})
                if num_lost := self._ledger.close():
                    self.is_complete = False
                    self._say(f"{num_lost} events of this show are not in the ledger, which could not be written")

    def _sign(self, credentials: Credentials, path: Path) -> None:
        from provenance.signing import sign

        facts = replace(self.facts, prompts=self._prompts.listed, left_out=self._prompts.left_out)
        try:
            done = _watched(lambda progress: sign(path, facts, credentials, progress), f"signing {path}", self._say)
        except (ValueError, OSError, ImportError, MemoryError) as error:
            self.is_complete = False
            reason = " ".join(explain(error).split())
            self._say(f"{path} is complete, and not signed: {reason}")
            self._note(SIGNED, {"file": str(path), "error": reason})
        else:
            self._say(f"{path} is signed by {credentials.name}" + ("" if done == path else f", in {done}"))
            self._note(SIGNED, {"file": str(path), "in": str(done), "signer": credentials.name})

    def _note(self, kind: str, data: Mapping[str, Any], mark: str | None = None) -> None:
        if self._ledger is not None:
            self._ledger.note(kind, encodable(data), mark)


def read_others(options: argparse.Namespace, manifest: Manifest) -> dict[str, Manifest]:
    """Return role -> manifest of what helps the generator: "matte", "painter", and "areas" if it may be asked.

    Pictures without a mask are asked about: --image, those that are painted, and those that the page, cues and the live
    input bring.

    Raises:
        BundleError: one of them is damaged.
    """
    from runtime.bundle.reader import read_manifest

    named = {"matte": options.matte, "painter": options.scene_from}
    paths = {role: None if name is None else find_shipped(Path(name)) for role, name in named.items()}
    is_image = options.image is not None and options.moving is None
    is_brought = (
        options.input is not None
        or options.scene_from is not None
        or any(sink.startswith("http://") for sink in options.to or [DEFAULT_SINK])
    )
    is_brought = is_brought or any(cue.kind == "image" for cue in options.cue)
    if manifest.shapes and (is_image or is_brought):
        paths["areas"] = find_areas(options.areas)
    return {role: read_manifest(path) for role, path in paths.items() if path is not None}


def _open_ledger(path: Path, show: str, say: Callable[[str], None]) -> LedgerWriter:
    from provenance.ledger.writer import LedgerWriter  # it loads SQLite

    return LedgerWriter(path, show, say)


def load_credentials(options: argparse.Namespace) -> Credentials | None:
    """Return what the options say recordings are signed with, after a trial; None for no signatures.

    Raises:
        ValueError: the key or the certificates cannot be used, or the library is not installed.
    """
    if options.sign is None and options.sign_key is None:
        return None
    try:
        from provenance.keys.credentials import load, load_folder
        from provenance.signing import check

        if options.sign is not None:
            credentials = load_folder(Path(options.sign))
        else:
            credentials = load(Path(options.sign_key), Path(options.sign_certificates))
        check(credentials)
    except ImportError as error:
        raise ValueError(EXTRA) from error
    return credentials


def _watched(work: Callable[[Callable[[float], bool]], Path], what: str, say: Callable[[str], None]) -> Path:
    """Do some work on a thread and tell how far it is; a second Ctrl-C ends it at once.

    Args:
        work: gets a function that it calls with its progress, 0 to 1, and that returns whether to go on.
        what: it is, for the line.
        say: called with the line.
    """
    share, is_wanted = 0.0, True
    results: list[Path] = []
    errors: list[Exception] = []

    def progress(now_share: float) -> bool:
        nonlocal share
        share = now_share
        return is_wanted

    def run() -> None:
        try:
            results.append(work(progress))
        except Exception as error:  # noqa: BLE001 - raised below, on the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="signing", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_TELL_S)
            if thread.is_alive():
                say(f"{what}: {100 * share:.0f} %")
    except BaseException:
        is_wanted = False
        thread.join(_STOP_S)  # it deletes what it has begun
        raise
    if errors:
        raise errors[0]
    return results[0]


def _is_fed(manifest: Manifest) -> bool:
    """Return whether a bundle gets the pictures of a live input."""
    return manifest.step.only_input("live") is not None


def _describe(spec: str | None, known: Mapping[str, str], other: str) -> str:
    """Return in a few words what an input is, without its address or path."""
    return "" if spec is None else known.get(spec.partition(":")[0], other)
