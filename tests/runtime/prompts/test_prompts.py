"""Prompts: inputs of the condition graph, refused prompts, and their effect on the frames."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import Generator, Manifest
from runtime.engines.engine import Array
from runtime.noise import CODES, normals
from runtime.prompts.text_encoder import TextEncoder, open_text_encoder
from tests.fakes import FakeEngine, fake_generator
from tests.runtime import prompted

SIZE = (prompted.HEIGHT, prompted.WIDTH)
IMAGE = np.full((*SIZE, 3), 7, np.uint8)
CLIP = np.stack([np.full((*SIZE, 3), level, np.uint8) for level in (20, 40, 60)])
TEXT = "the storm"


@pytest.fixture
def manifest(prompted_bundle: Path) -> Manifest:
    """The manifest of the bundle that takes every kind of prompt."""
    return Manifest.parse(json.loads((prompted_bundle / "bundle.json").read_text()))


@pytest.fixture
def stage(prompted_bundle: Path, manifest: Manifest) -> tuple[Generator, FakeEngine]:
    """A generator of fake sessions that takes every kind of prompt, and its engine."""
    return fake_generator(manifest, open_text_encoder=lambda: open_text_encoder(prompted_bundle, manifest))


def without(manifest: Manifest, *roles: str) -> Manifest:
    """Return a manifest whose condition graph has no inputs of some roles, and no input of the role given."""
    value = manifest.to_json()
    condition = value["graphs"]["condition"]
    dropped = {"mask", "given", *roles}
    condition["inputs"] = [item for item in condition["inputs"] if item["role"] not in dropped]
    value["text"] = None if "text" in roles else value["text"]
    if "noise" in roles:
        value["renewal"], value["controls"] = None, value["controls"][:1]
    return Manifest.parse(value)


def last(engine: FakeEngine, name: str) -> Array:
    """Return what the condition graph was given last for an input."""
    return engine.sessions[1].written(name)[-1][1]


PARTS: dict[str, Any] = {"image": IMAGE, "clip": CLIP, "text": TEXT}
GIVEN = [parts for count in range(4) for parts in itertools.combinations(PARTS, count)]


@pytest.mark.parametrize("given", GIVEN, ids=lambda given: "+".join(given) or "nothing")
def test_given_inputs_are_filled_in_and_the_rest_is_zeros(
    stage: tuple[Generator, FakeEngine], prompted_bundle: Path, manifest: Manifest, given: tuple[str, ...]
) -> None:
    generator, engine = stage
    memory = generator.prepare(seed=5, **{part: PARTS[part] for part in given})
    assert last(engine, "flags").tolist() == [[float(part in given) for part in ("image", "clip", "text")]]
    assert set(last(engine, "mask").ravel().tolist()) == {255 if "image" in given else 0}
    assert np.array_equal(last(engine, "image")[0], IMAGE if "image" in given else IMAGE * 0)
    assert np.array_equal(last(engine, "past")[0], CLIP if "clip" in given else CLIP * 0)
    vector = open_text_encoder(prompted_bundle, manifest).encode(TEXT)
    assert np.array_equal(last(engine, "words")[0], vector if "text" in given else vector * 0)
    assert np.array_equal(last(engine, "code")[0], normals(5, CODES, 0, prompted.CODE))
    is_made_up = not {"image", "clip"} & set(given)
    assert memory.seed == (5 if is_made_up else None)
    assert memory.text == (TEXT if "text" in given else None)
    assert set(memory.text_inputs) == ({"words"} if "text" in given else set())


def test_the_generators_own_seed_goes_with_every_prompt(manifest: Manifest) -> None:
    generator, engine = fake_generator(manifest, seed=8)
    for part in ("image", "clip"):
        generator.prepare(**{part: PARTS[part]})
        assert np.array_equal(last(engine, "code")[0], normals(8, CODES, 0, prompted.CODE))


def test_words_are_opened_once(prompted_bundle: Path, manifest: Manifest) -> None:
    opened: list[TextEncoder] = []

    def open_once() -> TextEncoder:
        opened.append(open_text_encoder(prompted_bundle, manifest))
        return opened[-1]

    generator, _ = fake_generator(manifest, open_text_encoder=open_once)
    generator.prepare(seed=1)
    assert opened == []
    generator.prepare(text="storm")
    generator.prepare(text="sea")
    assert len(opened) == 1


def test_a_given_prompt_is_shown(prompted_bundle: Path) -> None:
    ramp = np.stack([np.full((*SIZE, 3), level, np.uint8) for level in (20, 40, 60, 80)])
    ramp[:, :, :16] += 100
    with Generator.open(prompted_bundle, engine="onnxruntime", precision="fp32") as generator:
        generator.set_control("gain", 0)
        for prompt, expected in (({"clip": ramp}, ramp[3]), ({"image": ramp[0], "clip": ramp}, ramp[0])):
            generator.condition(**prompt)
            assert np.abs(next(generator).astype(int) - expected).max() <= 12  # the level moves all of it a little
        colours = set()
        for prompt in ({"text": "storm"}, {"text": "sea"}, {"text": "sea", "seed": 4}, {"seed": 4}):
            generator.condition(**prompt)
            colours.add(tuple(next(generator)[0, 0].tolist()))
        assert len(colours) == 4


@pytest.mark.parametrize(
    ("dropped", "given", "message"),
    [
        (
            ("text",),
            {"text": TEXT},
            "prompted takes no text: its condition graph has no input of the role text; "
            "give an image, a clip or a seed",
        ),
        (
            ("text", "clip"),
            {"clip": CLIP},
            "prompted takes no clip: its condition graph has no input of the role clip; give an image or a seed",
        ),
        (
            ("image", "text", "clip"),
            {"image": IMAGE},
            "prompted takes no image: its condition graph has no input of the role image; give a seed",
        ),
        (
            ("noise",),
            {"seed": 1},
            "prompted takes no seed for its scene: its condition graph has no input of the role noise; "
            "give an image, a clip or a text",
        ),
        (("noise",), {}, "prompted makes nothing without an image, a clip or a text: give one"),
        (("noise", "text", "clip"), {}, "prompted makes nothing without an image: give one"),
    ],
)
def test_unsupported_prompts_of_a_bundle_are_refused(
    manifest: Manifest, dropped: tuple[str, ...], given: dict[str, Any], message: str
) -> None:
    generator, engine = fake_generator(without(manifest, *dropped))
    for call in (generator.condition, generator.prepare, generator.check):
        with pytest.raises(ValueError, match=r"^prompted") as caught:
            call(**given)
        assert str(caught.value) == message
    assert engine.sessions[1].num_runs == 0


BAD: list[tuple[dict[str, Any], str]] = [
    ({"image": "nowhere.png"}, "there is no image file nowhere.png"),
    ({"image": IMAGE[..., 0]}, "an image array must be uint8"),
    ({"clip": "nowhere.mp4"}, "there is no clip file nowhere.mp4"),
    ({"clip": CLIP[..., 0]}, "a clip array must be uint8"),
    ({"text": ""}, "the text is empty"),
    ({"text": "storm " * 400}, "the text has 2400 characters"),
    ({"text": "orage"}, "no word of the text 'orage' is known"),
    ({"text": "storm", "seed": -1}, "a seed must be at least 0"),
    ({"image": IMAGE, "text": " "}, "the text is empty"),
]


def test_a_refused_prompt_does_not_change_frames(prompted_bundle: Path) -> None:
    def play(disturb: Callable[[Generator], None]) -> list[np.ndarray]:
        frames = []
        with Generator.open(prompted_bundle, engine="onnxruntime", precision="fp32", seed=3) as generator:
            generator.condition(text="calm sea")
            for _ in range(len(BAD) * 2):
                frames.append(next(generator).copy())
                disturb(generator)
        return frames

    pending = itertools.cycle(BAD)

    def refuse(generator: Generator) -> None:
        prompt, message = next(pending)
        for call in (generator.condition, generator.prepare, generator.check):
            with pytest.raises(ValueError, match=message) as caught:
                call(**prompt)
            assert "\n" not in str(caught.value)
        assert generator.text == "calm sea"

    assert np.array_equal(play(refuse), play(lambda generator: None))


def test_checking_a_prompt_runs_nothing(stage: tuple[Generator, FakeEngine]) -> None:
    generator, engine = stage
    generator.check(image=IMAGE, clip=CLIP, text=TEXT, seed=3)
    generator.check()
    assert engine.sessions[1].num_runs == 0
    assert generator.text is None


def test_the_text_is_that_of_the_latest_scene(stage: tuple[Generator, FakeEngine]) -> None:
    generator, _ = stage
    assert generator.text is None
    generator.condition(text=TEXT)
    assert generator.text == TEXT  # it waits
    next(generator)
    assert generator.text == TEXT  # it plays
    generator.condition(image=IMAGE)
    assert generator.text is None


def codes_of(engine: FakeEngine) -> list[tuple[float, ...]]:
    """Return the content codes that memories were made from."""
    return [tuple(value[0].tolist()) for _, value in engine.sessions[1].written("code")]


def expected_codes(seed: int, count: int) -> list[tuple[float, ...]]:
    """Return the content codes of a scene by the contract's formula, with a correlation of 0.6."""
    code = normals(seed, CODES, 0, prompted.CODE).astype(np.float64)
    codes = [code]
    for number in range(1, count):
        code = 0.6 * code + 0.8 * normals(seed, CODES, number, prompted.CODE)
        codes.append(code)
    return [tuple(code.astype(np.float32).tolist()) for code in codes]


def test_a_text_stays_while_its_scene_renews_itself(stage: tuple[Generator, FakeEngine]) -> None:
    generator, engine = stage
    generator.condition(text=TEXT, seed=9)
    for _ in range(40):
        next(generator)
    generator.close()
    words = [value for _, value in engine.sessions[1].written("words")]
    assert len(words) >= 4  # the first, and three that have begun to play
    assert all(np.array_equal(value, words[0]) for value in words)
    assert words[0].any()
    assert codes_of(engine)[:4] == expected_codes(9, 4)
    mixes = [float(value[0]) for _, value in engine.sessions[0].written("mix")]
    assert mixes[10:17] == [0, 0, 0.25, 0.5, 0.75, 1, 1]


@pytest.mark.parametrize("parts", [("image",), ("clip",), ("image", "text"), ("clip", "text")])
def test_a_scene_with_something_given_to_see_stays(stage: tuple[Generator, FakeEngine], parts: tuple[str, ...]) -> None:
    generator, engine = stage
    generator.condition(**{part: PARTS[part] for part in parts})
    for _ in range(40):
        next(generator)
    generator.close()
    assert engine.sessions[1].num_runs == 1


def test_a_reset_show_begins_with_the_same_text(prompted_bundle: Path) -> None:
    with Generator.open(prompted_bundle, engine="onnxruntime", seed=1) as generator:
        generator.condition(text="calm sea", seed=5)
        first = [frame.copy() for frame in itertools.islice(generator, 30)]
        generator.reset()
        assert np.array_equal(first, [frame.copy() for frame in itertools.islice(generator, 30)])
        generator.reset(seed=5)
        assert generator.text is None
        assert not np.array_equal(first[0], next(generator))
