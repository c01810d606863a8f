"""Tokenizers as text encoders come with them: their files, lengths and padding; equal to those of transformers."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from export.tokenizer_files import read_tokenizer_source, tokenizer_entry, tokenizer_json, write_tokenizers
from runtime.bundle.tensors import TensorSpec
from runtime.bundle.text_spec import TokenizerSpec
from runtime.prompts.token_encoder import TokenEncoder
from tests.damaged_files import damaged_count, damaged_seed
from tests.made_tokenizers import BEGIN, END, changed, clip_parts, clip_tokenizer, t5_tokenizer

TEXTS = [
    "",
    "red",
    "Red  SEA,\tstorm's end: 12 cafés!",
    "a 🙂 cat — naïve “quotes” \u00a0 x",
    "<|startoftext|>red<|endoftext|>",
    "日本語 русский ελληνικά",
    "red blue " * 80,
]


def write_clip(folder: Path, settings: Mapping[str, Any] | None = None) -> Path:
    """Write vocab.json and merges.txt of a tokenizer like CLIP's, and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = clip_parts()
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def tokens(path: Path, text: str, length: int | None = None) -> list[int]:
    """Return what a bundle with this tokenizer gives its graph."""
    source = read_tokenizer_source(path, length)
    spec = TokenizerSpec(**tokenizer_entry("text", source))
    inputs = [TensorSpec("ids", "int64", (1, source.length), "tokens", tokenizer="text")]
    encoder = TokenEncoder([(spec, source.text)], inputs)
    ids: list[int] = encoder.encode(text or None).inputs["ids"][0].tolist()
    return ids


@pytest.mark.parametrize("pad", [None, "!"])
def test_clips_files_are_those_of_transformers(pad: str | None, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    settings = {"model_max_length": 77, **({} if pad is None else {"pad_token": pad})}
    folder = write_clip(tmp_path / "tokenizer", settings)
    theirs = transformers.CLIPTokenizer.from_pretrained(folder)
    for text in TEXTS:
        wanted = theirs(text, padding="max_length", max_length=77, truncation=True).input_ids
        assert tokens(folder, text) == wanted, text
    theirs.save_pretrained(tmp_path / "saved")  # writes tokenizer.json
    assert not (tmp_path / "saved" / "vocab.json").exists()
    for text in TEXTS:
        assert tokens(tmp_path / "saved", text) == tokens(folder, text)


def test_t5_is_that_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "tokenizer.json").write_text(t5_tokenizer(), encoding="utf-8")
    settings = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "model_max_length": 16}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for text in TEXTS:
        found = theirs(text, padding="max_length", max_length=16, truncation=True)
        assert tokens(tmp_path, text) == found.input_ids, text


def test_lengths_and_padding_come_from_the_files(tmp_path: Path) -> None:
    vocabulary, _ = clip_parts()
    plain = read_tokenizer_source(write_clip(tmp_path / "plain"))
    assert (plain.length, plain.pad_id, plain.size) == (77, vocabulary[END], len(vocabulary))
    settings = {"model_max_length": 10**30, "pad_token": {"content": "!"}}
    other = read_tokenizer_source(write_clip(tmp_path / "other", settings), 32)
    assert (other.length, other.pad_id) == (32, vocabulary["!"])
    file = tmp_path / "t5.json"
    shape = {"max_length": 40, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    padding = {"strategy": "BatchLongest", "direction": "Right", "pad_id": 9, "pad_type_id": 0, "pad_token": "x"}
    file.write_text(changed(t5_tokenizer(), truncation=shape, padding=padding), encoding="utf-8")
    source = read_tokenizer_source(file)
    assert (source.length, source.pad_id) == (40, 9)
    file.write_text(t5_tokenizer(), encoding="utf-8")
    assert read_tokenizer_source(file).pad_id == 0  # <pad>
    assert tokenizer_json(file) == t5_tokenizer()


def test_equal_tokenizers_share_a_file(tmp_path: Path) -> None:
    first = read_tokenizer_source(write_clip(tmp_path / "a"))
    second = read_tokenizer_source(write_clip(tmp_path / "b"), 40)
    (tmp_path / "t5.json").write_text(t5_tokenizer(), encoding="utf-8")
    third = read_tokenizer_source(tmp_path / "t5.json", 512)
    sources = {"clip": first, "clip_2": second, "t5": third}
    text = write_tokenizers(tmp_path, sources, licence="MIT", source="made by the tests")
    assert [(item["name"], item["file"], item["length"]) for item in text["tokenizers"]] == [
        ("clip", "text/clip.json", 77),
        ("clip_2", "text/clip.json", 40),
        ("t5", "text/t5.json", 512),
    ]
    assert sorted(path.name for path in (tmp_path / "text").iterdir()) == ["clip.json", "t5.json"]


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no tokenizer: it does not exist; give tokenizer\.json"):
        read_tokenizer_source(tmp_path / "none")
    (tmp_path / "spiece.model").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"it holds spiece\.model; give .*\.save_pretrained"):
        read_tokenizer_source(tmp_path)
    broken = tmp_path / "tokenizer.json"
    for content, message in (("", "is not JSON"), ("[]", "has no JSON object"), ("{}", "not a readable tokenizer")):
        broken.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_tokenizer_source(broken)
    broken.write_text(changed(clip_tokenizer(), normalizer={"type": "Prepend", "prepend": "x"}))
    with pytest.raises(ValueError, match=r"its normalizer 'Prepend' is not one that is read.*docs/bundle\.md lists"):
        read_tokenizer_source(broken)
    broken.write_text(clip_tokenizer())
    with pytest.raises(ValueError, match="a text has 1 to 512 tokens, got 513"):
        read_tokenizer_source(broken, 513)
    with pytest.raises(ValueError, match="2 special tokens, which leave no room for a text in 2 tokens"):
        read_tokenizer_source(broken, 2)
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "[MISSING]"}')
    with pytest.raises(ValueError, match=r"the token '\[MISSING\]', which fills texts up, is not in the vocabulary"):
        read_tokenizer_source(broken)


def test_files_of_another_tokenizer_are_no_clip(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "a")
    vocabulary = json.loads((folder / "vocab.json").read_text())
    del vocabulary[BEGIN]
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ValueError, match=r"vocab\.json is not CLIP's: it lacks"):
        read_tokenizer_source(folder)


def test_damaged_files_of_clip_are_one_error_each(tmp_path: Path) -> None:
    folder, rng, refused = write_clip(tmp_path / "a", {"model_max_length": 77}), random.Random(damaged_seed(5)), 0
    files = {name: (folder / name).read_bytes() for name in ("vocab.json", "merges.txt", "tokenizer_config.json")}
    for _ in range(damaged_count(150)):
        name = rng.choice(list(files))
        data = bytearray(files[name])
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.randint(1, 6)):
            start = rng.randrange(len(data) + 1)
            data[start : start + rng.randrange(9)] = rng.choice([b"", b"\xff", b"{", b" ", b'"'])
        (folder / name).write_bytes(bytes(data))
        try:
            read_tokenizer_source(folder)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017
        (folder / name).write_bytes(files[name])
    print(f"{refused} of {damaged_count(150)} refused")
    assert refused > damaged_count(150) // 2
