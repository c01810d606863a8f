"""Addresses of UDP."""

from __future__ import annotations

import argparse
import socket
from typing import Any

import pytest

from streaming.instrument.udp_address import UdpAddress, open_receiver, read_address, resolve


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("9000", UdpAddress("127.0.0.1", 9000), "127.0.0.1:9000"),
        ("0.0.0.0:9000", UdpAddress("0.0.0.0", 9000), "0.0.0.0:9000"),
        ("mixer.local:0", UdpAddress("mixer.local", 0), "mixer.local:0"),
        ("[::1]:65535", UdpAddress("::1", 65535), "[::1]:65535"),
    ],
)
def test_an_address_is_read(text: str, address: UdpAddress, shown: str) -> None:
    assert read_address(text) == address
    assert str(address) == shown


@pytest.mark.parametrize("text", ["", ":9000", "9000:", "host", "65536", "-1", "a b:9000", "::1:9000", "host:port"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"expected PORT or HOST:PORT, e.g. 9000"):
        read_address(text)


def test_an_unknown_host_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = "--osc-out a..b:9000 cannot be used: there is no host 'a..b'; write its address, e.g. 127.0.0.1:9000"
    with pytest.raises(ValueError, match=sentence):
        resolve(UdpAddress("a..b", 9000), "--osc-out")

    def fail(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ValueError, match="there is no host 'mixer'"):
        resolve(UdpAddress("mixer", 9000), "--osc-out")


def test_an_address_of_another_machine_cannot_be_bound() -> None:
    with pytest.raises(ValueError, match=r"the host is not an address of this machine; use 127.0.0.1, or 0.0.0.0"):
        open_receiver(UdpAddress("192.0.2.1", 0), "--osc")  # kept for documentation by RFC 5737
