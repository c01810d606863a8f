"""The command line: everframe fleet CONFIG.toml."""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from fleet.errors import needs_cluster
from streaming.errors import SinkError, explain

if TYPE_CHECKING:
    from fleet.config import FleetConfig

DESCRIPTION = """\
Run many shows on a Ray cluster. Ray places each show and starts it again on
another machine if its own is lost; it goes on at the frame that the clock asks
for. One page shows all of them.

CONFIG.toml:
  [fleet]
  page = "http://127.0.0.1:8080"
  state = "s3://bucket/shows"       # optional: positions survive the head, too

  [tenants.acme]
  shows = 10                        # limits of all its shows together
  cpus = 20

  [shows.lobby]
  tenant = "acme"
  cpus = 2                          # what Ray reserves; gpus = 0.25 is possible
  bundle = "bundles/landscape"      # on the machine that runs the show
  scene = "lake"                    # and any option of everframe stream
  to = ["rtmp://example.org/live/env:LOBBY_KEY"]

docs/cluster.md has the rest: machines, limits, moving shows, changing bundles."""

_CONNECT_S = 5.0
_OPTIONAL = ("ray", "httpx")  # of the extra `cluster`


_LOOK_S = 0.5  # between two looks whether the keeper lives
_NAMESPACE = "everframe"  # of Ray: one fleet on a cluster


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see everframe fleet --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments; None for the process's own.

    Returns:
        0, or 2 for a bad argument or configuration.
    """
    parser = _Parser(
        prog="everframe fleet",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.toml", help="the shows")
    parser.add_argument(
        "--address", metavar="A", help="of the Ray cluster (default: $RAY_ADDRESS, else a Ray of this machine alone)"
    )
    parser.add_argument("--check", action="store_true", help="read the configuration, and start nothing")
    try:
        options = parser.parse_args(argv)
        from fleet.config import read_config

        config = read_config(options.config)
        for problem in config.problems.values():
            print(f"error: {problem}", file=sys.stderr)
        if options.check:
            print(f"{len(config.shows)} shows can be started, {len(config.problems)} cannot")
            return 2 if config.problems else 0
        if not config.shows:
            raise ValueError(f"{options.config}: no show can be started")
        return _run(config, options.address)
    except (ValueError, SinkError, OSError, ImportError) as error:
        print(f"error: {' '.join(explain(error).split())}", file=sys.stderr)
        return 2


def _run(config: FleetConfig, address: str | None) -> int:
    """Run the shows until a signal comes."""
    try:
        import ray

        from fleet.director import Director
        from fleet.server import FleetServer
    except ImportError as error:
        if error.name not in _OPTIONAL:
            raise
        raise needs_cluster(error.name) from None
    address = address or os.environ.get("RAY_ADDRESS")
    is_ended = threading.Event()
    with FleetServer(config.page) as server:
        try:
            _require_listener(address)
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of Ray, to its makers
            ray.init(address=address, namespace=_NAMESPACE, log_to_driver=False, configure_logging=False)
        except (OSError, OverflowError, RuntimeError, ValueError) as error:
            raise ValueError(f"there is no Ray cluster at {address}: {error}; start it, or leave it out") from None
        for number in (signal.SIGINT, signal.SIGTERM):  # now, as Ray sets a handler of its own
            signal.signal(number, lambda *_: is_ended.set())
        try:
            with Director(config, _say) as director:
                _say(server.start(director))
                while not is_ended.wait(_LOOK_S):
                    if director.is_lost:
                        raise ValueError(director.problem)
                _say("all shows end now")
                server.close()  # so that no show is added any more
        finally:
            ray.shutdown()
    return 0


def _require_listener(address: str | None) -> None:
    """Check that somebody listens at HOST:PORT: Ray would wait for ever.

    Raises:
        OSError, OverflowError: nobody does, or the port is no port.
    """
    if (match := re.fullmatch(r"(?:ray://)?\[?([^/\]]+?)\]?:(\d+)", address or "")) is not None:
        socket.create_connection((match[1], int(match[2])), _CONNECT_S).close()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
