"""Attackers of a page, in a process of their own; they stop at the end of standard input.

python -m benchmarks.scenarios.attackers http://127.0.0.1:PORT      (started by `benchmarks.scenarios.attack`)

Only loopback addresses are attacked. Standard output is one line of JSON: how often each attack was made.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

SILENT = 300  # connections that send nothing, open at once
_PATIENCE_S = 20.0
_LONGEST_S = 7200.0  # of an attack, even if standard input never ends
_KEY = b"a" * 22 + b"=="
_WEBSOCKET = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + _KEY
_REQUESTS = (
    b"\x00\x01\x02\x03\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: somewhere.example\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: %(host)s\r\nOrigin: http://[\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: %(host)s\r\n\r\n",
    b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nHost: %(host)s\r\n\r\n",
    b'POST /api/prompt HTTP/1.1\r\nHost: %(host)s\r\nContent-Length: 17\r\n\r\n{"text":"\\ud800"}',
    b"POST /api/prompt HTTP/1.1\r\nHost: %(host)s\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /api/cues/image HTTP/1.1\r\nHost: %(host)s\r\nContent-Length: 9\r\n\r\nno image!",
    b'PUT /api/controls/x HTTP/1.1\r\nHost: %(host)s\r\nContent-Length: 13\r\n\r\n{"value":1e9}',
)
_HALVES = (
    b"GET /stats HTTP/1.1\r\nHost: %(host)s\r\nX-",
    b'POST /api/prompt HTTP/1.1\r\nHost: %(host)s\r\nContent-Length: 1000\r\n\r\n{"text": "',
    b"POST /api/cues/image HTTP/1.1\r\nHost: %(host)s\r\nContent-Length: 900000\r\n\r\n\xff\xd8\xff",
)


class Attackers:
    """All attacks on one page, at the same time.

    Args:
        host: of the page, a loopback address.
        port: of the page.
    """

    def __init__(self, host: str, port: int) -> None:
        self.done: Counter[str] = Counter()
        self._host, self._port = host, port
        self._name = f"{host}:{port}".encode()

    async def attack(self) -> None:
        """Attack until cancelled."""
        crowds = [self._again(self._be_silent, 0.0) for _ in range(SILENT)]
        crowds += [self._again(self._stop_halfway, 0.0) for _ in range(20)]
        crowds += [self._again(self._send_rubbish, 0.1), self._again(self._storm, 0.5), self._again(self._listen, 1.0)]
        await asyncio.gather(*crowds)

    async def _again(self, attack: Callable[[], Awaitable[None]], pause_s: float) -> None:
        while True:
            try:
                await attack()
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
                await asyncio.sleep(0.5)  # refused, as it should be
            await asyncio.sleep(pause_s)

    async def _exchange(self, data: bytes, patience_s: float = _PATIENCE_S) -> bytes:
        """Send bytes and return the beginning of the answer, or nothing after some time."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(data.replace(b"%(host)s", self._name))
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    return await reader.read(65536)
            return b""
        finally:
            writer.close()

    async def _be_silent(self) -> None:
        self.done["silent connections"] += 1
        await self._exchange(b"")
        await asyncio.sleep(2.0)

    async def _stop_halfway(self) -> None:
        self.done["half-sent requests"] += 1
        await self._exchange(_HALVES[self.done["half-sent requests"] % len(_HALVES)])
        await asyncio.sleep(2.0)

    async def _send_rubbish(self) -> None:
        self.done["bad requests"] += 1
        await self._exchange(_REQUESTS[self.done["bad requests"] % len(_REQUESTS)], 2.0)

    async def _storm(self) -> None:
        """Prepare eight scenes and drop them at once."""
        for seed in range(8):
            body = b'{"seed": %d}' % seed
            head = b"POST /api/cues HTTP/1.1\r\nHost: %(host)s\r\nConnection: close\r\nContent-Length: "
            answer = await self._exchange(head + b"%d\r\n\r\n" % len(body) + body, 5.0)
            self.done["prepared and dropped cues"] += 1
            with contextlib.suppress(ValueError, KeyError, TypeError):
                cue = json.loads(answer.partition(b"\r\n\r\n")[2])["id"]
                await self._exchange(
                    b"DELETE /api/cues/%d HTTP/1.1\r\nHost: %%(host)s\r\nConnection: close\r\n\r\n" % cue, 5.0
                )

    async def _listen(self) -> None:
        """Open a WebSocket, and send invalid frames."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(b"GET /api/live HTTP/1.1\r\nHost: " + self._name + b"\r\n" + _WEBSOCKET + b"\r\n\r\n")
            async with asyncio.timeout(_PATIENCE_S):
                await reader.readuntil(b"\r\n\r\n")
                for rubbish in (b"\x81\x84aaaa" + b"\xff\xff\xff\xff", b"\xff" * 50):
                    writer.write(rubbish)
                    await reader.read(4096)
        finally:
            writer.close()
        self.done["WebSockets"] += 1


async def _attack_until_input_ends(attackers: Attackers) -> None:
    attack = asyncio.ensure_future(attackers.attack())
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.wait({ended}, timeout=_LONGEST_S)
    attack.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await attack


def main(url: str) -> int:
    """Attack; return the exit status: 2 for an address that is not loopback."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not ipaddress.ip_address(host).is_loopback:
        print(f"{host} is not a loopback address: nothing else is attacked", file=sys.stderr)
        return 2
    attackers = Attackers(host, parts.port or 80)
    asyncio.run(_attack_until_input_ends(attackers))
    print(json.dumps(dict(attackers.done)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
