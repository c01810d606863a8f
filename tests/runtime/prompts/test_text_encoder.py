"""Texts become the vectors that training saw, are read when the first one comes, and are refused in one sentence."""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import BundleError, EngineError, Generator, Manifest
from runtime.prompts import text_encoder as text_module
from runtime.prompts import tokenizer as tokenizer_module
from runtime.prompts.text_encoder import TextEncoder, open_text_encoder
from runtime.prompts.tokenizer import check_text
from tests.runtime import prompted
from training.data.words import WordVectors as TrainingWords
from training.data.words import write_words

SENTENCES = ("the storm", "Calm SEA, calm cloud", "a café in the storm", "storm storm sea unheard of")


@pytest.fixture
def copy(prompted_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    return shutil.copytree(prompted_bundle, tmp_path / "copy", ignore=shutil.ignore_patterns("engines"))


def read(folder: Path) -> TextEncoder:
    """Read the token vectors of a bundle."""
    return open_text_encoder(folder, Manifest.parse(json.loads((folder / "bundle.json").read_text())))


def test_vectors_are_those_that_training_saw(prompted_bundle: Path, tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(len(prompted.WORDS), prompted.DIMENSIONS))
    write_words(tmp_path / "words", prompted.to_tokenizer(), vectors, {})
    theirs = TrainingWords.open(tmp_path / "words")
    arrays = [np.load(tmp_path / "words" / f"{name}.npy") for name in ("vectors", "scales")]
    ours = TextEncoder((tmp_path / "words" / "tokenizer.json").read_text(), *arrays)
    for sentence in SENTENCES:
        vector = ours.encode(sentence)
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
        assert np.array_equal(vector, theirs.encode([sentence])[0])


def test_a_vector_is_the_mean_of_the_known_tokens(prompted_bundle: Path) -> None:
    vectors = np.load(prompted_bundle / "text" / "vectors.npy").astype(np.float64)
    scales = np.load(prompted_bundle / "text" / "scales.npy").astype(np.float64)
    known = [prompted.WORDS.index(word) for word in ("storm", "sea", "storm")]
    total = (scales[known, np.newaxis] * vectors[known]).sum(0)
    encoded = read(prompted_bundle).encode("storm unheard Sea storm")
    assert np.allclose(encoded, total / np.linalg.norm(total), atol=1e-6)


def test_both_spellings_of_a_letter_are_one(prompted_bundle: Path) -> None:
    words = read(prompted_bundle)
    assert np.array_equal(words.encode("cafe\u0301"), words.encode("caf\u00e9"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the text is empty: describe a scene"),
        (" \n\t", "the text is empty"),
        ("storm " * 334, "the text has 2004 characters; at most 2000 are read: shorten it"),
        ("storm \udcff", "the text is not valid Unicode"),
        (b"storm", "a text must be a string, got bytes"),
        ("vingt mille lieues", "no word of the text 'vingt mille lieues' is known: the vocabulary is English"),
        ("xyzzy " * 40, r"no word of the text 'xyzzy [xyz ]+\.\.\.' is known"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused(prompted_bundle: Path, text: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(prompted_bundle).encode(text)
    assert "\n" not in str(caught.value)


def test_the_longest_text_is_read() -> None:
    assert len(check_text("ab " * 666 + "ab")) == 2000


def test_text_files_that_are_replaced_while_it_runs_change_nothing(copy: Path) -> None:
    expected = read(copy).encode("storm")
    with Generator.open(copy, engine="onnxruntime", seed=1) as generator:
        (copy / "text" / "vectors.npy").write_bytes(b"")
        shutil.rmtree(copy / "text")
        generator.condition(text="storm")
        next(generator)
        assert generator.scene is not None
        assert np.array_equal(generator.scene.text_inputs["words"][0], expected)
    with pytest.raises(BundleError, match="is missing"):
        Generator.open(copy, engine="onnxruntime")


def test_text_files_are_checked_when_the_bundle_is_opened(copy: Path) -> None:
    (copy / "text" / "vectors.npy").write_bytes(npy(VECTORS[:6]))
    prompted.change(copy)
    with pytest.raises(BundleError, match=r"vectors\.npy holds int8"):
        Generator.open(copy, engine="onnxruntime")


def test_a_missing_tokenizers_package_is_one_sentence(prompted_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with Generator.open(prompted_bundle, engine="onnxruntime") as generator:
        with pytest.raises(EngineError, match=r"needs the package tokenizers: pip install everframe\[cpu\]"):
            generator.condition(text="storm")
        assert next(generator).shape == (prompted.HEIGHT, prompted.WIDTH, 3)


def npy(array: np.ndarray, **options: Any) -> bytes:
    """Return an array as the bytes of a .npy file."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def lying(shape: str, descr: str = "|i1") -> bytes:
    """Return a .npy file of a few bytes that claims to be larger."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(245) + "\n"
    return b"\x93NUMPY\x01\x00\xf6\x00" + header.encode() + b"\x01" * 56


VECTORS = np.ones((7, 8), np.int8)
BROKEN: list[tuple[str, bytes, str]] = [
    ("vectors", b"", r"vectors\.npy is not a \.npy file"),
    ("vectors", b"\x93NUMPY\x01\x00", r"vectors\.npy is not a \.npy file"),
    ("vectors", npy(VECTORS)[:-1], r"holds int8 \(7, 8\) in 55 bytes, expected int8 \(7, 8\)"),
    ("vectors", npy(VECTORS) + b"x", "in 57 bytes"),
    ("vectors", npy(VECTORS.astype(np.float32)), "holds float32"),
    ("vectors", npy(VECTORS[:6]), r"holds int8 \(6, 8\) in 48 bytes, expected int8 \(7, 8\)"),
    ("vectors", npy(VECTORS.ravel()), r"holds int8 \(56,\)"),
    ("vectors", npy(np.asfortranarray(np.ones((7, 8), np.int8))), "holds int8"),
    ("vectors", npy(VECTORS, version=(2, 0)), r"its format is \(2, 0\), expected \(1, 0\)"),
    ("vectors", lying("(7, 8000000000)"), "in 56 bytes"),
    ("vectors", lying("(7, 8)", "|O"), "holds object"),
    ("vectors", lying("(7, " + "9" * 90 + ")"), "in 56 bytes"),
    ("vectors", lying("(7, 8"), r"vectors\.npy is not a \.npy file"),
    ("vectors", lying("(-7, -8)"), "in 56 bytes"),
    ("scales", lying("(1000000000000000,)", "<f4"), r"scales\.npy holds float32"),
    ("scales", npy(np.ones((7, 1), np.float32)), r"scales\.npy holds float32 \(7, 1\)"),
    ("scales", npy(np.full(7, np.nan, np.float32)), r"scales\.npy holds values that are not finite"),
    ("scales", npy(np.ones(0, np.float32)), r"vectors\.npy holds int8 \(7, 8\) in 56 bytes, expected int8 \(0, 8\)"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_vectors_that_are_not_as_said_are_refused(copy: Path, name: str, content: bytes, message: str) -> None:
    (copy / "text" / f"{name}.npy").write_bytes(content)
    prompted.change(copy)
    with pytest.raises(BundleError, match=message):
        read(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"tokenizer\.json cannot be used: it is not a readable tokenizer"),
        (b"\xff", r"tokenizer\.json cannot be used"),
        (b"{}", "it is not a readable tokenizer"),
        (b'"model"', "it is not a readable tokenizer"),
    ],
)
def test_an_invalid_tokenizer_is_refused(copy: Path, content: bytes, message: str) -> None:
    (copy / "text" / "tokenizer.json").write_bytes(content)
    prompted.change(copy)
    with pytest.raises(BundleError, match=message):
        read(copy)


def test_tokens_without_a_vector_are_refused(copy: Path) -> None:
    value = json.loads(prompted.to_tokenizer())
    value["model"]["vocab"]["storm"] = 7
    (copy / "text" / "tokenizer.json").write_text(json.dumps(value))
    prompted.change(copy)
    with pytest.raises(BundleError, match="it has tokens beyond the 7 that have a vector"):
        read(copy)


def test_sizes_are_checked_before_anything_is_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest.parse(json.loads((copy / "bundle.json").read_text()))
    (copy / "text" / "scales.npy").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(text_module, "_MAX_TOKENS", -(2**16))
        with pytest.raises(BundleError, match=r"scales\.npy is too large"):
            open_text_encoder(copy, manifest)
    (copy / "text" / "tokenizer.json").unlink()
    monkeypatch.setattr(tokenizer_module, "_MAX_TOKENIZER_BYTES", 100)
    with pytest.raises(BundleError, match=r"tokenizer\.json is larger than 100 bytes"):
        open_text_encoder(copy, manifest)


def replace_all(pattern: dict[str, str], content: str, times: int = 1) -> dict[str, Any]:
    """Return a normaliser of replacements, one after the other."""
    return {
        "type": "Sequence",
        "normalizers": [{"type": "Replace", "pattern": pattern, "content": content} for _ in range(times)],
    }


def charsmap(*texts: bytes) -> dict[str, str]:
    """Return a normaliser of SentencePiece's kind, with a trie in which nothing is found."""
    table = (1024).to_bytes(4, "little") + bytes(1024) + b"\0".join(texts) + b"\0"
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


def pieces(**more: Any) -> dict[str, Any]:
    """Return a WordPiece model."""
    vocabulary = {word: place for place, word in enumerate(prompted.WORDS)}
    model = {"type": "WordPiece", "vocab": vocabulary, "unk_token": "[UNK]", "max_input_chars_per_word": 100}
    return model | {"continuing_subword_prefix": "##"} | more


LETTERS = {"String": "a"}
HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"normalizer": replace_all(LETTERS, "a" * 1000, 2)}, "the replacement must not be longer"),
    ({"normalizer": replace_all(LETTERS, "aa")}, "the replacement must not be longer"),
    ({"normalizer": replace_all({"String": ""}, "a")}, "the replacement must not be longer"),
    ({"normalizer": replace_all({"Regex": "(a+)+$"}, "")}, "the regular expressions allowed are"),
    ({"normalizer": replace_all({"Regex": r"\s+"}, "  ")}, "the regular expressions allowed are"),
    ({"normalizer": replace_all(LETTERS, "a", 100)}, "it has 100 normalizers"),
    ({"normalizer": {"type": "Prepend", "prepend": "a" * 10**6}}, "its normalizer 'Prepend' is not one that is read"),
    ({"normalizer": {"type": "ByteLevel"}}, "its normalizer 'ByteLevel' is not one that is read"),
    ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKD"}] * 2}}, 'it has 2 normalizers "NFKD"; one'),
    ({"normalizer": {"type": "Sequence", "normalizers": [replace_all(LETTERS, "a")]}}, "normalizer 'Sequence' is not"),
    ({"normalizer": {"type": "Sequence", "normalizers": "NFC"}}, "its normalizer is 'NFC', expected a list"),
    ({"normalizer": charsmap(b"a" * 1000)}, "makes 1000 bytes of a character"),
    ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "?"}}, "the table of its normalizer"),
    (
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}},
        'its pre-tokenizer "Split" splits at',
    ),
    (
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}] * 20}},
        'it has 20 pre-tokenizers "ByteLevel"; one is read',
    ),
    ({"model": pieces(max_input_chars_per_word=10**9)}, '"max_input_chars_per_word" is 1000000000; at most 200'),
    ({"model": pieces(continuing_subword_prefix="#" * 10**6)}, '"continuing_subword_prefix" is longer than 16'),
    ({"model": pieces(vocab={"a" * 257: 0, "[UNK]": 1})}, "longer than 256 characters"),
    ({"model": pieces(vocab={"a": 2**40, "[UNK]": 1})}, "it has tokens beyond the 7"),
    ({"model": pieces(vocab=[1])}, "its vocabulary is .1., expected an object"),
    ({"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a" * 65, 0.0]]}}, "longer than 64 characters"),
    ({"model": {"type": "BPE", "dropout": 0.5, "vocab": {"a": 0}, "merges": []}}, "its dropout must be null"),
    ({"model": {"type": "Oracle", "vocab": {}}}, "its model 'Oracle' is not one that is read"),
    ({"added_tokens": [{"id": 0, "content": "a" * 2**17}]}, "it adds 1 tokens; at most 10000"),
    ({"added_tokens": "a"}, "its list of added tokens is 'a', expected a list"),
]


@pytest.mark.parametrize(("parts", "message"), HOSTILE)
def test_parts_that_could_hold_up_a_show_are_refused(copy: Path, parts: dict[str, Any], message: str) -> None:
    value = json.loads(prompted.to_tokenizer()) | parts
    (copy / "text" / "tokenizer.json").write_text(json.dumps(value))
    prompted.change(copy)
    with pytest.raises(BundleError, match=message):
        read(copy)


USUAL: list[dict[str, Any]] = [
    {"normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True}},
    {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [charsmap(b"a" * 33), *replace_all({"Regex": " {2,}"}, " ")["normalizers"]],
        }
    },
    {"normalizer": replace_all({"String": "``"}, '"'), "model": pieces()},
    {"pre_tokenizer": {"type": "BertPreTokenizer"}},
    {
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Digits", "individual_digits": True}],
        }
    },
    # What a bundle does not need is left out, whatever it says.
    {"truncation": {"max_length": 10**9, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}},
    {"padding": {"strategy": {"Fixed": 10**9}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "a"}},
    {"decoder": {"type": "Replace", "pattern": {"Regex": "(a{1,1000}){1,1000}"}, "content": ""}},
    {"post_processor": {"type": "Nonsense"}},
]


@pytest.mark.parametrize("parts", USUAL)
def test_the_usual_parts_are_read(copy: Path, parts: dict[str, Any]) -> None:
    expected = read(copy).encode("calm sea")
    value = json.loads(prompted.to_tokenizer()) | parts
    (copy / "text" / "tokenizer.json").write_text(json.dumps(value))
    prompted.change(copy)
    assert np.array_equal(read(copy).encode("calm sea"), expected)
