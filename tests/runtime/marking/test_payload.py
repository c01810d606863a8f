"""The payload of a mark and how it is written."""

from __future__ import annotations

import pytest

from runtime.marking.payload import check_payload, format_payload, new_payload, parse_payload


@pytest.mark.parametrize("payload", [0, 1, 0xC0FFEE123456, 2**48 - 1])
def test_what_is_written_can_be_read(payload: int) -> None:
    text = format_payload(payload)
    assert len(text) == 12
    assert parse_payload(text) == parse_payload(text.upper()) == payload


def test_new_payloads_differ() -> None:
    found = {new_payload() for _ in range(100)}
    assert len(found) == 100
    assert all(0 <= payload < 2**48 for payload in found)


@pytest.mark.parametrize(
    "text", ["", "12", "00c0ffee12345", "00c0ffee123g", " 0c0ffee1234", "0x00c0ffee12", "\uff11" * 12]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="12 hexadecimal digits"):
        parse_payload(text)


@pytest.mark.parametrize("payload", [-1, 2**48, True, 1.0])
def test_other_numbers_are_refused(payload: object) -> None:
    with pytest.raises(ValueError, match="whole number from 0"):
        check_payload(payload)  # type: ignore[arg-type]
