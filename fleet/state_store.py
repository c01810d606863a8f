"""Positions of shows in files, so that a fleet goes on after its head was restarted."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import Any

from fleet.errors import needs_cluster


class StateStore:
    """A folder, or any address that fsspec knows, with a file for each show: a line of JSON, then the position.

    A background thread writes and deletes: a slow store delays nobody, and of several positions only the latest is
    written. `load` waits for the store.

    Args:
        address: of the folder; it is made if it is missing.

    Attributes:
        error: why what was done last for some show has failed, in one sentence; "" if nothing has.

    Raises:
        ValueError: the address cannot be used.
    """

    def __init__(self, address: str) -> None:
        try:
            import fsspec
        except ImportError:
            raise needs_cluster("fsspec") from None
        self._errors: dict[str, str] = {}  # of each show
        self._address = address
        try:
            self._files, self._root = fsspec.core.url_to_fs(address)
            self._files.makedirs(self._root, exist_ok=True)
        except Exception as error:  # noqa: BLE001 - stores have errors of many kinds
            raise ValueError(f'[fleet] state = "{address}" cannot be used: {_line(error)}') from None
        self._wanted: dict[str, bytes | None] = {}  # what a file is to hold; None for no file
        self._wake, self._is_busy = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="state", daemon=True)
        self._thread.start()

    def load(self, name: str) -> tuple[bytes, str]:
        """Return the position of a show and its bundle; both empty if there is none."""
        try:
            data: bytes = self._files.cat_file(self._path(name))
            head, _, position = data.partition(b"\n")
            return position, str(json.loads(head)["bundle"])
        except FileNotFoundError:
            return b"", ""
        except Exception as error:  # noqa: BLE001 - as above
            self._errors[name] = (
                f"the position of {name} cannot be read from {self._address}: {_line(error)}; it begins anew"
            )
            return b"", ""

    @property
    def error(self) -> str:
        """See the class."""
        return next(iter(self._errors.copy().values()), "")

    def error_of(self, name: str) -> str:
        """Return why what was done last for a show has failed; "" if it has not."""
        return self._errors.get(name, "")

    def save(self, name: str, position: bytes, bundle: str) -> None:
        """Write a position soon; returns at once."""
        self._want(name, json.dumps({"bundle": bundle}).encode() + b"\n" + position)

    def remove(self, name: str) -> None:
        """Delete what is kept of a show soon; returns at once."""
        self._want(name, None)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all is written; return whether it is."""
        with self._wake:
            return self._wake.wait_for(lambda: not self._wanted and not self._is_busy, timeout_s)

    def _want(self, name: str, data: bytes | None) -> None:
        with self._wake:
            self._wanted[name] = data
            self._wake.notify_all()

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}.position"

    def _run(self) -> None:
        while True:
            with self._wake:
                self._is_busy = False
                self._wake.notify_all()
                self._wake.wait_for(lambda: self._wanted)
                wanted, self._wanted, self._is_busy = self._wanted, {}, True
            for name, data in wanted.items():
                try:
                    self._write(self._path(name), data)
                    self._errors.pop(name, None)
                except Exception as error:  # noqa: BLE001 - as above, and shows must go on
                    what = "deleted at" if data is None else "written to"
                    self._errors[name] = (
                        f"positions cannot be {what} {self._address}: {_line(error)}; free or change it"
                    )

    def _write(self, path: str, data: bytes | None) -> None:
        if data is not None:
            self._files.pipe_file(f"{path}.partial", data)
            self._files.mv(f"{path}.partial", path)
            return
        with contextlib.suppress(FileNotFoundError):
            self._files.rm_file(path)


def _line(error: Any) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
