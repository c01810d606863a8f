"""The code of a mark: payload and check, protected by a convolutional code.

A message has 80 bits: the payload and the CRC-32 of a version byte and the payload. The code has rate 1/4 and
constraint length 9 (generators 463, 535, 733 and 745 octal, free distance 24: Larsen, "Short convolutional codes with
maximal free distance for rates 1/2, 1/3, and 1/4", IEEE Transactions on Information Theory 19, 1973). It is
tail-biting: the register begins with the last bits of the message, so that no bits are spent on its end.
"""

from __future__ import annotations

from functools import cache
from zlib import crc32

import numpy as np
import numpy.typing as npt

from runtime.marking.payload import BITS, check_payload

VERSION = 1  # of the pattern and the code; part of the check
CHECK_BITS = 32
MESSAGE_BITS = BITS + CHECK_BITS
RATE = 4  # coded bits for each bit of the message
CODED_BITS = RATE * MESSAGE_BITS
_MEMORY = 8  # bits that the encoder remembers
_GENERATORS = (0o463, 0o535, 0o733, 0o745)


def encode(payload: int) -> npt.NDArray[np.uint8]:
    """Return the coded bits of a payload, uint8 (CODED_BITS,) of 0 and 1.

    Raises:
        ValueError: it is not a whole number in [0, 2**48).
    """
    message = _to_bits(check_payload(payload) << CHECK_BITS | _check(payload), MESSAGE_BITS)
    state = 0
    for bit in message[-_MEMORY:]:
        state = int(bit) << (_MEMORY - 1) | state >> 1
    coded = np.zeros((MESSAGE_BITS, RATE), np.uint8)
    for step, bit in enumerate(message):
        register = int(bit) << _MEMORY | state
        coded[step] = [(register & generator).bit_count() % 2 for generator in _GENERATORS]
        state = register >> 1
    return coded.reshape(-1)


def decode(values: npt.NDArray[np.floating]) -> int | None:
    """Return the payload that fits some received values best, if its check is right; else None.

    Args:
        values: float (CODED_BITS,), one for each coded bit: positive for 0, negative for 1, and the larger the surer
            (log-likelihood ratios, up to a common factor).

    A value from pure noise passes the check with a probability of 2**-32.
    """
    message = _viterbi(np.asarray(values, np.float64).reshape(MESSAGE_BITS, RATE))
    number = int("".join(map(str, message)), 2)
    payload, check = number >> CHECK_BITS, number & (1 << CHECK_BITS) - 1
    return payload if check == _check(payload) else None


def _viterbi(values: npt.NDArray[np.float64]) -> list[int]:
    """Return the message whose code is closest to the values, (MESSAGE_BITS, RATE).

    The code is circular, so the values are read three times without a known beginning, and the middle is kept.
    """
    signs, before = _trellis()
    scores = np.zeros(2**_MEMORY)
    rounds = np.tile(values, (3, 1))
    chosen = np.zeros((len(rounds), 2**_MEMORY), np.uint8)
    for step, branch in enumerate(np.einsum("tr,sbr->tsb", rounds, signs)):
        ways = scores[before] + branch
        chosen[step] = ways[:, 1] > ways[:, 0]
        scores = ways.max(axis=1)
    state, bits = int(scores.argmax()), []
    for step in range(len(rounds) - 1, -1, -1):
        bits.append(state >> (_MEMORY - 1))
        state = int(before[state, chosen[step, state]])
    return bits[::-1][MESSAGE_BITS : 2 * MESSAGE_BITS]


@cache
def _trellis() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return, for each state and each of the two before it, the signs of the coded bits, and the state before."""
    states = np.arange(2**_MEMORY)
    before = (states % 2 ** (_MEMORY - 1) * 2)[:, np.newaxis] + np.arange(2)
    registers = (states >> (_MEMORY - 1) << _MEMORY)[:, np.newaxis] | before
    signs = np.array(
        [[[1 - 2 * ((int(r) & g).bit_count() % 2) for g in _GENERATORS] for r in pair] for pair in registers],
        np.float64,
    )
    return signs, before


def _check(payload: int) -> int:
    return crc32(bytes([VERSION]) + payload.to_bytes(BITS // 8, "big"))


def _to_bits(number: int, count: int) -> list[int]:
    return [number >> place & 1 for place in range(count - 1, -1, -1)]
