"""Positions of shows in files, so that a fleet goes on after its head was restarted."""

from __future__ import annotations

import json
import threading
from typing import Any

from fleet.errors import needs_cluster


class StateStore:
    """A folder, or any address that fsspec knows, with two files for each show.

    A background thread writes: a slow store delays nothing, and of several positions only the latest is written.

    Args:
        address: of the folder; it is made if it is missing.

    Attributes:
        error: why the last write failed, in one sentence; "" if it did not.

    Raises:
        ValueError: the address cannot be used.
    """

    def __init__(self, address: str) -> None:
        try:
            import fsspec
        except ImportError:
            raise needs_cluster("fsspec") from None
        self.error = ""
        self._address = address
        try:
            self._files, self._root = fsspec.core.url_to_fs(address)
            self._files.makedirs(self._root, exist_ok=True)
        except Exception as error:  # noqa: BLE001 - stores have errors of many kinds
            raise ValueError(f'[fleet] state = "{address}" cannot be used: {_line(error)}') from None
        self._wanted: dict[str, tuple[bytes, str]] = {}
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="state", daemon=True)
        self._thread.start()

    def load(self, name: str) -> tuple[bytes, str]:
        """Return the position of a show and its bundle; both empty if there is none."""
        try:
            about = json.loads(self._files.cat_file(self._path(name, "json")))
            data: bytes = self._files.cat_file(self._path(name, "npz"))
            return data, str(about.get("bundle", ""))
        except FileNotFoundError:
            return b"", ""
        except Exception as error:  # noqa: BLE001 - as above
            self.error = f"the position of {name} cannot be read from {self._address}: {_line(error)}; it begins anew"
            return b"", ""

    def save(self, name: str, position: bytes, bundle: str) -> None:
        """Write a position soon; returns at once."""
        with self._wake:
            self._wanted[name] = position, bundle
            self._wake.notify()

    def remove(self, name: str) -> None:
        """Delete what is kept of a show."""
        with self._wake:
            self._wanted.pop(name, None)
        for kind in ("npz", "json"):
            try:
                self._files.rm_file(self._path(name, kind))
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 - as above
                self.error = f"the position of {name} cannot be deleted at {self._address}: {_line(error)}"

    def _path(self, name: str, kind: str) -> str:
        return f"{self._root}/{name}.{kind}"

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._wanted)
                wanted, self._wanted = self._wanted, {}
            for name, (position, bundle) in wanted.items():
                try:
                    self._write(f"{self._root}/{name}", position, bundle)
                    self.error = ""
                except Exception as error:  # noqa: BLE001 - stores have errors of many kinds, and shows must go on
                    self.error = f"positions cannot be written to {self._address}: {_line(error)}; free or change it"

    def _write(self, path: str, position: bytes, bundle: str) -> None:
        about = json.dumps({"bundle": bundle}).encode()
        for kind, data in (("npz", position), ("json", about)):
            self._files.pipe_file(f"{path}.{kind}.partial", data)
            self._files.mv(f"{path}.{kind}.partial", f"{path}.{kind}")


def _line(error: Any) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
