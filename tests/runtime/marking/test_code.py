"""The code of a mark: what it corrects and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.marking.code import CODED_BITS, decode, encode

PAYLOADS = [0, 1, 0xC0FFEE123456, 2**48 - 1]


def received(payload: int, noise: float, seed: int) -> np.ndarray:
    sent = 1.0 - 2.0 * encode(payload)
    return sent + np.random.default_rng(seed).normal(0, noise, CODED_BITS)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_is_coded_is_decoded(payload: int) -> None:
    coded = encode(payload)
    assert coded.shape == (CODED_BITS,)
    assert set(coded.tolist()) <= {0, 1}
    assert decode(1.0 - 2.0 * coded) == payload


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_fifth_of_the_bits_may_be_wrong(payload: int) -> None:
    for seed in range(10):
        values = received(payload, 1.1, seed)  # about 18 % of the signs are wrong
        assert np.mean((values < 0) != encode(payload)) > 0.13
        assert decode(values) == payload


def test_any_two_codes_differ_in_at_least_24_bits() -> None:
    random = np.random.default_rng(0)
    codes = np.stack([encode(int(random.integers(2**48))) for _ in range(60)])
    distances = (codes[:, np.newaxis] != codes).sum(axis=2)
    assert distances[~np.eye(len(codes), dtype=bool)].min() >= 24


def test_noise_and_nothing_are_refused() -> None:
    random = np.random.default_rng(1)
    assert all(decode(random.normal(size=CODED_BITS)) is None for _ in range(30))
    assert decode(np.zeros(CODED_BITS)) is None


def test_a_code_whose_check_does_not_fit_is_refused() -> None:
    """The code is linear, so that the sum of two codes is the code of a message; its check is wrong."""
    assert decode(1.0 - 2.0 * (encode(1) ^ encode(2))) is None
    assert decode(1.0 - 2.0 * (encode(1) ^ encode(2) ^ encode(5))) == 1 ^ 2 ^ 5  # a sum of three has a right one
