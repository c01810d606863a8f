"""A bundle's vocabulary: the most common tokens, with the training's vectors, as the runtime reads them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from export.vocabulary import most_common_tokens, write_vocabulary
from runtime.prompts.text_encoder import TextEncoder as RuntimeWords
from tests.export.wordpiece import LETTERS, SPECIAL, make_wordpieces
from tests.training.words_fixture import make_words
from training.data.words import WordVectors

COMMON = ["the", "sea", "storm", "cloud", "##s", "over", "water", "##fall"]
RARE = ["moraine", "cumulonimbus", "##berg"]
TEXTS = ["the sea", "storm clouds over the sea", "a waterfall", "Water, over the sea!"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # "##s" is one of the letters already.
    words = [word for word in [*COMMON, *RARE] if word != "##s"]
    return make_wordpieces(tmp_path_factory.mktemp("wordpiece") / "words", words)


def opened(bundle: Path) -> RuntimeWords:
    """Read a bundle's text files as the runtime does."""
    text = (bundle / "text/tokenizer.json").read_text(encoding="utf-8")
    return RuntimeWords(text, np.load(bundle / "text/vectors.npy"), np.load(bundle / "text/scales.npy"))


def test_common_words_keep_their_vectors(folder: Path, tmp_path: Path) -> None:
    kept = len(SPECIAL) + 2 * len(LETTERS) + len(COMMON) - 1
    entry, words = write_vocabulary(folder, tmp_path, tokens=kept)
    assert entry == {
        "tokenizer": "text/tokenizer.json", "vectors": "text/vectors.npy", "scales": "text/scales.npy",
        "licence": "CC0-1.0", "source": "a test",
    }  # fmt: skip
    training, runtime = WordVectors.open(folder), opened(tmp_path)
    for text in TEXTS:
        expected = training.encode([text])[0]
        assert np.linalg.norm(expected) == pytest.approx(1, abs=1e-5)
        assert np.allclose(runtime.encode(text), expected, atol=1e-6), text
        assert np.allclose(words.encode([text])[0], expected, atol=1e-6), text
    vectors, scales = (np.load(tmp_path / f"text/{name}.npy") for name in ("vectors", "scales"))
    assert (vectors.shape, vectors.dtype, vectors.flags.c_contiguous) == ((kept, 16), np.int8, True)
    assert (scales.shape, scales.dtype) == ((kept,), np.float32)
    tokenizer = json.loads((tmp_path / "text/tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(kept)), "numbered from 0 without a gap"
    assert set(COMMON) < set(vocabulary)
    assert not set(RARE) & set(vocabulary)
    assert {item["content"]: item["id"] for item in tokenizer["added_tokens"]} == {
        token: vocabulary[token] for token in SPECIAL
    }


def test_a_rare_word_is_read_as_its_pieces(folder: Path, tmp_path: Path) -> None:
    kept = len(SPECIAL) + 2 * len(LETTERS) + len(COMMON) - 1
    for name, tokens in (("cut", kept), ("whole", 6_000)):
        (tmp_path / name).mkdir()
        write_vocabulary(folder, tmp_path / name, tokens=tokens)
    cut, whole, training = opened(tmp_path / "cut"), opened(tmp_path / "whole"), WordVectors.open(folder)
    for text in ("moraine", "the cumulonimbus over the sea"):
        assert np.allclose(whole.encode(text), training.encode([text])[0], atol=1e-6)
        assert not np.allclose(cut.encode(text), whole.encode(text), atol=0.05)
        assert np.linalg.norm(cut.encode(text)) == pytest.approx(1, abs=1e-5)
    pieces = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    ids = [pieces["m"], *(pieces[f"##{letter}"] for letter in "oraine")]
    vectors, scales = np.load(folder / "vectors.npy"), np.load(folder / "scales.npy")
    total = scales[ids] @ vectors[ids].astype(np.float32)
    assert np.allclose(cut.encode("moraine"), total / np.linalg.norm(total), atol=1e-6)


def test_what_is_left_is_special_letters_and_the_first_words(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    everything = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    always = set(SPECIAL) | set(LETTERS) | {f"##{letter}" for letter in LETTERS}
    assert {token for token, _ in most_common_tokens(tokenizer, 0)} == always
    two = most_common_tokens(tokenizer, len(always) + 2)
    assert {token for token, _ in two} - always == {"the", "sea"}
    assert [row for _, row in two] == sorted(row for _, row in two)
    assert most_common_tokens(tokenizer, 10_000) == everything


def test_the_words_of_the_captions_stay_whatever_their_place(folder: Path, tmp_path: Path) -> None:
    kept = len(SPECIAL) + 2 * len(LETTERS) + len(COMMON) - 1
    write_vocabulary(folder, tmp_path, captions=["moraine,", "Glacier", "(cumulonimbus)"], tokens=kept)
    training, runtime = WordVectors.open(folder), opened(tmp_path)
    for text in ("moraine", "a cumulonimbus", "the sea"):
        assert np.allclose(runtime.encode(text), training.encode([text])[0], atol=1e-6), text
    vocabulary = json.loads((tmp_path / "text/tokenizer.json").read_text())["model"]["vocab"]
    assert len(vocabulary) == kept, "they take the places of the least common"
    assert {"moraine", "cumulonimbus"} < set(vocabulary)
    assert "glacier" not in vocabulary, "what was no token stays none"
    assert not {"water", "##fall"} & set(vocabulary)


def test_another_kind_of_tokenizer_is_kept_whole(tmp_path: Path) -> None:
    words = make_words(tmp_path / "words", ["storm clouds over the sea"])
    (tmp_path / "bundle").mkdir()
    _, kept = write_vocabulary(words, tmp_path / "bundle", tokens=2)
    expected = WordVectors.open(words).encode(["clouds over the sea"])
    assert np.allclose(opened(tmp_path / "bundle").encode("clouds over the sea"), expected[0], atol=1e-6)
    assert np.allclose(kept.encode(["clouds over the sea"]), expected, atol=1e-6)


def test_damaged_words_are_refused_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "words"
    broken.mkdir()
    for path in folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "vectors.npy").write_bytes((folder / "vectors.npy").read_bytes()[:-1])
    (tmp_path / "bundle").mkdir()
    with pytest.raises(ValueError, match=r"vectors\.npy is damaged"):
        write_vocabulary(broken, tmp_path / "bundle")
    with pytest.raises(ValueError, match="no token vectors at"):
        write_vocabulary(tmp_path / "absent", tmp_path / "bundle")
    assert list((tmp_path / "bundle").iterdir()) == []
