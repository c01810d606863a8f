"""Does a generator make what it is told? Prompts, and a probe that names what a clip shows.

The probe is a multinomial logistic regression on features of real training clips. It never sees a made one; its own
accuracy on held-out clips is the most that can be asked of the generator.
"""

from __future__ import annotations

import csv
import itertools
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.distances import wilson

Values = npt.NDArray[np.float64]
PROMPTS = Path(__file__).parent / "prompts" / "landscape.csv"
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # of the probe's weights, of which one is chosen on the training clips
MIN_CLIPS = 3  # of a class, below which the probe does not learn it
_LITTLE = (
    "a an and are as at be being behind beneath beside between by during falling flowing for from front full hanging "
    "has high highly in into is its lit made of on or over photo running scene style surrounded swaying that the their "
    "them there through to towards under up use using very wide with without 4k 8k k d 3 8"
)
STOP_WORDS = frozenset(_LITTLE.split())


@dataclass(frozen=True)
class LabelledPrompt:
    """What the generator is told, the class that it should show, and whether its words are newly put together."""

    text: str
    label: str
    novel: bool = False


def read_prompts(path: Path) -> list[LabelledPrompt]:
    """Read prompts: CSV with the columns prompt, class and optionally novel, or TOML with a list of tables `prompts`.

    Raises:
        ValueError: the file is missing, is neither, or has no prompts.
    """
    if not path.is_file():
        raise ValueError(f"there is no file of prompts {path}")
    try:
        if path.suffix == ".toml":
            rows: Iterable[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8")).get("prompts", [])
        else:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
        prompts = []
        for number, row in enumerate(rows, 1):
            if not (row.get("prompt") and row.get("class")):
                raise ValueError(f"{path}: prompt {number} lacks its prompt or its class")
            novel = str(row.get("novel") or "").strip().lower()
            prompts.append(
                LabelledPrompt(str(row["prompt"]).strip(), str(row["class"]).strip(), novel in ("1", "true", "yes"))
            )
    except (UnicodeDecodeError, csv.Error, tomllib.TOMLDecodeError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as prompts: {error}") from None
    if not prompts:
        raise ValueError(f"{path} has no prompts: expected rows of prompt,class[,novel]")
    return prompts


def content_words(text: str) -> list[str]:
    """Return a text's words that say something: small letters, a plural's s taken off, in their order, each once."""
    words = []
    for word in re.findall(r"[a-z0-9]+", text.lower()):
        if word in STOP_WORDS:
            continue
        stem = word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        if stem not in words:
            words.append(stem)
    return words


def unseen_pairs(text: str, captions: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of content words of a text that each stand in some caption but never in one together."""
    seen = [set(content_words(caption)) for caption in set(captions)]
    known = [word for word in content_words(text) if any(word in words for words in seen)]
    pairs = itertools.combinations(known, 2)
    return [(a, b) for a, b in pairs if not any(a in words and b in words for words in seen)]


def wrongly_marked(prompts: Sequence[LabelledPrompt], captions: Iterable[str]) -> list[LabelledPrompt]:
    """Return the prompts that are marked novel but put no two words of the captions together for the first time."""
    kept = sorted(set(captions))
    return [prompt for prompt in prompts if prompt.novel and not unseen_pairs(prompt.text, kept)]


@dataclass(frozen=True)
class TextProbe:
    """A linear classifier; `classes[argmax(standardise(x) @ weights + bias)]`."""

    classes: tuple[str, ...]
    mean: Values
    scale: Values
    weights: Values  # (d, classes)
    bias: Values  # (classes,)
    penalty: float

    def predict(self, x: npt.ArrayLike) -> list[str]:
        """Return the class of each row of `x` (n, d)."""
        scores = (np.asarray(x, np.float64) - self.mean) / self.scale @ self.weights + self.bias
        return [self.classes[number] for number in scores.argmax(1).tolist()]


def fit_probe(x: npt.ArrayLike, labels: Sequence[str], groups: Sequence[str]) -> TextProbe:
    """Fit a probe; its penalty is the one of `PENALTIES` that names whole scenes best that were left out.

    Args:
        x: (n, d) features of real training clips.
        labels: their classes; "" and classes of fewer than `MIN_CLIPS` clips are passed over.
        groups: their scenes.

    Raises:
        ValueError: fewer than two classes are left.
    """
    counts = {label: list(labels).count(label) for label in set(labels) if label}
    classes = tuple(sorted(label for label, count in counts.items() if count >= MIN_CLIPS))
    if len(classes) < 2:
        raise ValueError(
            f"a probe needs two classes of {MIN_CLIPS} training clips or more, the footage has "
            f"{', '.join(f'{label} ({count})' for label, count in sorted(counts.items())) or 'none'}: add a column "
            "class to captions.csv"
        )
    keep = np.array([label in classes for label in labels])
    rows = np.asarray(x, np.float64)[keep]
    targets = np.array([classes.index(label) for label in labels if label in classes])
    names = [group for group, kept in zip(groups, keep.tolist(), strict=True) if kept]
    folds = np.array([sorted(set(names)).index(name) % 5 for name in names])
    scores = []
    for penalty in PENALTIES:
        right = np.zeros(len(rows), bool)
        for fold in sorted(set(folds.tolist())):
            train, test = folds != fold, folds == fold
            if len(set(targets[train].tolist())) > 1:
                probe = _fit(rows[train], targets[train], classes, penalty)
                named = np.array([classes.index(name) for name in probe.predict(rows[test])])
                right[test] = named == targets[test]
        scores.append(np.mean([right[targets == number].mean() for number in sorted(set(targets.tolist()))]))
    best = PENALTIES[len(PENALTIES) - 1 - int(np.argmax(scores[::-1]))]  # of equals the strongest
    return _fit(rows, targets, classes, best)


def _fit(rows: Values, targets: npt.NDArray[np.int64], classes: tuple[str, ...], penalty: float) -> TextProbe:
    """Minimise the cross-entropy, every class weighing the same, plus penalty / 2 times the squared weights.

    Nesterov's accelerated gradient with the step 1 / L (Nesterov 1983), L bounded by the largest eigenvalue: no step
    size to choose, no randomness.
    """
    mean, scale = rows.mean(0), rows.std(0) + 1e-6
    x = np.hstack([(rows - mean) / scale / np.sqrt(rows.shape[1]), np.ones((len(rows), 1))])
    one_hot = np.eye(len(classes))[targets]
    counts = np.maximum(one_hot.sum(0), 1)
    share = 1 / counts[targets] / len(set(targets.tolist()))  # (n,), sums to 1
    keep = np.append(np.full(rows.shape[1], penalty), 0.0)[:, None]  # the bias is not held back
    bound = (
        0.5 * float(np.linalg.eigvalsh((x * share[:, None]) @ x.T).max())
        if len(x) <= x.shape[1]
        else 0.5 * float(np.linalg.eigvalsh((x * share[:, None]).T @ x).max())
    )
    rate = 1 / (bound + penalty)
    weights = ahead = np.zeros((x.shape[1], len(classes)))
    momentum = 1.0
    for _ in range(2000):
        scores = x @ ahead
        scores -= scores.max(1, keepdims=True)
        likely = np.exp(scores)
        likely /= likely.sum(1, keepdims=True)
        gradient = x.T @ ((likely - one_hot) * share[:, None]) + keep * ahead
        step = ahead - rate * gradient
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = step + (momentum - 1) / following * (step - weights)
        if np.abs(step - weights).max() < 1e-7:
            weights = step
            break
        weights, momentum = step, following
    return TextProbe(classes, mean, scale * np.sqrt(rows.shape[1]), weights[:-1], weights[-1], penalty)


def confusion(wanted: Sequence[str], named: Sequence[str], classes: Sequence[str]) -> list[list[int]]:
    """Return how often each class (rows) was named as each class (columns)."""
    pairs = list(zip(wanted, named, strict=True))
    return [[pairs.count((row, column)) for column in classes] for row in classes]


def accuracy(wanted: Sequence[str], named: Sequence[str]) -> dict[str, Any]:
    """Return the share that was named rightly with its Wilson interval, and the mean of the classes' own shares."""
    right = [a == b for a, b in zip(wanted, named, strict=True)]
    classes = sorted(set(wanted))
    shares = [
        float(np.mean([ok for ok, label in zip(right, wanted, strict=True) if label == name])) for name in classes
    ]
    return {
        "clips": len(right),
        "right": sum(right),
        "accuracy": wilson(sum(right), len(right)).to_json(),
        "balanced": float(np.mean(shares)) if shares else None,
        "classes": len(classes),
    }
