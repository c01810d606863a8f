"""Reads the clip that a show begins with, while its engine is opened: both take about a second."""

from __future__ import annotations

import argparse
import threading
from concurrent.futures import Future
from pathlib import Path

from runtime.bundle.reader import read_manifest
from runtime.clips.endless import ClipReader, EndlessClip, early_reader


class EarlyClip:
    """A clip that is being read in a thread of its own.

    Args:
        reader: reads it.
        clip: path of the file.
        how: how pictures of another shape fit the frame.
    """

    def __init__(self, reader: ClipReader, clip: str | Path, how: str) -> None:
        self._is_closed = threading.Event()
        self._clip: Future[EndlessClip] = Future()

        def read() -> None:
            try:
                self._clip.set_result(reader.read(clip, how, self._check, threads=0))
            except BaseException as error:  # noqa: BLE001 - whoever waits for the clip gets it
                self._clip.set_exception(error)

        self._thread = threading.Thread(target=read, name="everframe-clip", daemon=True)
        self._thread.start()

    def result(self) -> EndlessClip:
        """Wait for the clip; raises ValueError as `ClipReader.read`."""
        return self._clip.result()

    def close(self) -> None:
        """Give up reading, and wait for the thread."""
        self._is_closed.set()
        self._thread.join()

    def _check(self) -> None:
        if self._is_closed.is_set():
            raise ValueError("the show has not begun, and its clip is no longer needed")


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
