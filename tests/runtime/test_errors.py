"""Error messages with unusual names in them."""

from __future__ import annotations

import pickle

import pytest

from runtime import BundleError, EngineError
from runtime.errors import printable


@pytest.mark.parametrize("kind", [BundleError, EngineError])
def test_no_message_steers_a_terminal(kind: type[Exception]) -> None:
    error = kind('the node "\x1b]0;title\x07" \u202eno\u2069 \x9b2J \udcff\r\n is bad\tat "caf\u00e9 \u96ea"')
    expected = 'the node "\\x1b]0;title\\x07" \\u202eno\\u2069 \\x9b2J \\udcff is bad at "caf\u00e9 \u96ea"'
    assert str(error) == expected
    assert str(pickle.loads(pickle.dumps(error))) == expected
    assert len(str(kind("x" * 10**6))) < 3000


def test_printable_keeps_printable_text_and_escapes_line_breaks() -> None:
    assert printable("a  b, \u00e9, \U0001f30a") == "a  b, \u00e9, \U0001f30a"
    assert printable("a\nb\u2028") == "a\\nb\\u2028"
