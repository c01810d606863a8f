"""The C2PA library, c2pa-python: the only file that imports it.

Nothing is fetched from the network: no remote manifests, no certificate status, no time stamps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provenance.keys.credentials import Credentials
from provenance.manifest import ALGORITHM

# An MP4 is hashed in chunks, with a Merkle tree; otherwise the library reads up to two blocks of 256 MB into memory.
_CHUNK_KB = 4096
_MEMORY_MB = 64  # of other data that the library keeps in memory
_SETTINGS: Mapping[str, Any] = {
    "version": 1,
    "builder": {"thumbnail": {"enabled": False}},
    "core": {"backing_store_memory_threshold_in_mb": _MEMORY_MB, "merkle_tree_chunk_size_in_kb": _CHUNK_KB},
    "soft_binding": {"soft_binding_algorithms": [ALGORITHM]},
}
_OFFLINE = {"remote_manifest_fetch": False, "ocsp_fetch": False}


class C2paLibraryError(ValueError):
    """The library refused something; the message is one line."""


def sign(
    definition: Mapping[str, Any], mime: str, source: Any, target: Any, credentials: Credentials, *, embeds: bool
) -> bytes:
    """Sign a file.

    Args:
        definition: of the manifest, see `provenance.manifest`.
        mime: format of the file. With `embeds`, one that the library can write; otherwise any.
        source: the file, open for reading.
        target: gets the signed file, or a copy of the file without `embeds`; open for writing and reading. With
            `embeds` it is read again and checked.
        credentials: sign it.
        embeds: whether the manifest becomes a part of the file.

    Returns:
        The manifest.

    Raises:
        C2paLibraryError: the key, the certificates or the file do not suit the library.
        ImportError: the library is not installed.
    """
    import c2pa

    checks = {"verify_after_sign": embeds, "verify_after_sign_hash": embeds}  # it replaces the only copy of the file
    settings = {**_SETTINGS, "verify": {**_OFFLINE, **checks}}
    try:
        chain, key = credentials.certificates.encode(), credentials.key.encode()
        info = c2pa.C2paSignerInfo(credentials.algorithm.encode(), chain, key, None)
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(json.dumps(definition), context) as builder,
        ):
            if not embeds:
                builder.set_no_embed()
            return bytes(builder.sign(signer, mime, source, target))
    except c2pa.C2paError as error:
        raise C2paLibraryError(" ".join(str(error).split())) from error


def read(mime: str, source: Any, manifest: bytes | None, roots: Path | None) -> dict[str, Any] | None:
    """Read and check the manifests of a file.

    Args:
        mime: format of the file.
        source: the file, open for reading.
        manifest: from a file beside it; None for that in the file.
        roots: PEM file of the roots that are trusted; None for none.

    Returns:
        The library's report, or None if there is no manifest.

    Raises:
        C2paLibraryError: there is something that cannot be read.
        OSError: the roots cannot be read.
        ImportError: the library is not installed.
    """
    import c2pa

    anchors = [] if roots is None else [{"trust_kind": "manifest", "trust_anchors": roots.read_text()}]
    settings = {**_SETTINGS, "verify": _OFFLINE, "trust": {"anchors": anchors}}
    try:
        with c2pa.Context.from_dict(settings) as context:
            reader = c2pa.Reader.try_create(mime, source, manifest, context)
            if reader is None:
                return None
            with reader:
                report: dict[str, Any] = json.loads(reader.json())
                return report
    except c2pa.C2paError as error:
        raise C2paLibraryError(" ".join(str(error).split())) from error
