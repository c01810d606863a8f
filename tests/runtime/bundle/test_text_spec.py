"""The rules of tokenizers and of inputs that take tokens, one broken at a time."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime import BundleError, Manifest
from tests.runtime import worded

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def value(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The manifest of a bundle with two encoders."""
    folder: Path = worded.build(tmp_path_factory.mktemp("bundles") / "worded")
    loaded: dict[str, Any] = json.loads((folder / "bundle.json").read_text())
    return loaded


def test_the_manifest_is_read(value: dict[str, Any]) -> None:
    manifest = Manifest.parse(value)
    assert manifest.text is None
    assert manifest.tokens is not None
    assert [(item.name, item.length, item.pad_id) for item in manifest.tokens.tokenizers] == [
        ("clip", worded.CLIP_LENGTH, worded.END),
        ("t5", worded.T5_LENGTH, 0),
    ]
    assert manifest.condition is not None
    assert [item.to_json() for item in manifest.condition.inputs] == value["graphs"]["condition"]["inputs"]


def inputs(value: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = value["graphs"]["condition"]["inputs"]
    return found


def entry(value: dict[str, Any], place: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = value["text"]["tokenizers"][place]
    return found


VECTORS = {"tokenizer": "text/clip.json", "vectors": "text/clip.json", "scales": "text/clip.json"}
BROKEN: list[tuple[Change, str]] = [
    (lambda value: value.update(text=None), '"text" must name their tokenizers, got null'),
    (lambda value: value.update(text=VECTORS | {"licence": "x", "source": "x"}), "text needs a condition graph with"),
    (lambda value: value["text"].update(tokenizers=[]), '"tokenizers" must hold 1 to 3 entries, got 0'),
    (lambda value: value["text"].update(tokenizers=[entry(value)] * 4), "must hold 1 to 3 entries, got 4"),
    (lambda value: value["text"].update(vectors="x"), 'text has the unknown key "vectors"'),
    (lambda value: entry(value).update(name="t5"), 'two tokenizers have the name "t5"'),
    (lambda value: entry(value).update(name="CLIP"), '"name"'),
    (lambda value: entry(value).update(file="../clip.json"), "is not allowed"),
    (lambda value: entry(value).update(file="text/other.json"), 'the file "text/other.json" is used but not listed'),
    (lambda value: entry(value).update(length=9), 'input "ids" takes 8 tokens, but its tokenizer "clip" makes 9'),
    (lambda value: entry(value).update(length=513), '"length"'),
    (lambda value: entry(value).update(pad_id=-1), '"pad_id"'),
    (lambda value: entry(value).update(pad_id=2**20), '"pad_id"'),
    (lambda value: entry(value).update(words=1), 'unknown key "words"'),
    (
        lambda value: inputs(value)[0].update(tokenizer="clap"),
        r'no tokenizer "clap" \(did you mean "clip"\?\)|uses the',
    ),
    (lambda value: inputs(value)[0].update(dtype="float32"), "must be int64 or int32, got float32"),
    (lambda value: inputs(value)[0].update(shape=[2, 8]), r"must have the shape \(1, l\), got \(2, 8\)"),
    (lambda value: inputs(value)[0].update(of="t5_ids"), 'must not have the key "of"'),
    (lambda value: inputs(value)[0].pop("tokenizer"), '"tokenizer"'),
    (lambda value: inputs(value)[2].update(of="ids"), 'is the mask of "ids": expected an input of the role tokens'),
    (lambda value: inputs(value)[2].update(of="code"), 'is the mask of "code": expected an input of the role tokens'),
    (lambda value: inputs(value)[2].update(of="idx"), 'of the unknown input "idx"'),
    (lambda value: inputs(value).pop(1), 'of the unknown input "t5_ids"'),
    (
        lambda value: value["text"]["tokenizers"].append(entry(value) | {"name": "third"}),
        'no input of the role tokens of condition uses the tokenizer "third"',
    ),
    (
        lambda value: inputs(value).append({"name": "v", "dtype": "float32", "shape": [1, 4], "role": "text"}),
        "condition has a text input, so",
    ),
    (lambda value: value["graphs"]["step"]["inputs"].append(inputs(value)[0]), 'unknown key "tokenizer"'),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_every_broken_rule_is_named(value: dict[str, Any], change: Change, message: str) -> None:
    broken = copy.deepcopy(value)
    change(broken)
    with pytest.raises(BundleError, match=message):
        Manifest.parse(broken)


def test_a_golden_run_may_have_a_text(value: dict[str, Any]) -> None:
    golden = {"file": "step.onnx", "seed": 1, "image": False, "frames": [1], "text": "red"}
    parsed = Manifest.parse({**value, "golden": [golden]})
    assert parsed.golden[0].text == "red"
