"""A store of objects on this machine, as S3 has it."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Store:
    """A running store with the bucket "bucket"."""

    address: str  # http://127.0.0.1:PORT
    client: Any  # of boto3

    def put(self, folder: Path, prefix: str) -> None:
        """Copy the files of a folder into the bucket."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.client.upload_file(str(path), "bucket", f"{prefix}/{path.relative_to(folder).as_posix()}")

    def contents(self, prefix: str) -> dict[str, bytes]:
        """Return what is below a prefix, by the path within it."""
        found = self.client.list_objects_v2(Bucket="bucket", Prefix=f"{prefix}/").get("Contents", [])
        return {
            entry["Key"].removeprefix(f"{prefix}/"): self.client.get_object(Bucket="bucket", Key=entry["Key"])[
                "Body"
            ].read()
            for entry in found
        }

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket="bucket", Key=key)

    def check_credentials(self, is_strict: bool) -> None:
        """Refuse requests with credentials that the store does not know, or take any."""
        self._post("reset-auth", b"0" if is_strict else b"inf")  # requests that are taken before the first check

    def reset(self) -> None:
        """Remove everything; stores of one process share their content."""
        self._post("reset", b"")

    def _post(self, action: str, data: bytes) -> None:
        headers = {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(f"{self.address}/moto-api/{action}", data, headers)).close()


@contextmanager
def serving(patch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Yield a store that the environment names to s3fs, in this process and in those that it starts."""
    import boto3
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        patch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    store = Store(settings["AWS_ENDPOINT_URL"], client)
    try:
        store.reset()
        client.create_bucket(Bucket="bucket")
        yield store
    finally:
        store.check_credentials(False)  # it is the process's, not the server's
        client.close()
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


def without_times(found: dict[str, bytes]) -> dict[str, Any]:
    """Return files of shards; in the index the videos' times of modification are left out."""
    index = json.loads(found["shards.json"])
    del index["videos"]["mtime_ns"]
    for skipped in index["skipped"]:
        del skipped["mtime_ns"]
    return {**found, "shards.json": index}
