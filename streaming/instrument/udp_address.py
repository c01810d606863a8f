"""Addresses of UDP: PORT or HOST:PORT, and what cannot be bound or resolved in one sentence."""

from __future__ import annotations

import argparse
import errno
import re
import socket
from dataclasses import dataclass
from typing import Any

DEFAULT_HOST = "127.0.0.1"


@dataclass(frozen=True)
class UdpAddress:
    """A host and a port of UDP.

    Args:
        host: a name or an address.
        port: 0 to 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def read_address(text: str) -> UdpAddress:
    """Read PORT, HOST:PORT or [IPV6]:PORT.

    Raises:
        ArgumentTypeError: it is something else.
    """
    match = re.fullmatch(r"(?:(?P<host>[^\[\]:\s]+|\[[0-9a-fA-F:.]+\]):)?(?P<port>[0-9]{1,5})", text)
    if match is None or int(match["port"]) > 65535:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected PORT or HOST:PORT, e.g. 9000 or 192.168.1.5:9000")
    return UdpAddress((match["host"] or DEFAULT_HOST).strip("[]"), int(match["port"]))


def open_receiver(address: UdpAddress, option: str) -> socket.socket:
    """Return a socket that receives at an address of this machine.

    Args:
        address: port 0 takes a free one.
        option: named in errors.

    Raises:
        ValueError: it is not available.
    """
    family, place = resolve(address, option)
    receiver = socket.socket(family, socket.SOCK_DGRAM)
    try:
        receiver.bind(place)
    except OSError as error:
        receiver.close()
        raise ValueError(f"{option} {address} cannot be used: {_explain(error, address.port)}") from error
    return receiver


def resolve(address: UdpAddress, option: str) -> tuple[socket.AddressFamily, Any]:
    """Return the family of a socket, and the address as its methods take it.

    Raises:
        ValueError: the host is unknown.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"{option} {address} cannot be used: there is no host {address.host!r}; write its address, e.g. "
            f"{DEFAULT_HOST}:{address.port}"
        ) from error
    return family, place


def _explain(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; stop what uses it or choose another port"
    if error.errno == errno.EACCES:
        return f"port {port} is not allowed; choose one from 1024 to 65535"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"the host is not an address of this machine; use {DEFAULT_HOST}, or 0.0.0.0 for the whole network"
    return error.strerror or str(error)
