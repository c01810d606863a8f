"""The probe separates classes; prompts are validated; new combinations of words are found."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.text import (
    PROMPTS,
    LabelledPrompt,
    accuracy,
    content_words,
    fit_probe,
    read_prompts,
    unseen_pairs,
    wrongly_marked,
)


def clusters(seed: int, per_class: int, apart: float) -> tuple[np.ndarray, list[str], list[str]]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(3, 50)) * apart
    x = np.concatenate([centres[k] + rng.normal(size=(per_class, 50)) for k in range(3)])
    labels = [name for name in ("sea", "sky", "plant") for _ in range(per_class)]
    return x, labels, [f"{label}{number % 5}" for number, label in enumerate(labels)]


def test_the_probe_separates_what_can_be_separated_and_nothing_else() -> None:
    x, labels, groups = clusters(0, 20, 1.0)
    probe = fit_probe(x, labels, groups)
    new, wanted, _ = clusters(1, 30, 1.0)
    assert probe.classes == ("plant", "sea", "sky")
    assert accuracy(wanted, probe.predict(new))["accuracy"]["value"] > 0.97
    noise = np.random.default_rng(5).normal(size=(300, 50))
    lucky = accuracy((wanted * 4)[:300], probe.predict(noise))["accuracy"]["value"]
    assert 0.2 < lucky < 0.47


def test_the_probe_is_the_same_every_time_and_weighs_classes_alike() -> None:
    x, labels, groups = clusters(0, 20, 0.5)
    keep = [i for i, label in enumerate(labels) if label != "sky" or i % 4 == 0]
    one = fit_probe(x[keep], [labels[i] for i in keep], [groups[i] for i in keep])
    two = fit_probe(x[keep], [labels[i] for i in keep], [groups[i] for i in keep])
    new, _, _ = clusters(1, 100, 0.5)
    assert one.predict(new) == two.predict(new)
    named = Counter(one.predict(new))
    assert named["sky"] > 30  # a quarter as many clips must not mean that it is hardly ever named


def test_rare_and_unknown_classes_are_passed_over() -> None:
    x, labels, groups = clusters(0, 5, 2.0)
    labels[0], labels[1] = "", "smoke"
    assert fit_probe(x, labels, groups).classes == ("plant", "sea", "sky")
    with pytest.raises(ValueError, match="two classes of 3 training clips"):
        fit_probe(x, [""] * 15, groups)


def test_accuracy() -> None:
    wanted, named = ["sea", "sea", "sky", "sky"], ["sea", "sky", "sky", "sky"]
    found = accuracy(wanted, named)
    assert (found["right"], found["clips"], found["balanced"]) == (3, 4, 0.75)


def test_content_words() -> None:
    assert content_words("Waves on a beach, with the cliffs of glass; waves!") == ["wave", "beach", "cliff", "glass"]


def test_new_pairs_of_words_are_found() -> None:
    captions = ["a river in winter", "a waterfall in a forest", "a river in a forest"]
    assert unseen_pairs("a waterfall in winter", captions) == [("waterfall", "winter")]
    assert unseen_pairs("a river in a forest in winter", captions) == [("forest", "winter")]
    assert unseen_pairs("a dragon by the river", captions) == []  # a word that was never said is not a combination
    marked = [
        LabelledPrompt("a waterfall in winter", "waterfall", True),
        LabelledPrompt("a river in winter", "river", True),
    ]
    assert wrongly_marked(marked, captions) == [marked[1]]


def test_the_prompts_that_come_with_it() -> None:
    prompts = read_prompts(PROMPTS)
    assert len(prompts) == len({prompt.text for prompt in prompts}) == 50
    assert sum(prompt.novel for prompt in prompts) == 15
    counts = Counter(prompt.label for prompt in prompts)
    assert set(counts) == {"waterfall", "river", "sea", "sky", "plant", "flame", "other"}
    assert min(counts.values()) >= 3


def test_prompts_are_read_from_csv(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text('prompt,class,novel\n"a sea, calm",sea,1\na sky,sky,\n', encoding="utf-8")
    assert read_prompts(table) == [LabelledPrompt("a sea, calm", "sea", True), LabelledPrompt("a sky", "sky", False)]


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("a.csv", "prompt,class\n", "no prompts"),
        ("a.csv", "prompt,class\n,sea\n", "prompt 1 lacks"),
        ("a.csv", "words\nsea\n", "prompt 1 lacks"),
        ("a.csv", "prompt,class\n\xff,sea\n", "cannot be read"),
    ],
)
def test_bad_prompts_are_refused(tmp_path: Path, name: str, text: str, match: str) -> None:
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=match):
        read_prompts(tmp_path / name)
    with pytest.raises(ValueError, match="there is no file"):
        read_prompts(tmp_path / "none.csv")
