"""Text prompts, and a probe that says which class a clip shows.

The probe is a multinomial logistic regression on features of real training clips. It never sees a made clip; its own
accuracy on held-out clips is the upper limit for a generator.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.quality.distances import wilson

Values = npt.NDArray[np.float64]
PROMPTS = Path(__file__).parent / "prompts" / "landscape.csv"
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # of the probe's weights; one is chosen on the training clips
MIN_CLIPS = 3  # of a class; rarer classes are left out
_STOP_WORDS = (
    "a an and are as at be being behind beneath beside between by during falling flowing for from front full hanging "
    "has high highly in into is its lit made of on or over photo running scene style surrounded swaying that the their "
    "them there through to towards under up use using very wide with without 4k 8k k d 3 8"
)


@dataclass(frozen=True)
class LabelledPrompt:
    """A prompt, the class that it should show, and whether its words are a new combination."""

    text: str
    label: str
    novel: bool = False


def read_prompts(path: Path) -> list[LabelledPrompt]:
    """Read prompts: CSV with the columns prompt, class and optionally novel.

    Raises:
        ValueError: the file is missing, is not CSV, or has no prompts.
    """
    if not path.is_file():
        raise ValueError(f"there is no file of prompts {path}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as prompts: {error}") from None
    prompts = []
    for number, row in enumerate(rows, 1):
        if not (row.get("prompt") and row.get("class")):
            raise ValueError(f"{path}: prompt {number} lacks its prompt or its class")
        is_novel = (row.get("novel") or "").strip().lower() in ("1", "true", "yes")
        prompts.append(LabelledPrompt(row["prompt"].strip(), row["class"].strip(), is_novel))
    if not prompts:
        raise ValueError(f"{path} has no prompts: expected rows of prompt,class[,novel]")
    return prompts


def content_words(text: str) -> list[str]:
    """Return a text's words without stop words: lower case, without a plural's s, in their order, each once."""
    words = [word for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in _STOP_WORDS.split()]
    is_plural = [len(word) > 3 and word.endswith("s") and not word.endswith("ss") for word in words]
    return list(dict.fromkeys(word[:-1] if plural else word for word, plural in zip(words, is_plural, strict=True)))


def unseen_pairs(text: str, captions: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of content words of a text that each occur in some caption but never in one together."""
    seen = [set(content_words(caption)) for caption in set(captions)]
    known = [word for word in content_words(text) if any(word in words for words in seen)]
    pairs = itertools.combinations(known, 2)
    return [(a, b) for a, b in pairs if not any(a in words and b in words for words in seen)]


def wrongly_marked(prompts: Sequence[LabelledPrompt], captions: Iterable[str]) -> list[LabelledPrompt]:
    """Return the prompts that are marked novel but combine no two words of the captions for the first time."""
    kept = sorted(set(captions))
    return [prompt for prompt in prompts if prompt.novel and not unseen_pairs(prompt.text, kept)]


@dataclass(frozen=True)
class TextProbe:
    """A fitted classifier of features (n, d)."""

    classes: tuple[str, ...]
    penalty: float
    model: Any

    def predict(self, x: npt.ArrayLike) -> list[str]:
        """Return the class of each row."""
        return [str(name) for name in self.model.predict(np.asarray(x, np.float64))]


def fit_probe(x: npt.ArrayLike, labels: Sequence[str], groups: Sequence[str]) -> TextProbe:
    """Fit a probe; its penalty is the one of `PENALTIES` with the best accuracy on scenes that were left out.

    Args:
        x: (n, d) features of real training clips.
        labels: their classes; "" and classes of fewer than `MIN_CLIPS` clips are left out.
        groups: their scenes.

    Raises:
        ValueError: fewer than two classes are left.
    """
    counts = Counter(label for label in labels if label)
    classes = tuple(sorted(label for label, count in counts.items() if count >= MIN_CLIPS))
    if len(classes) < 2:
        raise ValueError(
            f"a probe needs two classes of {MIN_CLIPS} training clips or more, the footage has "
            f"{', '.join(f'{label} ({count})' for label, count in sorted(counts.items())) or 'none'}: add a column "
            "class to captions.csv"
        )
    keep = np.isin(labels, classes)
    rows, targets = np.asarray(x, np.float64)[keep], np.asarray(labels)[keep]
    folds = np.unique(np.asarray(groups)[keep], return_inverse=True)[1] % 5

    def score(penalty: float) -> float:
        named = np.zeros_like(targets)  # "" is wrong
        for fold in np.unique(folds):
            train = folds != fold
            if len(set(targets[train].tolist())) > 1:
                named[~train] = _fit(rows[train], targets[train], penalty).predict(rows[~train])
        return float(recall_score(targets, named, labels=classes, average="macro"))

    best = max(reversed(PENALTIES), key=score)  # of equals the strongest
    return TextProbe(classes, best, _fit(rows, targets, best))


def _fit(rows: Values, targets: npt.NDArray[np.str_], penalty: float) -> Any:
    """Minimise the mean cross-entropy, all classes weighted alike, plus penalty * d / 2 times the squared weights."""
    strength = 1 / (penalty * rows.size)
    classifier = LogisticRegression(C=strength, class_weight="balanced", tol=1e-6, max_iter=10_000)
    return make_pipeline(StandardScaler(), classifier).fit(rows, targets)


def accuracy(wanted: Sequence[str], named: Sequence[str]) -> dict[str, Any]:
    """Return the share of right names with its Wilson interval, and the mean of the classes' own shares."""
    right = sum(a == b for a, b in zip(wanted, named, strict=True))
    classes = sorted(set(wanted))
    return {
        "clips": len(wanted),
        "right": right,
        "accuracy": wilson(right, len(wanted)).to_json(),
        "balanced": float(recall_score(wanted, named, labels=classes, average="macro")) if classes else None,
        "classes": len(classes),
    }
