"""AMF0 against its specification's bytes, and against hostile ones."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming import amf

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.dictionaries(TEXT.filter(bool), inner, max_size=4), max_leaves=8)


@given(st.lists(VALUES, max_size=5))
def test_what_is_encoded_is_decoded(values: list[Any]) -> None:
    def depth(value: Any) -> int:
        return 1 + max(map(depth, value.values()), default=0) if isinstance(value, dict) else 0

    if max(map(depth, values), default=0) <= 8:
        assert amf.decode(amf.encode(*values)) == values


def test_a_command_byte_by_byte() -> None:
    data = amf.encode("connect", 1, {"app": "live"}, None, True)
    assert data == (
        b"\x02\x00\x07connect"
        + b"\x00"
        + struct.pack(">d", 1)
        + b"\x03\x00\x03app\x02\x00\x04live\x00\x00\x09\x05\x01\x01"
    )


def test_types_that_only_servers_send() -> None:
    array = b"\x08\x00\x00\x00\x07" + b"\x00\x01a\x06" + b"\x00\x00\x09"
    items = b"\x0a\x00\x00\x00\x02\x05\x01\x00"
    date = b"\x0b" + struct.pack(">dh", 12.0, 0)
    text = b"\x0c\x00\x00\x00\x02hi"
    assert amf.decode(array + items + date + text) == [{"a": None}, [None, False], 12.0, "hi"]


@given(st.lists(VALUES, min_size=1, max_size=3), st.data())
def test_data_that_are_cut_short_are_refused_or_shorter(values: list[Any], data: st.DataObject) -> None:
    encoded = amf.encode(*values)
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    try:
        decoded = amf.decode(cut)
    except ValueError:
        return
    assert len(decoded) < len(values)


@given(st.binary(max_size=200))
def test_noise_does_nothing_worse_than_a_value_error(data: bytes) -> None:
    try:
        decoded = amf.decode(data)
    except ValueError:
        return
    assert isinstance(decoded, list)


def test_what_amf_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for list"):
        amf.encode([1])
    with pytest.raises(ValueError, match="65,535 bytes, got 70000"):
        amf.encode("x" * 70_000)
    with pytest.raises(ValueError, match="nested more than 8 deep"):
        amf.decode(b"\x0a\x00\x00\x00\x01" * 50)
    with pytest.raises(ValueError, match="type 15"):
        amf.decode(b"\x0f")
