"""Bundles that take texts as tokens: what the graph gets, what is shown, what is refused."""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from runtime import BundleError, EngineError, Generator, Manifest
from runtime.bundle.tensors import TensorSpec
from runtime.bundle.text_spec import TokenizerSpec
from runtime.prompts.token_encoder import TokenEncoder, open_token_encoder
from tests.damaged_files import damaged_count, damaged_seed
from tests.fakes import fake_generator
from tests.made_tokenizers import bert_tokenizer, changed, clip_tokenizer, t5_tokenizer
from tests.runtime import prompted, worded

BEGIN, END = worded.BEGIN, worded.END
RED = 513  # of CLIP's


@pytest.fixture(scope="module")
def worded_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two encoders that takes no seed."""
    return worded.build(tmp_path_factory.mktemp("bundles") / "worded", seeds=False)


@pytest.fixture
def copy(worded_bundle: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return shutil.copytree(worded_bundle, tmp_path / "copy")


def manifest_of(folder: Path) -> Manifest:
    return Manifest.parse(json.loads((folder / "bundle.json").read_text()))


def encoder(text: str, length: int = 8, pad_id: int = 0) -> Callable[[str], list[int]]:
    """Return what gives the tokens of a text with this tokenizer.json."""
    made = TokenEncoder(
        [(TokenizerSpec("x", "x.json", length, pad_id), text)],
        [TensorSpec("ids", "int64", (1, length), "tokens", tokenizer="x")],
    )
    return lambda words: made.encode(words).inputs["ids"][0].tolist()


def filled(*ids: int) -> list[int]:
    """Return what the first encoder gets for a text of these tokens."""
    return [*ids, *[END] * (worded.CLIP_LENGTH - len(ids))]


def shown(generator: Generator) -> list[int]:
    """Return the colour of the next frame."""
    frame = next(generator)
    assert (frame == frame[0, 0]).all()
    return [int(value) for value in frame[0, 0]]


def colour(clip_ids: list[int], t5_ids: list[int]) -> list[int]:
    return [int(value) for value in np.round(worded.wanted_colour(clip_ids, t5_ids) * 255)]


def test_tokens_and_masks_have_the_shapes_and_types_of_the_graph(worded_bundle: Path) -> None:
    encoded = open_token_encoder(worded_bundle, manifest_of(worded_bundle)).encode("red  café")
    assert {name: (value.dtype.name, value.tolist()) for name, value in encoded.inputs.items()} == {
        "ids": ("int64", [filled(BEGIN, RED, 526)]),
        "t5_ids": ("int32", [[4, 8, 1, *[0] * 9]]),
        "is_real": ("int32", [[1, 1, 1, *[0] * 9]]),
    }
    assert encoded.note == ""
    assert not any(value.flags.writeable for value in encoded.inputs.values())


def test_a_text_that_is_too_long_loses_its_end_and_says_so(worded_bundle: Path) -> None:
    encoded = open_token_encoder(worded_bundle, manifest_of(worded_bundle)).encode("red blue sea storm " * 3)
    assert encoded.inputs["ids"].tolist() == [[BEGIN, RED, 516, 518, 522, RED, 516, END]]
    assert encoded.inputs["t5_ids"].tolist() == [[*[4, 5, 6, 7] * 2, 4, 5, 6, 1]]
    assert encoded.note == (
        'the text is too long: clip leaves out "sea storm red blue sea storm"; t5 leaves out "storm"'
    )


def test_words_shape_the_picture(worded_bundle: Path) -> None:
    with Generator.open(worded_bundle, engine="onnxruntime") as generator:
        assert generator.takes == ("text",)
        assert shown(generator) == colour(filled(BEGIN), [1])  # no prompt: the empty text
        assert generator.text is None
        generator.condition(text="red")
        assert shown(generator) == colour(filled(BEGIN, RED), [4, 1])
        assert generator.text == "red"
        generator.condition(text="storm " * 200)
        assert shown(generator) == colour([BEGIN, *[522] * 6, END], [*[7] * 11, 1])
        assert generator.scene is not None
        assert generator.scene.note.startswith('the text is too long, its end is not read: "storm storm')
        assert len(generator.scene.note) < 350


def test_the_empty_text_was_not_given(worded_bundle: Path) -> None:
    value = json.loads((worded_bundle / "bundle.json").read_text())
    flags = {"name": "flags", "dtype": "float32", "shape": [1, 2], "role": "given", "of": ["t5_ids", "ids"]}
    value["graphs"]["condition"]["inputs"].append(flags)
    manifest = Manifest.parse(value)
    generator, engine = fake_generator(manifest, open_text_encoder=lambda: open_token_encoder(worded_bundle, manifest))
    for text, given in ((None, 0.0), ("red", 1.0)):
        generator.condition(text=text)
        written = {name: engine.sessions[1].written(name)[-1][1].tolist() for name in ("flags", "ids", "is_real")}
        assert written["flags"] == [[given, given]]
        assert written["ids"] == [filled(BEGIN, *([RED] if text else []))]
        assert sum(written["is_real"][0]) == (2 if text else 1)


def test_frames_equal_those_of_onnx_runtime_run_by_hand(worded_bundle: Path) -> None:
    feeds = open_token_encoder(worded_bundle, manifest_of(worded_bundle)).encode("blue sea").inputs
    condition, step = (
        onnxruntime.InferenceSession(worded_bundle / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("condition", "step")
    )
    (memory,) = condition.run(None, dict(feeds))
    (frame,) = step.run(["rgb"], {"a_colour": memory, "b_colour": memory, "mix": np.zeros(1, np.float32)})
    with Generator.open(worded_bundle, engine="onnxruntime") as generator:
        generator.condition(text="blue sea")
        assert np.array_equal(next(generator), frame[0])


def test_prompts_cross_fade(worded_bundle: Path) -> None:
    with Generator.open(worded_bundle, engine="onnxruntime") as generator:
        generator.condition(text="red")
        first = np.array(shown(generator))
        generator.take(generator.prepare(text="blue"), dissolve_s=4 / 30)
        fading = np.array([shown(generator) for _ in range(5)])
        last = np.array(colour(filled(BEGIN, 516), [5, 1]))
        for number, frame in enumerate(fading, start=1):
            assert np.abs(frame - (first + min(1, number / 4) * (last - first))).max() <= 1
        assert np.abs(last - first).max() > 10


def test_a_seed_keeps_the_text_and_so_do_renewals(tmp_path: Path) -> None:
    bundle = worded.build(tmp_path / "seeds")
    with Generator.open(bundle, engine="onnxruntime", seed=3) as generator:
        assert generator.takes == ("text", "seed")
        generator.condition(text="red", seed=5)
        frames = [shown(generator) for _ in range(17)]
        assert len({tuple(frame) for frame in frames}) > 2  # it renews itself
        generator.reset(seed=3)
        assert shown(generator) != frames[0]
        generator.condition(text="red", seed=5)
        assert shown(generator) == frames[0]


def test_a_control_for_the_seed_before_the_first_frame_has_the_empty_text(tmp_path: Path) -> None:
    control = {"name": "seed", "description": "which", "unit": "number", "minimum": 0, "maximum": 99, "default": 0}
    bundle = worded.build(tmp_path / "seeds", controls=[control | {"target": "seed"}])
    with Generator.open(bundle, engine="onnxruntime", renewal=False) as generator:
        generator.condition(seed=5)
        wanted = shown(generator)
    with Generator.open(bundle, engine="onnxruntime", renewal=False) as generator:
        generator.set_control("seed", 5)
        for _ in range(200):  # it is made in the background
            if (got := shown(generator)) == wanted:
                break
        assert got == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text is empty: describe a scene, or leave the text out"),
        (" \n", "the text is empty"),
        ("red \ud83d", r"not valid Unicode \(an unpaired surrogate\)"),
        ("red " * 501, "the text has 2004 characters; at most 2000"),
        (7, "a text must be a string, got int"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused(worded_bundle: Path, text: Any, message: str) -> None:
    with Generator.open(worded_bundle, engine="onnxruntime") as generator:
        before = shown(generator)
        with pytest.raises(ValueError, match=message):
            generator.condition(text=text)
        assert shown(generator) == before


@pytest.mark.parametrize(
    "text", ["\U0001f642" * 2000, "\u0000", "<|endoftext|> red", "a" * 2000, "e\u0301" * 1000, "\u202e"]
)
def test_any_other_text_is_read(worded_bundle: Path, text: str) -> None:
    encoded = open_token_encoder(worded_bundle, manifest_of(worded_bundle)).encode(text)
    ids = encoded.inputs["ids"][0].tolist()
    assert ids[0] == BEGIN
    assert END in ids
    assert len(encoded.note) < 400


def test_both_spellings_of_a_letter_are_one() -> None:
    read = encoder(clip_tokenizer())
    assert read("cafe\u0301") == read("caf\u00e9") == read("CAF\u00c9")


def test_wordpieces_and_templates() -> None:
    assert encoder(bert_tokenizer())("Red seas!") == [2, 4, 6, 9, 1, 3, 0, 0]
    trim = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    twice = {"type": "Sequence", "processors": [trim, T5_TEMPLATE]}
    assert encoder(changed(t5_tokenizer(), post_processor=twice))("red")[:3] == [4, 1, 0]
    assert encoder(changed(t5_tokenizer(), post_processor=None), 3)("red blue sea storm") == [4, 5, 6]


def test_three_encoders() -> None:
    files = {"clip": clip_tokenizer(), "clip_2": clip_tokenizer(), "t5": t5_tokenizer()}
    lengths = {"clip": 4, "clip_2": 4, "t5": 6}
    specs = [
        (TokenizerSpec(name, f"{name[:4]}.json", lengths[name], place), files[name]) for place, name in enumerate(files)
    ]
    inputs = [TensorSpec(name, "int64", (1, lengths[name]), "tokens", tokenizer=name) for name in files]
    encoded = TokenEncoder(specs, inputs).encode("red blue sea storm")
    assert {name: value[0].tolist() for name, value in encoded.inputs.items()} == {
        "clip": [BEGIN, RED, 516, END],
        "clip_2": [BEGIN, RED, 516, END],
        "t5": [4, 5, 6, 7, 1, 2],
    }
    assert encoded.note == 'the text is too long: clip and clip_2 leave out "sea storm"'


T5_TEMPLATE = json.loads(t5_tokenizer())["post_processor"]
CLIP_PARTS = json.loads(clip_tokenizer())
HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"post_processor": {"type": "Oracle"}}, "its post-processor 'Oracle' is not one that is read"),
    ({"post_processor": T5_TEMPLATE | {"single": []}}, 'its template "single" has 0 parts and the text 0 times'),
    ({"post_processor": T5_TEMPLATE | {"single": T5_TEMPLATE["single"] * 2}}, "the text 2 times"),
    (
        {"post_processor": T5_TEMPLATE | {"special_tokens": {"</s>": {"id": "</s>", "ids": [1] * 99, "tokens": []}}}},
        "99",
    ),
    ({"post_processor": T5_TEMPLATE | {"special_tokens": {}}}, "it is not a readable tokenizer"),
    ({"post_processor": CLIP_PARTS["post_processor"] | {"sep": ["x"]}}, "it is not a readable tokenizer"),
    ({"model": {"type": "WordLevel", "vocab": {"a": 2**20}, "unk_token": "a"}}, "beyond the 1048576 that are read"),
    ({"model": CLIP_PARTS["model"] | {"continuing_subword_prefix": "A" * 16}}, "its merge .* does not go on with"),
    ({"added_tokens": [{"id": 2**30, "content": "a", "special": True}]}, "it is not a readable tokenizer|beyond"),
    (
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Removed", "invert": True}},
        'its pre-tokenizer "Split" splits at',
    ),
]


@pytest.mark.parametrize(("parts", "message"), HOSTILE)
def test_parts_that_could_hold_up_a_show_are_refused(copy: Path, parts: dict[str, Any], message: str) -> None:
    (copy / "text" / "clip.json").write_text(changed(clip_tokenizer(), **parts))
    prompted.change(copy)
    with pytest.raises(BundleError, match=r"^text/clip\.json cannot be used: ") as caught:
        Generator.open(copy, engine="onnxruntime")
    assert caught.match(message)
    assert "\n" not in str(caught.value)


def test_a_length_without_room_for_a_word_is_refused() -> None:
    assert encoder(clip_tokenizer(), 3)("red sea") == [BEGIN, RED, END]
    with pytest.raises(BundleError, match="it adds 2 special tokens, which leave no room for a text in 2 tokens"):
        encoder(clip_tokenizer(), 2)


def test_a_missing_package_is_one_sentence(worded_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(EngineError, match=r"needs the package tokenizers: pip install everframe\[cpu\]"):
        Generator.open(worded_bundle, engine="onnxruntime")


def test_files_that_are_changed_while_it_runs_change_nothing(copy: Path) -> None:
    with Generator.open(copy, engine="onnxruntime") as generator:
        shutil.rmtree(copy / "text")
        generator.condition(text="red")
        assert shown(generator) == colour(filled(BEGIN, RED), [4, 1])
    with pytest.raises(BundleError, match="is missing"):
        Generator.open(copy, engine="onnxruntime")


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Return a tokenizer.json with some damage: other bytes, a cut, or other values in its JSON."""
    kind = rng.randrange(4)
    if kind == 0:
        data = bytearray(content)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data)
    if kind == 1:
        return content[: rng.randrange(len(content))]
    value = json.loads(content)
    for _ in range(rng.randint(1, 3)):
        spoil(value, rng)
    return json.dumps(value).encode()


def spoil(value: Any, rng: random.Random) -> None:
    """Replace, remove or repeat one value somewhere in JSON."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        inner = value[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.8:
            value = inner
            continue
        strange = [None, -1, 2**31, 2**63, 1e308, "", "\ud800", [], {}, True, [[]], "Sequence", "Regex", "A" * 300]
        if rng.random() < 0.2:
            del value[key]
        else:
            value[key] = rng.choice(strange)
        return


def test_damaged_tokenizers_are_one_error_each(worded_bundle: Path) -> None:
    rng, count = random.Random(damaged_seed(41)), damaged_count(300)
    inputs = [TensorSpec("ids", "int64", (1, 8), "tokens", tokenizer="x")]
    spec = TokenizerSpec("x", "x.json", 8, 0)
    refused = 0
    for number in range(count):
        content = (clip_tokenizer, t5_tokenizer, bert_tokenizer)[number % 3]().encode()
        text = damaged(content, rng).decode("utf-8", "surrogateescape")
        try:
            made = TokenEncoder([(spec, text)], inputs)
            ids = made.encode("Red sea 🙂 <|endoftext|> café").inputs["ids"]  # harmless damage
            assert ids.shape == (1, 8)
        except BundleError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017
    print(f"{refused} of {count} refused")
    assert refused > count // 2
