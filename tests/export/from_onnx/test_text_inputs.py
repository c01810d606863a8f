"""Imported models that take the tokens of a text: what is guessed, shown and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from export.__main__ import main
from export.from_onnx import importer as importing
from export.from_onnx.importer import ImportOptions, ImportReport, import_model
from export.from_onnx.text_inputs import EXAMPLE_TEXT, TextOptions
from runtime import Generator
from runtime.bundle.reader import open_bundle
from runtime.golden import check_golden
from tests.export.from_onnx import foreign
from tests.export.test_tokenizer_files import write_clip
from tests.made_tokenizers import clip_parts, clip_tokenizer, t5_tokenizer

VOCABULARY, _ = clip_parts()
LENGTH = 6
COLOURS = {"red": (3, -3, -3), "blue": (-3, -3, 3)}


@pytest.fixture(autouse=True)
def one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "available_engines", lambda: [("onnxruntime", "fp32")])


def painter(folder: Path, ids: str = "int64[batch,sequence] input_ids", *, mask: str = "attention_mask") -> list[Path]:
    """Write a text encoder like those of transformers, and a step that paints the colour of its words."""
    table = foreign.random(len(VOCABULARY), 3, scale=0.1)
    for word, colour in COLOURS.items():
        table[VOCABULARY[word + "</w>"]] = np.array(colour) * 2
    dtype, shape, name = ids[:5], ids[ids.index("[") : ids.index("]") + 1], ids.split()[-1]
    masked = f"{dtype}{shape} {mask}, " if mask else ""
    real = (
        "m = Cast <to = 1> (" + mask + ")"
        if mask
        else "e = Equal (" + name + ", none) n = Not (e) m = Cast <to = 1> (n)"
    )
    first = f"""net ({masked}{ids}) => (float[batch,3] hidden) {{
      rows = Gather (table, {name})
      {real}
      m3 = Unsqueeze (m, two)
      kept = Mul (rows, m3)
      sum = ReduceSum <keepdims = 0> (kept, one)
      count = ReduceSum <keepdims = 1> (m, one)
      hidden = Div (sum, count)
    }}"""
    step = """net (float[1,3,16,24] picture, float[1,3] hidden) => (float[1,3,16,24] frame) {
      planes = Reshape (hidden, shape)
      toned = Add (picture, planes)
      frame = Sigmoid (toned)
    }"""
    none = np.array([[-1]], np.int64 if dtype == "int64" else np.int32)
    weights = {"table": table, "one": np.array([1], np.int64), "two": np.array([2], np.int64), "none": none}
    if mask:
        del weights["none"]
    return [
        foreign.write(folder / "step.onnx", step, {"shape": np.array([1, 3, 1, 1], np.int64)}),
        foreign.write(folder / "text_encoder.onnx", first, weights),
    ]


def take(
    models: list[Path],
    out: Path,
    *tokenizers: object,
    length: int | None = None,
    roles: tuple[str, ...] = (),
    **more: Any,
) -> ImportReport:
    step, first = models
    options = ImportOptions(roles=roles, text=TextOptions([str(path) for path in tokenizers], length), **more)
    return import_model(step, out, condition=first, options=options)


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def by_hand(models: list[Path], ids: list[int], mask: list[int], live: np.ndarray) -> np.ndarray:
    """Return the frame of the original models in ONNX Runtime, float (H, W, 3), 0 to 255."""
    feeds = {"input_ids": np.array([ids], np.int64), "attention_mask": np.array([mask], np.int64)}
    (hidden,) = session(models[1]).run(None, feeds)
    planes = (live / 255).astype(np.float32).transpose(2, 0, 1)[np.newaxis]
    (frame,) = session(models[0]).run(None, {"picture": planes, "hidden": hidden})
    picture: np.ndarray = frame[0].transpose(1, 2, 0) * 255
    return picture


def test_words_paint_the_live_picture(tmp_path: Path) -> None:
    models, out = painter(tmp_path), tmp_path / "bundle"
    report = take(models, out, write_clip(tmp_path / "tokenizer"), length=LENGTH)
    assert "  input_ids int64 [1, 6] -> tokens of the tokenizer tokenizer, 6 at most, guessed" in report.lines
    assert "  attention_mask int64 [1, 6] -> token_mask of input_ids, guessed" in report.lines
    manifest = open_bundle(out).manifest
    assert manifest.tokens is not None
    (spec,) = manifest.tokens.tokenizers
    assert (spec.name, spec.file, spec.length) == ("tokenizer", "text/tokenizer.json", LENGTH)
    assert manifest.golden[0].text == EXAMPLE_TEXT
    assert min(result.psnr_db for result in check_golden(out, "onnxruntime", "fp32")) >= 60
    live = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    begin, end = VOCABULARY["<|startoftext|>"], VOCABULARY["<|endoftext|>"]
    ids = {None: [begin, end]} | {word: [begin, VOCABULARY[word + "</w>"], end] for word in COLOURS}
    with Generator.open(out, engine="onnxruntime") as generator:
        generator.feed_live(live)
        for text, real in ids.items():
            if text is not None:
                generator.condition(text=text)
            padded = real + [end] * (LENGTH - len(real))
            wanted = by_hand(models, padded, [1] * len(real) + [0] * (LENGTH - len(real)), live)
            assert np.abs(next(generator) - wanted).max() < 0.51
        first = next(generator).astype(float)
        generator.take(generator.prepare(text="red"), dissolve_s=0.1)
        fading = [next(generator).astype(float) for _ in range(3)]
        reds = [frame[..., 0].mean() for frame in (first, *fading)]
        assert reds == sorted(reds)
        assert reds[1] - reds[0] > 10
        assert reds[3] - reds[1] > 10


def test_the_example_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    models, folder = painter(tmp_path), write_clip(tmp_path / "tokenizer")
    take(models, tmp_path / "bundle", folder)
    found = transformers.CLIPTokenizer.from_pretrained(folder)(
        "blue sea, café!", padding="max_length", max_length=77, truncation=True
    )
    live = np.full((16, 24, 3), 90, np.uint8)
    with Generator.open(tmp_path / "bundle", engine="onnxruntime") as generator:
        generator.feed_live(live)
        generator.condition(text="blue sea, café!")
        wanted = by_hand(models, found.input_ids, found.attention_mask, live)
        assert np.abs(next(generator) - wanted).max() < 0.51


@pytest.mark.parametrize(
    ("ids", "length", "wanted"),
    [
        ("int64[batch,sequence] input_ids", None, 77),
        ("int64[batch,sequence] input_ids", 512, 512),
        ("int32[1,9] tokens", None, 9),
        ("int32[1,9] prompt", 9, 9),
        ("int64[1,n] x", 20, 20),  # the only input of integers
    ],
)
def test_lengths_and_names(ids: str, length: int | None, wanted: int, tmp_path: Path) -> None:
    models = painter(tmp_path, ids, mask="")
    (tmp_path / "tokenizer.json").write_text(clip_tokenizer())
    take(models, tmp_path / "bundle", tmp_path / "tokenizer.json", length=length)
    condition = open_bundle(tmp_path / "bundle").manifest.condition
    assert condition is not None
    assert [(item.name, item.role, item.shape) for item in condition.inputs] == [
        (ids.split()[-1], "tokens", (1, wanted))
    ]


def two_encoders(folder: Path) -> list[Path]:
    """Write a first model with two text inputs, of which the second has a mask and types; and its step."""
    first = """net (int64[n,l] input_ids, int32[n,l2] input_ids_2, int32[n,l2] attention_mask_2,
        int64[n,k] token_type_ids) => (float[1,3] hidden) {
      a = Gather (table, input_ids) am = ReduceMean <keepdims = 0> (a, one)
      b = Gather (table, input_ids_2) f = Cast <to = 1> (attention_mask_2) u = Unsqueeze (f, two)
      bm = Mul (b, u) bs = ReduceMean <keepdims = 0> (bm, one)
      t = Cast <to = 1> (token_type_ids) ts = ReduceSum <keepdims = 1> (t, one)
      both = Add (am, bs) hidden = Add (both, ts)
    }"""
    weights = {"table": foreign.random(len(VOCABULARY), 3), "one": np.array([1]), "two": np.array([2])}
    step = painter(folder)[0]
    return [step, foreign.write(folder / "first.onnx", first, weights)]


def test_two_encoders_with_tokenizers_of_their_own(tmp_path: Path) -> None:
    models = two_encoders(tmp_path)
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5" / "tokenizer.json").write_text(t5_tokenizer(), encoding="utf-8")
    words = [write_clip(tmp_path / "tokenizer"), f"input_ids_2={tmp_path / 't5'}"]
    roles = ("attention_mask_2=token_mask:input_ids_2",)
    report = take(models, tmp_path / "bundle", *words, length=12, roles=roles)
    condition = open_bundle(tmp_path / "bundle").manifest.condition
    assert condition is not None
    found = {item.name: (item.role, item.dtype, item.shape, item.tokenizer, item.of) for item in condition.inputs}
    assert found == {
        "input_ids": ("tokens", "int64", (1, 12), "tokenizer", ()),
        "input_ids_2": ("tokens", "int32", (1, 12), "t5", ()),
        "attention_mask_2": ("token_mask", "int32", (1, 12), "", ("input_ids_2",)),
    }
    assert any("token_type_ids int64 [1, 1] -> fixed, guessed" in line for line in report.lines)
    with Generator.open(tmp_path / "bundle", engine="onnxruntime") as generator:
        frames = []
        for text in ("red", "blue", "storm"):
            generator.condition(text=text)
            frames.append(next(generator).copy())
        assert not np.array_equal(frames[0], frames[1])
        assert not np.array_equal(frames[1], frames[2])


def test_one_tokenizer_for_both_is_stored_once(tmp_path: Path) -> None:
    take(two_encoders(tmp_path), tmp_path / "bundle", write_clip(tmp_path / "tokenizer"))
    text = json.loads((tmp_path / "bundle" / "bundle.json").read_text())["text"]
    assert [entry["name"] for entry in text["tokenizers"]] == ["tokenizer"]


REFUSED: list[tuple[list[str], int | None, tuple[str, ...], str]] = [
    ([], None, (), r'"input_ids" .* takes the tokens of a text: pass --tokenizer FILE_OR_FOLDER'),
    (["none"], None, (), "none has no tokenizer: it does not exist"),
    (["tokenizer", "tokenizer"], None, (), "several tokenizers were given for all inputs: pass --tokenizer INPUT=PATH"),
    (["tokenizer"], 513, (), "would take 513 tokens; a text has 1 to 512"),
    (["tokenizer"], 2, (), "2 special tokens, which leave no room for a text in 2 tokens"),
    (["tokenizer"], None, ("attention_mask=token_mask:ids",), 'the mask of "ids", which takes no tokens'),
    (["tokenizer"], None, ("picture=tokens",), "picture|tokens"),
    (
        ["tokenizer"],
        None,
        ("input_ids=fixed:3", "attention_mask=fixed:1"),
        "--tokenizer was given, and no input of the",
    ),
    (["large"], None, (), r'the tokenizer of "input_ids" has \d+ tokens, and text_encoder\.onnx fails on the last one'),
]


@pytest.mark.parametrize(("tokenizers", "length", "roles", "message"), REFUSED)
def test_refusals(
    tokenizers: list[str],
    length: int | None,
    roles: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "tokenizer")
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "tokenizer.json").write_text(clip_tokenizer(["red", "orange", "violet", "turquoise"]))
    with pytest.raises(ValueError, match=message):
        take(painter(tmp_path), tmp_path / "bundle", *tokenizers, length=length, roles=roles)
    assert not (tmp_path / "bundle").exists()


def test_a_fixed_length_is_the_models(tmp_path: Path) -> None:
    models = painter(tmp_path, "int64[1,9] input_ids")
    with pytest.raises(ValueError, match="takes 9 and 9 tokens, and --text-length is 5: give one length"):
        take(models, tmp_path / "bundle", write_clip(tmp_path / "tokenizer"), length=5)


def test_texts_need_a_first_model(tmp_path: Path) -> None:
    model = foreign.style(tmp_path / "style.onnx")
    with pytest.raises(ValueError, match="give the model that takes their tokens by --condition"):
        import_model(model, tmp_path / "bundle", options=ImportOptions(text=TextOptions([str(tmp_path)])))


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    step, first = painter(tmp_path)
    words = ["export", "from-onnx", str(step), "--condition", str(first), "--out", str(tmp_path / "bundle")]
    monkeypatch.setattr("sys.argv", words)
    assert main() == 2
    assert "pass --tokenizer FILE_OR_FOLDER" in capsys.readouterr().err
    words += ["--tokenizer", str(write_clip(tmp_path / "tokenizer")), "--text-length", "16"]
    monkeypatch.setattr("sys.argv", [*words, "--role", "input_ids=tokens", "--licence", "MIT"])
    assert main() == 0
    assert "input_ids int64 [1, 16] -> tokens of the tokenizer tokenizer, 16 at most\n" in capsys.readouterr().out
    tokens = open_bundle(tmp_path / "bundle").manifest.tokens
    assert tokens is not None
    assert (tokens.licence, tokens.source) == ("MIT", "not stated")
