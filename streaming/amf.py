"""AMF0, the little value format of RTMP commands (Action Message Format, AMF 0, Adobe 2007)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum

Value = float | bool | str | None | Mapping[str, "Value"] | Sequence["Value"]

_MAX_DEPTH = 8  # no server nests deeper, and a hostile one must not exhaust the stack


class _Kind(IntEnum):
    NUMBER = 0
    BOOLEAN = 1
    STRING = 2
    OBJECT = 3
    NULL = 5
    UNDEFINED = 6
    ECMA_ARRAY = 8  # an object that states its length first, which nobody can rely on
    OBJECT_END = 9
    STRICT_ARRAY = 10
    DATE = 11  # milliseconds since 1970, then a time zone that is always 0
    LONG_STRING = 12


def encode(*values: Value) -> bytes:
    """Encode values one after the other, as the body of a command.

    Args:
        values: numbers, booleans, strings of at most 65,535 bytes, None, and mappings of these.

    Raises:
        ValueError: a value is none of these.
    """
    return b"".join(_encode(value) for value in values)


def decode(data: bytes) -> list[Value]:
    """Decode the body of a command.

    Args:
        data: AMF0 values one after the other.

    Returns:
        The values; dates become numbers, undefined becomes None.

    Raises:
        ValueError: the data are cut short, nested too deeply, or of a type that commands do not have.
    """
    values: list[Value] = []
    position = 0
    try:
        while position < len(data):
            value, position = _decode(data, position, 0)
            values.append(value)
    except (struct.error, IndexError) as error:
        raise ValueError(f"AMF0 data end in the middle of value {len(values) + 1}") from error
    return values


def _encode(value: Value) -> bytes:
    if value is None:
        return bytes([_Kind.NULL])
    if isinstance(value, bool):  # before numbers, as a bool is an int
        return bytes([_Kind.BOOLEAN, value])
    if isinstance(value, (int, float)):
        return struct.pack(">Bd", _Kind.NUMBER, value)
    if isinstance(value, str):
        return bytes([_Kind.STRING]) + _encode_text(value)
    if isinstance(value, Mapping):
        fields = b"".join(_encode_text(key) + _encode(item) for key, item in value.items())
        return bytes([_Kind.OBJECT]) + fields + bytes([0, 0, _Kind.OBJECT_END])
    raise ValueError(f"AMF0 has no place for {type(value).__name__}")


def _encode_text(text: str) -> bytes:
    data = text.encode()
    if len(data) > 0xFFFF:
        raise ValueError(f"an AMF0 string has at most 65,535 bytes, got {len(data)}")
    return struct.pack(">H", len(data)) + data


def _decode(data: bytes, position: int, depth: int) -> tuple[Value, int]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"AMF0 data are nested more than {_MAX_DEPTH} deep")
    kind, position = data[position], position + 1
    match kind:
        case _Kind.NUMBER:
            return struct.unpack_from(">d", data, position)[0], position + 8
        case _Kind.BOOLEAN:
            return bool(data[position]), position + 1
        case _Kind.STRING:
            return _decode_text(data, position, ">H")
        case _Kind.LONG_STRING:
            return _decode_text(data, position, ">L")
        case _Kind.NULL | _Kind.UNDEFINED:
            return None, position
        case _Kind.OBJECT:
            return _decode_fields(data, position, depth)
        case _Kind.ECMA_ARRAY:
            return _decode_fields(data, position + 4, depth)
        case _Kind.STRICT_ARRAY:
            return _decode_items(data, position, depth)
        case _Kind.DATE:
            return struct.unpack_from(">d", data, position)[0], position + 10
    raise ValueError(f"AMF0 type {kind} does not appear in RTMP commands")


def _decode_text(data: bytes, position: int, form: str) -> tuple[str, int]:
    (length,) = struct.unpack_from(form, data, position)
    start = position + struct.calcsize(form)
    if start + length > len(data):
        raise IndexError("text is cut short")
    return data[start : start + length].decode("utf-8", "replace"), start + length


def _decode_fields(data: bytes, position: int, depth: int) -> tuple[dict[str, Value], int]:
    fields: dict[str, Value] = {}
    while True:
        key, position = _decode_text(data, position, ">H")
        if not key and data[position] == _Kind.OBJECT_END:
            return fields, position + 1
        fields[key], position = _decode(data, position, depth + 1)


def _decode_items(data: bytes, position: int, depth: int) -> tuple[list[Value], int]:
    (length,) = struct.unpack_from(">L", data, position)
    position += 4
    items: list[Value] = []
    for _ in range(length):
        item, position = _decode(data, position, depth + 1)
        items.append(item)
    return items, position
