"""Motion that the user draws: arrows that say which way things move, and strokes of a brush that freeze or free them.

Places are in shares of the frame's width and height, from the upper left. As JSON:

{"vectors": [[0.5, 0.3, 0.0, 0.2]], "strokes": [{"kind": "still", "radius": 0.05, "points": [[0.1, 0.9], [0.3, 0.9]]}]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

HOLE = "hole"  # kind of strokes that are no motion: the live picture is filled there
KINDS = ("still", "moving", HOLE)  # of strokes
MAX_VECTORS, MAX_STROKES, MAX_POINTS = 64, 64, 500
MAX_ALL_POINTS = 4000  # of all strokes together; drawing them takes seconds beyond that
MAX_SPEED = 2.0  # frame widths or heights in a second
MAX_RADIUS = 0.5  # frame widths
MAX_FILE_BYTES = 2**21
_DECIMALS = 5  # in JSON


class Vector(NamedTuple):
    """An arrow from (x, y) to (x + dx, y + dy): what is there moves by the arrow's length in a second.

    Attributes:
        x, y: 0 to 1.
        dx, dy: at most `MAX_SPEED`.
    """

    x: float
    y: float
    dx: float
    dy: float


class Stroke(NamedTuple):
    """A stroke of the brush.

    Attributes:
        kind: "still": nothing moves there; "moving": everything is free to move there; "hole": a bundle like
            bundles/fill fills the picture there.
        radius: of the brush in shares of the frame's width, above 0 and at most `MAX_RADIUS`.
        points: (x, y) from 0 to 1, joined by straight lines; at least one.
    """

    kind: str
    radius: float
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Hints:
    """What the user has drawn over a scene; false if that is nothing.

    Args:
        vectors: at most `MAX_VECTORS`.
        strokes: at most `MAX_STROKES`, of at most `MAX_POINTS` points each.

    Raises:
        ValueError: there is too much of something, or a value is out of range.
    """

    vectors: tuple[Vector, ...] = ()
    strokes: tuple[Stroke, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "vectors", tuple(map(_vector, _limited("vectors", self.vectors, MAX_VECTORS))))
        object.__setattr__(self, "strokes", tuple(map(_stroke, _limited("strokes", self.strokes, MAX_STROKES))))
        if (count := sum(len(stroke.points) for stroke in self.strokes)) > MAX_ALL_POINTS:
            raise ValueError(
                f"the strokes have {count} points, at most {MAX_ALL_POINTS} are read: draw fewer or shorter ones"
            )

    def __bool__(self) -> bool:
        return bool(self.vectors or self.strokes)

    @property
    def holes(self) -> tuple[Stroke, ...]:
        """The strokes that say where the live picture is filled."""
        return tuple(stroke for stroke in self.strokes if stroke.kind == HOLE)

    @property
    def motion(self) -> Hints:
        """The rest: what belongs to a scene."""
        return Hints(self.vectors, tuple(stroke for stroke in self.strokes if stroke.kind != HOLE))

    def __add__(self, other: Hints) -> Hints:
        return Hints(self.vectors + other.vectors, self.strokes + other.strokes)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Check the result of `json.loads`.

        Args:
            value: an object with the keys `vectors` and `strokes`, both optional; see the head of this file.

        Raises:
            ValueError: a key is unknown, or a value has a wrong type or is out of range.
        """
        given = _object(value, "hints", ("vectors", "strokes"))
        strokes = []
        for number, item in enumerate(_limited("strokes", given.get("strokes", []), MAX_STROKES), 1):
            keys = ("kind", "radius", "points")
            stroke = _object(item, f"stroke {number} of the hints", keys)
            if missing := [key for key in keys if key not in stroke]:
                raise ValueError(f"stroke {number} of the hints lacks {missing[0]}: it needs {', '.join(keys)}")
            strokes.append(Stroke(stroke["kind"], stroke["radius"], stroke["points"]))
        return cls(given.get("vectors", ()), tuple(strokes))

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "vectors": [[round(value, _DECIMALS) for value in vector] for vector in self.vectors],
            "strokes": [
                {
                    "kind": kind,
                    "radius": max(10.0**-_DECIMALS, round(radius, _DECIMALS)),
                    "points": [[round(x, _DECIMALS), round(y, _DECIMALS)] for x, y in points],
                }
                for kind, radius, points in self.strokes
            ],
        }

    def placed(self, left: float, top: float, width: float, height: float) -> Hints:
        """Return the hints of a part of a picture, or of a larger frame around it.

        Args:
            left, top, width, height: of the new frame, in shares of the old one.

        Returns:
            Arrows that begin outside of the new frame are left out, and so are points of strokes.
        """
        vectors = [
            Vector((x - left) / width, (y - top) / height, _bounded(dx / width), _bounded(dy / height))
            for x, y, dx, dy in self.vectors
        ]
        strokes = [
            Stroke(
                kind,
                min(MAX_RADIUS, radius / width),
                tuple(point for x, y in points if _is_inside(point := ((x - left) / width, (y - top) / height))),
            )
            for kind, radius, points in self.strokes
        ]
        return Hints(
            tuple(vector for vector in vectors if _is_inside(vector[:2])),
            tuple(stroke for stroke in strokes if stroke.points),
        )


def to_hints(value: Hints | str | Path | Mapping[str, Any]) -> Hints:
    """Return hints from any form that a prompt takes.

    Args:
        value: hints, an object as `Hints.from_json` reads it, or the path of a JSON file that holds one.

    Raises:
        ValueError: the file cannot be read, a value is wrong, or there are holes, which belong to no scene.
    """
    hints = _to_any_hints(value)
    if hints.holes:
        raise ValueError(
            "these hints have a stroke of the kind hole, which belongs to no scene: draw it during the show, or use "
            "--mask with a picture"
        )
    return hints


def _to_any_hints(value: Hints | str | Path | Mapping[str, Any]) -> Hints:
    if isinstance(value, Hints):
        return value
    if not isinstance(value, (str, Path)):
        return Hints.from_json(value)
    try:
        with Path(value).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ValueError(f"the hints {value} cannot be read: {error}") from error
    return decode_hints(data, str(value))


def decode_hints(data: bytes, name: str) -> Hints:
    """Decode the content of a JSON file, named `name` in messages.

    Raises:
        ValueError: it is too large, not JSON, or a value is wrong.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"the hints {name} are larger than {MAX_FILE_BYTES} bytes: draw fewer or shorter strokes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} does not hold hints: it is not valid JSON") from error
    try:
        return Hints.from_json(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _object(value: Any, what: str, keys: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} must be an object with {', '.join(keys)}, got {_shorten(value)}")
    for key in value:
        if key not in keys:
            raise ValueError(f"{what} may have {', '.join(keys)}, got {_shorten(key)}")
    return value


def _limited(what: str, value: Any, most: int) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{what} of the hints must be a list, got {_shorten(value)}")
    if len(value) > most:
        raise ValueError(f"hints have at most {most} {what}, got {len(value)}: remove some")
    return value


def _vector(value: Any) -> Vector:
    if not isinstance(value, (list, tuple)) or len(value) != 4:
        raise ValueError(f"an arrow is [x, y, dx, dy], got {_shorten(value)}")
    x, y = (_number("x and y of an arrow", item, 0.0, 1.0) for item in value[:2])
    dx, dy = (_number("dx and dy of an arrow", item, -MAX_SPEED, MAX_SPEED) for item in value[2:])
    return Vector(x, y, dx, dy)


def _stroke(value: Any) -> Stroke:
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        raise ValueError(f"a stroke is (kind, radius, points), got {_shorten(value)}")
    kind, radius, points = value
    if kind not in KINDS:
        raise ValueError(f"a stroke is {', '.join(KINDS[:-1])} or {KINDS[-1]}, got {_shorten(kind)}")
    radius = _number("the radius of a stroke", radius, 0.0, MAX_RADIUS)
    if radius == 0:
        raise ValueError(f"the radius of a stroke must be above 0 and at most {MAX_RADIUS}, got 0")
    if not isinstance(points, (list, tuple)) or not 1 <= len(points) <= MAX_POINTS:
        count = len(points) if isinstance(points, (list, tuple)) else _shorten(points)
        raise ValueError(f"a stroke has 1 to {MAX_POINTS} points, got {count}")
    return Stroke(kind, radius, tuple(map(_point, points)))


def _point(value: Any) -> tuple[float, float]:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError(f"a point of a stroke is [x, y], got {_shorten(value)}")
    x, y = (_number("x and y of a point", item, 0.0, 1.0) for item in value)
    return x, y


def _number(what: str, value: Any, low: float, high: float) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # false for NaN, too
        raise ValueError(f"{what} must be numbers from {low:g} to {high:g}, got {_shorten(value)}")
    return float(value)


def _bounded(speed: float) -> float:
    return math.copysign(min(abs(speed), MAX_SPEED), speed)


def _is_inside(point: Sequence[float]) -> bool:
    return 0 <= point[0] <= 1 and 0 <= point[1] <= 1


def _shorten(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a number with more digits than Python prints
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
