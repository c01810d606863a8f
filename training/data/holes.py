"""Holes for training and measuring the fill of live video: where they are, frame by frame.

Three kinds. Still: a logo, a stain on the lens. Moving: a passer-by; what it hides is seen before or afterwards.
Appearing: something comes into a picture that was whole.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

KINDS = ("still", "moving", "appearing")
LEAST, MOST = 0.02, 0.25  # of the frame
_POINTS = 12  # of an outline

Mask = npt.NDArray[np.uint8]


def draw_holes(kind: str, count: int, height: int, width: int, random: np.random.Generator) -> Mask:
    """Return where a clip is seen, uint8 (count, height, width): 0 in a hole, else 255.

    Args:
        kind: one of `KINDS`. Moving holes cross the middle of the frame; appearing ones come in the middle half of the
            clip and then stay, or move by up to a hundredth of the frame from frame to frame.
        count: frames.
        height: of a frame in pixels.
        width: the like.
        random: draws shape, size and way.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"a hole is one of {', '.join(KINDS)}, got {kind}")
    size = np.sqrt(random.uniform(LEAST, MOST) * height * width)
    outline = _outline(random) * size
    angle = random.uniform(0, 2 * np.pi)
    way = np.array([np.cos(angle), np.sin(angle)])
    place = np.array([width, height]) * random.uniform(0.25, 0.75, 2)
    steps = np.arange(count) - (count - 1) / 2
    if kind == "moving":
        # About its own size on the way, so that most of what it hides is seen at some time.
        pace = max(size / count, random.uniform(0.01, 0.05) * min(height, width))
        places = place + np.outer(steps, pace * way)
    else:
        is_still = kind == "still" or random.random() < 0.5
        pace = 0.0 if is_still else random.uniform(0, 0.01) * min(height, width)
        places = place + np.outer(steps, pace * way)
    first = int(random.integers(max(1, count // 4), max(2, 3 * count // 4))) if kind == "appearing" else 0
    masks = np.full((count, height, width), 255, np.uint8)
    for number in range(first, count):
        points = np.rint((outline + places[number]) * 16).astype(np.int32)
        cv2.fillPoly(masks[number], [points], 0.0, lineType=cv2.LINE_8, shift=4)
    return masks


def _outline(random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return points (N, 2) of an outline of about area 1 around the origin: a box, or a rounded, uneven shape."""
    stretch = np.exp(random.uniform(-0.7, 0.7))
    turn = random.uniform(0, np.pi) if random.random() < 0.5 else 0.0
    if random.random() < 0.4:
        points = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    else:
        angles = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
        reach = 0.56 * (1 + 0.3 * random.standard_normal(_POINTS)).clip(0.4, 1.6)
        fine = np.linspace(0, 2 * np.pi, 4 * _POINTS, endpoint=False)
        reach = np.interp(fine, np.append(angles, 2 * np.pi), np.append(reach, reach[0]))
        points = reach[:, None] * np.stack([np.cos(fine), np.sin(fine)], axis=1)
    points = points * np.array([np.sqrt(stretch), 1 / np.sqrt(stretch)])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(points @ rotation.T, np.float64)
