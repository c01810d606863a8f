"""Which files can be signed, and where their manifests are."""

from __future__ import annotations

EMBEDDED = {".mp4": "video/mp4", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}  # in the file
BESIDE = {".mkv": "video/x-matroska"}  # in a file beside it, which the library cannot write into
SIDECAR = ".c2pa"  # in place of the file's suffix
