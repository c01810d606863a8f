"""Reads the clip that a show begins with, while its engine is opened and its first seconds are played already."""

from __future__ import annotations

import argparse
import threading
from concurrent.futures import Future
from pathlib import Path

from runtime.bundle.reader import read_manifest
from runtime.clips.endless import ClipReader, EndlessClip, early_reader, head_of
from runtime.prompts.background import BackgroundThread


class EarlyClip:
    """A clip that is being read in a thread of its own; its head may be played before all of it has been read.

    Args:
        reader: reads it.
        clip: path of the file.
        how: how pictures of another shape fit the frame.
    """

    def __init__(self, reader: ClipReader, clip: str | Path, how: str) -> None:
        self._reader, self._path, self._how = reader, clip, how
        self._is_closed = threading.Event()
        self._first: Future[EndlessClip] = Future()  # the head, or all of it
        self._whole: Future[EndlessClip] = Future()
        self._is_told = False
        self._aligning: BackgroundThread[None] = BackgroundThread()
        self._thread = threading.Thread(target=self._read, name="everframe-clip", daemon=True)
        self._thread.start()

    def first(self) -> EndlessClip:
        """Wait for what can be played, all of the clip or its head; raises ValueError as `ClipReader.read`."""
        return self._whole.result() if self._whole.done() else self._first.result()

    def news(self) -> str:
        """Return a line that says what was done to the clip, once all of it has been read; else "", also later on."""
        if self._is_told or not self._whole.done() or self._whole.exception() is not None:
            return ""
        self._is_told = True
        return f"{Path(self._path).name}: {self._whole.result().summary}"

    def close(self) -> None:
        """Give up reading, and wait for the threads."""
        self._is_closed.set()
        self._thread.join()
        self._aligning.close()

    def _read(self) -> None:
        try:
            whole = self._reader.read(
                self._path,
                self._how,
                self._check,
                threads=0,
                on_head=lambda head: self._first.set_result(head_of(head, self._whole)),
            )
            self._whole.set_result(whole)
            if not self._first.done():
                self._first.set_result(whole)
            elif not self._is_closed.is_set():  # nobody else finds the flow of what follows the head
                self._aligning.submit(lambda: whole.find_steps(self._check))
        except BaseException as error:  # noqa: BLE001 - whoever waits for the clip gets it
            for future in (self._whole, self._first):
                if not future.done():
                    future.set_exception(error)

    def _check(self) -> None:
        if self._is_closed.is_set():
            raise ValueError("the show has ended, and its clip is no longer read")


def begin_clip(options: argparse.Namespace, bundle: Path) -> EarlyClip | None:
    """Begin to read the clip of `--clip`; None if there is none, or if the bundle does not play clips.

    Args:
        options: as `streaming.arguments.parse` returns them.
        bundle: folder of the bundle.

    Raises:
        BundleError: the bundle is missing or damaged.
        ValueError: the size is not allowed.
    """
    if options.clip is None or options.then:
        return None
    fps = None if options.fps is None else float(options.fps)
    reader = early_reader(read_manifest(bundle), options.size, options.pixels, fps)
    return None if reader is None else EarlyClip(reader, options.clip, options.fit)
