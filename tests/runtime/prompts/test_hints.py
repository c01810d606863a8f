"""What the user draws: parsing, limits, and the way to another frame."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.prompts.hints import MAX_POINTS, Hints, Stroke, Vector, decode_hints, to_hints
from runtime.prompts.images import place_hints

DRAWN = {
    "vectors": [[0.5, 0.25, 0.0, 0.2], [1, 0, -0.1, 2]],
    "strokes": [{"kind": "still", "radius": 0.05, "points": [[0.1, 0.9], [0.3, 0.9]]}],
}


def test_json_and_back() -> None:
    hints = Hints.from_json(DRAWN)
    assert hints.vectors == (Vector(0.5, 0.25, 0.0, 0.2), Vector(1.0, 0.0, -0.1, 2.0))
    assert hints.strokes == (Stroke("still", 0.05, ((0.1, 0.9), (0.3, 0.9))),)
    assert Hints.from_json(json.loads(json.dumps(hints.to_json()))) == hints
    assert not Hints.from_json({})
    assert Hints() + hints == hints
    assert to_hints(DRAWN) == hints == to_hints(hints)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([], "hints must be an object with vectors, strokes, got []"),
        ({"arrows": []}, "hints may have vectors, strokes, got 'arrows'"),
        ({"vectors": {}}, "vectors of the hints must be a list, got {}"),
        ({"vectors": [[0, 0, 0]]}, "an arrow is [x, y, dx, dy], got [0, 0, 0]"),
        ({"vectors": [[0, 0, 0, True]]}, "dx and dy of an arrow must be numbers from -2 to 2, got True"),
        ({"vectors": [[0, 0, 0, math.nan]]}, "dx and dy of an arrow must be numbers from -2 to 2, got nan"),
        ({"vectors": [[0, 1.01, 0, 0]]}, "x and y of an arrow must be numbers from 0 to 1, got 1.01"),
        ({"vectors": [[0, 0, 10**400, 0]]}, "dx and dy of an arrow must be numbers from -2 to 2, got 1000"),
        ({"vectors": [[0, 0, 0, 0]] * 65}, "hints have at most 64 vectors, got 65: remove some"),
        ({"strokes": [[]]}, "stroke 1 of the hints must be an object with kind, radius, points, got []"),
        ({"strokes": [{"kind": "still"}]}, "stroke 1 of the hints lacks radius: it needs kind, radius, points"),
        (
            {"strokes": [{"kind": "wet", "radius": 0.1, "points": [[0, 0]]}]},
            "moving or hole, got 'wet'",
        ),
        (
            {"strokes": [{"kind": ["still"], "radius": 1, "points": 1}]},
            "moving or hole, got ['still']",
        ),
        ({"strokes": [{"kind": "still", "radius": 0, "points": [[0, 0]]}]}, "must be above 0 and at most 0.5, got 0"),
        ({"strokes": [{"kind": "still", "radius": 0.1, "points": []}]}, "a stroke has 1 to 500 points, got 0"),
        ({"strokes": [{"kind": "still", "radius": 0.1, "points": [[0, 2]]}]}, "x and y of a point must be numbers"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(value: Any, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared below
        Hints.from_json(value)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


_SHARES = st.floats(0, 1)
_STROKES = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["still", "moving"]),
        "radius": st.floats(1e-4, 0.5),
        "points": st.lists(st.tuples(_SHARES, _SHARES).map(list), min_size=1, max_size=5),
    }
)
_SPEEDS = st.floats(-2, 2)


@given(st.lists(st.tuples(_SHARES, _SHARES, _SPEEDS, _SPEEDS).map(list), max_size=5), st.lists(_STROKES, max_size=3))
def test_every_drawing_survives_json(vectors: list[Any], strokes: list[Any]) -> None:
    hints = Hints.from_json({"vectors": vectors, "strokes": strokes})
    again = Hints.from_json(hints.to_json())
    assert again.to_json() == hints.to_json()
    for one, two in zip(hints.vectors, again.vectors, strict=True):
        assert max(abs(a - b) for a, b in zip(one, two, strict=True)) <= 1e-5


def test_a_file_is_read_and_named(tmp_path: Path) -> None:
    path = tmp_path / "hints.json"
    path.write_text(json.dumps(DRAWN))
    assert to_hints(str(path)) == to_hints(path) == Hints.from_json(DRAWN)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"hints\.json does not hold hints: it is not valid JSON"):
        to_hints(path)
    with pytest.raises(ValueError, match=r"there\.json cannot be read"):
        to_hints(tmp_path / "there.json")
    with pytest.raises(ValueError, match="larger than"):
        decode_hints(b" " * (2**21 + 1), "a")
    with pytest.raises(ValueError, match=r"^a: hints may have vectors, strokes, got 'x'$"):
        decode_hints(b'{"x": 1}', "a")


def test_there_is_a_limit_of_points() -> None:
    points = ((0.5, 0.5),) * MAX_POINTS
    assert Hints(strokes=(Stroke("still", 0.1, points),)).strokes[0].points == points
    with pytest.raises(ValueError, match="a stroke has 1 to 500 points, got 501"):
        Hints(strokes=(Stroke("still", 0.1, (*points, points[0])),))


def test_hints_of_a_picture_are_placed_in_a_frame() -> None:
    hints = Hints(
        (Vector(0.5, 0.5, 0.1, 0.1), Vector(0.05, 0.5, 0.1, 0.0)), (Stroke("still", 0.1, ((0.5, 0.1), (0.0, 0.1))),)
    )
    # A picture of 200 x 100 in a square frame: its middle half, or bars above and below.
    covered = place_hints(hints, (200, 100), 50, 50)
    assert covered.vectors == (Vector(0.5, 0.5, 0.2, 0.1),), "what is cropped away is left out"
    assert covered.strokes == (Stroke("still", 0.2, ((0.5, 0.1),)),)
    contained = place_hints(hints, (200, 100), 100, 100, "contain")
    assert contained.vectors[0] == Vector(0.5, 0.5, 0.1, 0.05)
    assert contained.strokes[0].points[0] == pytest.approx((0.5, 0.3))
