"""Reads a stream or a file to its end and tells when its picture and its sound ended.

python -m benchmarks.scenarios.ends URL      (started by `benchmarks.scenarios.endurance`)

Standard output is a line of JSON: {"video": {"packets": N, "start_s": S, "end_s": S}, "audio": ...}.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import av


def main(url: str) -> int:
    """Read to the end; return the exit status."""
    found: dict[str, Any] = {}
    options = {"rw_timeout": "20000000"} if "://" in url else {}
    try:
        with av.open(url, options=options, timeout=(20.0, 20.0)) as container:
            for packet in container.demux():
                if packet.pts is None or packet.stream.type not in ("video", "audio"):
                    continue
                time_base = float(packet.time_base)
                begin_s = packet.pts * time_base
                entry = found.setdefault(packet.stream.type, {"packets": 0, "start_s": begin_s, "end_s": 0.0})
                entry["packets"] += 1
                entry["end_s"] = max(entry["end_s"], begin_s + (packet.duration or 0) * time_base)
    except (av.FFmpegError, OSError) as error:
        print(f"ended by {error}", file=sys.stderr)
    print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
