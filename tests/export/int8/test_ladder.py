"""Which layers stay in float, on numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx
import pytest

from export.int8.ladder import MAX_GROUPS, MAX_TRIES, Group, Try, climb, rank_groups, rungs
from export.parity.checks import ParityCheck


class FakeQuantiser:
    """Layers with known errors; a "graph" is named after its layers."""

    def __init__(self, errors: Mapping[str, float]) -> None:
        self.errors, self.model = errors, onnx.ModelProto()
        self.work = dict.fromkeys(errors, 10)

    def quantise_plainly(self, layers: Collection[str]) -> onnx.ModelProto:
        return onnx.ModelProto(producer_name=" ".join(layers))

    def evaluate(self, model: onnx.ModelProto, feeds: Sequence[object]) -> list[list[np.ndarray]]:
        error = sum(self.errors[name] for name in model.producer_name.split())
        return [[np.array([0.0 + error, 1.0 + error])] for _ in feeds]


def group(name: str, error: float, work: int = 10) -> Group:
    return Group((name,), work, error)


def checks(worst: float) -> list[ParityCheck]:
    return [ParityCheck.of_psnr("plain", "int8", "loop", [worst])]


def test_groups_are_ranked_by_error_for_the_work_they_save() -> None:
    fake = FakeQuantiser({"a": 0.3, "b": 0.1, "c": 0.2})
    fake.work["c"] = 1000
    ranked = rank_groups(fake, [{}, {}], fake.evaluate, lambda _: None)
    assert [found.layers[0] for found in ranked] == ["c", "b", "a"]
    assert [found.error for found in ranked] == pytest.approx([0.2, 0.1, 0.3])


def test_many_layers_are_put_into_groups_of_neighbours() -> None:
    fake = FakeQuantiser({f"layer{index}": 0.1 for index in range(200)})
    shares: list[float] = []
    ranked = rank_groups(fake, [{}], fake.evaluate, shares.append)
    assert len(ranked) == MAX_GROUPS
    assert sorted(name for found in ranked for name in found.layers) == sorted(fake.work)
    assert shares[-1] == 1.0


def test_a_rung_leaves_out_what_does_not_fit_and_takes_what_comes_after() -> None:
    found = rungs([group("small", 0.1), group("large", 10.0, work=10**6), group("other", 0.2)])
    assert set(found[0]) == {"small", "large", "other"}
    assert set(found[1]) == {"small", "other"}
    assert len(set(found)) == len(found)


def test_the_first_rung_that_passes_is_found_in_few_tries() -> None:
    groups = [group(f"layer{index}", 0.01 * 1.2**index) for index in range(40)]
    wanted = 17
    ladder, reported = rungs(groups), list[Try]()
    found = climb(
        groups, lambda layers: checks(99.0 if ladder.index(tuple(layers)) >= wanted else 1.0), reported.append
    )
    assert found is not None
    assert found.rung == wanted
    assert len(reported) <= MAX_TRIES


def test_everything_is_quantised_if_that_passes() -> None:
    groups = [group("a", 0.1), group("b", 0.2)]
    reported: list[Try] = []
    found = climb(groups, lambda layers: checks(50.0), reported.append)
    assert found is not None
    assert set(found.layers) == {"a", "b"}
    assert len(reported) == 1


def test_nothing_is_found_if_no_rung_passes() -> None:
    reported: list[Try] = []
    assert climb([group("a", 0.1), group("b", 0.2)], lambda layers: checks(3.0), reported.append) is None
    assert max(tried.worst_db for tried in reported) == 3.0
