"""Captions as the generator gets them: vectors, remembered; some words left out while it trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.words_fixture import make_words
from training.data.captions import DROPPED_WORDS, NO_CAPTION, Captions
from training.data.words import WordVectors

TEXT = "one two three four five six seven eight"


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> WordVectors:
    return WordVectors.open(make_words(tmp_path_factory.mktemp("captions") / "words", [TEXT, "the sea"]))


def test_captions_are_the_words_vectors(words: WordVectors) -> None:
    captions = Captions(words, 16)
    vectors = captions.encode([TEXT, "", "the sea", TEXT])
    assert vectors.shape == (4, 16)
    assert torch.equal(vectors[[0, 2]], torch.from_numpy(words.encode([TEXT, "the sea"])))
    assert torch.allclose(vectors.norm(dim=1), torch.tensor([1.0, 0.0, 1.0, 1.0]), atol=1e-5)
    assert torch.equal(vectors[0], vectors[3])


def test_a_deaf_generator_gets_nothing(words: WordVectors) -> None:
    assert Captions(None, 0).encode(["the sea"], dropping=True).shape == (1, 0)
    assert Captions(words, 0).encode(["the sea", ""]).shape == (2, 0)


def test_what_is_left_out_is_drawn_from_torchs_own_generator(words: WordVectors) -> None:
    captions = Captions(words, 16)
    torch.manual_seed(3)
    first = captions.encode([TEXT] * 400, dropping=True)
    torch.manual_seed(3)
    assert torch.equal(Captions(words, 16).encode([TEXT] * 400, dropping=True), first)
    assert not torch.equal(captions.encode([TEXT] * 400, dropping=True), first)
    dropped = (first.norm(dim=1) == 0).float().mean().item()
    assert dropped == pytest.approx(NO_CAPTION, abs=0.06)
    torch.manual_seed(3)
    assert torch.equal(captions.encode([TEXT] * 5), captions.encode([TEXT] * 5)), "unless told to, nothing is left out"
    told = torch.get_rng_state()
    captions.encode([TEXT])
    assert torch.equal(torch.get_rng_state(), told)


def test_words_are_left_out_but_never_all_of_them(words: WordVectors, monkeypatch: pytest.MonkeyPatch) -> None:
    captions, asked = Captions(words, 16), []
    monkeypatch.setattr("training.data.captions.NO_CAPTION", 0.0)
    encode = words.encode

    def listen(texts: list[str]) -> object:
        asked.extend(texts)
        return encode(texts)

    monkeypatch.setattr(words, "encode", listen)
    torch.manual_seed(0)
    for _ in range(200):
        captions._known.clear()
        captions.encode([TEXT, "sea"], dropping=True)
    long, short = asked[::2], asked[1::2]
    assert set(short) == {"sea"}
    kept = [len(text.split()) for text in long]
    assert sum(kept) / 8 / len(kept) == pytest.approx(1 - DROPPED_WORDS, abs=0.04)
    order = TEXT.split()
    assert all([order.index(word) for word in text.split()] == sorted(map(order.index, text.split())) for text in long)


def test_what_does_not_fit_is_one_sentence(words: WordVectors, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"text_dimensions is 16\) and no words were given: pass --words") as one:
        Captions(None, 16)
    with pytest.raises(
        ValueError, match=r"text_dimensions is 32 and the word vectors have 16: .* --dimensions 32"
    ) as two:
        Captions(words, 32)
    assert "\n" not in f"{one.value}{two.value}"
