from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from tests.training.words_fixture import make_words
from training.data.words import OFFLINE, WordVectors, add_arguments, digest_of, run, write_words

ROOT = Path(__file__).parents[3]
TEXTS = ("a waterfall in winter", "a candle burning")


def parse(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args([str(argument) for argument in arguments])


def test_texts_become_unit_vectors_whatever_the_order_of_their_words(tmp_path: Path) -> None:
    words = WordVectors.open(make_words(tmp_path / "words", TEXTS))
    encoded = words.encode(["a waterfall in winter", "WINTER in a waterfall", "a candle burning", "", "unheard of"])
    assert (encoded.shape, encoded.dtype, words.dimensions) == ((5, 16), np.float32, 16)
    assert np.allclose(np.linalg.norm(encoded, axis=1), [1, 1, 1, 0, 0], atol=1e-6)
    assert np.allclose(encoded[0], encoded[1], atol=1e-6)
    assert encoded[0] @ encoded[2] < 0.9
    assert np.array_equal(words.encode(["a candle burning"])[0], encoded[2])
    assert words.encode([]).shape == (0, 16)
    with pytest.raises(ValueError, match="a sequence of texts, not one text"):
        words.encode("a candle burning")


def test_int8_and_our_mean_agree_with_model2vec_in_float(tmp_path: Path) -> None:
    model2vec = pytest.importorskip("model2vec")
    path = make_words(tmp_path / "words", TEXTS, dimensions=64)
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    vectors = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size(), 64))
    theirs = model2vec.StaticModel(vectors, tokenizer, normalize=True)
    texts = [*TEXTS, "a waterfall of unknown winter", "burning in in in"]
    ours = WordVectors.open(path).encode(texts)
    assert (ours * theirs.encode(texts)).sum(axis=1).min() > 1 - 1e-3


@pytest.mark.parametrize("first", ["", "<unk>"])
def test_an_unknown_token_of_a_unigram_tokenizer_is_left_out(tmp_path: Path, first: str) -> None:
    tokenizer = Tokenizer(models.Unigram([(first or "z", 0.0), ("a", -1.0), ("b", -1.0)], 0 if first else None))
    write_words(tmp_path / "words", tokenizer.to_str(), np.eye(3), {})
    encoded = WordVectors.open(tmp_path / "words").encode(["ab", "a?" if first else "a"])
    assert np.allclose(encoded, [[0, 0.5**0.5, 0.5**0.5], [0, 1, 0]], atol=1e-6)


def test_a_row_of_zeros_and_rows_of_any_size_survive_rounding(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"x": 0, "y": 1, "z": 2}, unk_token="x"))
    write_words(tmp_path / "words", tokenizer.to_str(), np.array([[0.0, 0], [1e-6, -2e-6], [300, 40]]), {})
    encoded = WordVectors.open(tmp_path / "words").encode(["y", "z"])
    assert np.allclose(encoded, [[0.2**0.5, -(0.8**0.5)], np.array([300, 40]) / 91600**0.5], atol=5e-3)


def test_the_digest_names_the_content_and_nothing_else(tmp_path: Path) -> None:
    same = [WordVectors.open(make_words(tmp_path / name, TEXTS)).digest for name in ("one", "two")]
    other = WordVectors.open(make_words(tmp_path / "three", TEXTS[:1])).digest
    assert same[0] == same[1] != other
    assert len(other) == 64
    assert digest_of({"a": "1", "b": "2"}) == digest_of({"b": "2", "a": "1"}) != digest_of({"a": "2", "b": "1"})


def test_words_survive_pickling(tmp_path: Path) -> None:
    words = WordVectors.open(make_words(tmp_path / "words", TEXTS))
    assert np.array_equal(pickle.loads(pickle.dumps(words)).encode(TEXTS), words.encode(TEXTS))


def test_reading_needs_neither_torch_nor_model2vec(tmp_path: Path) -> None:
    path = make_words(tmp_path / "words", TEXTS)
    code = (
        "import sys; from pathlib import Path; from training.data.words import WordVectors\n"
        f"WordVectors.open(Path({str(path)!r})).encode(['a candle'])\n"
        "print([name for name in ('torch', 'model2vec', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def change_description(path: Path, **changes: object) -> None:
    file = path / "words.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_folder_that_is_not_whole_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no token vectors at .*absent: create them with `python -m training words"):
        WordVectors.open(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"words.json is missing or damaged \(FileNotFoundError\)"):
        WordVectors.open(tmp_path)
    path = make_words(tmp_path / "words", TEXTS)
    vectors = (path / "vectors.npy").read_bytes()
    (path / "vectors.npy").write_bytes(vectors[:-5])
    with pytest.raises(ValueError, match=r"vectors.npy is damaged: its SHA-256 is not the one that words.json names"):
        WordVectors.open(path)
    (path / "vectors.npy").write_bytes(vectors)
    (path / "scales.npy").unlink()
    with pytest.raises(ValueError, match=r"scales.npy is missing or unreadable \(FileNotFoundError\)"):
        WordVectors.open(path)


def test_a_description_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    path = make_words(tmp_path / "words", TEXTS)
    change_description(path, dimensions=17)
    with pytest.raises(ValueError, match=r"is inconsistent: 7 tokens, vectors \(7, 16\), scales \(7,\)"):
        WordVectors.open(path)
    change_description(path, files={"tokenizer.json": ""})
    with pytest.raises(ValueError, match=r"is damaged: its files are not tokenizer.json, vectors.npy, scales.npy"):
        WordVectors.open(path)
    change_description(path, version=2)
    with pytest.raises(ValueError, match="is of version 2, this release reads version 1: create it again"):
        WordVectors.open(path)
    (path / "words.json").write_text('{"version": 1,')
    with pytest.raises(ValueError, match=r"words.json is missing or damaged \(JSONDecodeError\)"):
        WordVectors.open(path)


def test_a_tokenizer_of_another_kind_is_one_sentence(tmp_path: Path) -> None:
    write_words(tmp_path / "words", '{"model": {"type": "Nobody"}}', np.eye(3), {})
    with pytest.raises(ValueError, match="cannot be read"):
        WordVectors.open(tmp_path / "words")


def test_words_are_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    path = make_words(tmp_path / "words", TEXTS)
    before = WordVectors.open(path).digest
    assert WordVectors.open(make_words(path, TEXTS[:1])).digest != before
    assert [file.name for file in tmp_path.iterdir()] == ["words"]
    (tmp_path / "photos").mkdir()
    make_words(tmp_path / "photos", TEXTS)  # an empty folder may be filled
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "holiday.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"other is there and holds no token vectors: name another folder"):
        make_words(tmp_path / "other", TEXTS)


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a sentence encoder, and an environment that is put back."""
    for name in OFFLINE:
        monkeypatch.setenv(name, "")
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n\n# all-Tiny\n\nText.\n")
    return folder


def fake_distill(monkeypatch: pytest.MonkeyPatch, vectors: np.ndarray) -> list[dict[str, object]]:
    """Put a model2vec in place that gives these vectors; returns the calls it gets."""
    calls: list[dict[str, object]] = []
    tokenizer = Tokenizer(models.WordLevel({f"t{i}": i for i in range(len(vectors))}, unk_token="t0"))
    tokenizer.enable_truncation(2)

    def distill(name: str, **options: object) -> types.SimpleNamespace:
        calls.append({"name": name, **options})
        return types.SimpleNamespace(embedding=vectors, tokenizer=tokenizer)

    package = types.ModuleType("model2vec")
    package.__version__ = "0.0.1"  # type: ignore[attr-defined]
    module = types.ModuleType("model2vec.distill")
    module.distill = distill  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "model2vec", package)
    monkeypatch.setitem(sys.modules, "model2vec.distill", module)
    return calls


def test_distilling_writes_the_vectors_and_where_they_come_from(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = fake_distill(monkeypatch, np.eye(4, 3, dtype=np.float32))
    run(parse(encoder, "--out", tmp_path / "deep" / "words", "--dimensions", 3))
    assert calls == [{"name": str(encoder), "device": "cpu", "pca_dims": 3, "quantize_to": "float32"}]
    assert "4 tokens, 3 dimensions, 0.0 MB" in capsys.readouterr().out
    words = WordVectors.open(tmp_path / "deep" / "words")
    assert np.allclose(words.encode(["t2"]), [[0, 0, 1]])
    description = json.loads((tmp_path / "deep" / "words" / "words.json").read_text())
    assert (description["source"]["name"], description["source"]["licence"]) == ("all-Tiny", "apache-2.0")
    assert list(description["source"]["sha256"]) == ["model.safetensors"]
    assert description["model2vec"] == "0.0.1"
    assert '"truncation":null' in (tmp_path / "deep" / "words" / "tokenizer.json").read_text().replace(" ", "")


def test_a_model_without_a_card_is_named_by_its_folder(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_distill(monkeypatch, np.eye(4, 3))
    (encoder / "README.md").unlink()
    run(parse(encoder, "--out", tmp_path / "words", "--dimensions", 3))
    source = json.loads((tmp_path / "words" / "words.json").read_text())["source"]
    assert (source["name"], source["licence"]) == ("encoder", "not stated in the model's folder")


def test_what_the_user_can_mend_is_one_sentence(tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "words"
    with pytest.raises(ValueError, match=r"is not a sentence encoder: expected config.json, a tokenizer and"):
        run(parse(tmp_path / "absent", "--out", out))
    with pytest.raises(ValueError, match="--dimensions is 0: at least 1"):
        run(parse(encoder, "--out", out, "--dimensions", 0))
    with pytest.raises(ValueError, match="encoder is there and holds no token vectors"):
        run(parse(encoder, "--out", encoder))
    fake_distill(monkeypatch, np.eye(4, 3))
    with pytest.raises(ValueError, match=r"--dimensions is 128, .*encoder gives at most 3"):
        run(parse(encoder, "--out", out))
    monkeypatch.setitem(sys.modules, "model2vec", None)
    with pytest.raises(ValueError, match=r"needs packages that are not installed: pip install 'everframe\[words\]'"):
        run(parse(encoder, "--out", out))
    assert not out.exists()


def test_a_folder_that_cannot_be_distilled_is_one_sentence(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def distill(name: str, **options: object) -> None:
        raise OSError("no tokenizer here\nand many more lines")

    fake_distill(monkeypatch, np.eye(2))
    monkeypatch.setattr(sys.modules["model2vec.distill"], "distill", distill)
    with pytest.raises(ValueError, match=r"encoder could not be distilled: no tokenizer here$"):
        run(parse(encoder, "--out", tmp_path / "words"))


def test_a_real_encoder_is_distilled_without_the_network(tmp_path: Path, encoder: Path) -> None:
    for package in ("model2vec", "skeletoken", "sklearn", "transformers"):
        pytest.importorskip(package, reason="the extra everframe[words] is not installed")
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", *"abcdefghijkl", "##a", "candle"]
    tokenizer = BertTokenizerFast({piece: number for number, piece in enumerate(pieces)})
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(pieces), **sizes)).save_pretrained(encoder)
    tokenizer.save_pretrained(encoder)
    run(parse(encoder, "--out", tmp_path / "words", "--dimensions", 8))
    encoded = WordVectors.open(tmp_path / "words").encode(["candle aa", "AA candle", "candle"])
    assert np.allclose(encoded[0], encoded[1], atol=1e-6)
    assert encoded[0] @ encoded[2] < 0.999
