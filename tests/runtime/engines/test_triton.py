"""Frames of a server, through Triton's gRPC protocol and a stand-in for the server: not yet run on a Triton server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from export.triton.repository import RepositoryOptions, write_repository
from runtime import EngineError, Generator
from runtime.engines import triton_connection
from runtime.engines.table import choose_engine, open_engine
from tests import moving, tiny
from tests.runtime.clips.clip_of_waves import waves
from tests.triton_server import TritonServer

pytestmark = pytest.mark.live
FRAMES = 60
PAYLOAD = 0x123456789ABC


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle of each schema, and one with a live input; their models are beside them."""
    folder = tmp_path_factory.mktemp("triton")
    bundles = {
        "tiny": tiny.build(folder / "tiny"),
        "moving": moving.build(folder / "moving"),
        "live": tiny.build(folder / "live", memories=False, live=True),
    }
    for name, bundle in bundles.items():
        write_repository(bundle, folder / f"{name}-models", RepositoryOptions(max_sequences=2, name=name))
    return bundles


@pytest.fixture
def serve(schemas: dict[str, Path]) -> Iterator[Callable[..., TritonServer]]:
    """Start a server of a bundle's models, which ends with the test."""
    servers: list[TritonServer] = []

    def start(name: str, port: int = 0) -> TritonServer:
        bundle = schemas[name]
        servers.append(TritonServer(bundle.with_name(f"{bundle.name}-models"), port=port))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def show(bundle: Path, engine: str, pixels: str, control: str) -> list[np.ndarray]:
    """Return the frames of a show in which the scene and a control change, with a cross-fade and a cut."""
    frames = []
    with Generator.open(bundle, engine=engine, pixels=pixels, mark=PAYLOAD) as generator:
        ahead = int(engine.startswith("grpc://"))  # what is changed now is seen one frame later
        generator.condition(seed=3)
        for index in range(FRAMES):
            if index == 10 - ahead:
                generator.condition(seed=5, dissolve_s=0.5)
            if index == 35 - ahead:
                generator.set_control(control, 3.0)
            if index == 40 - ahead:
                generator.condition(seed=9)
            frames.append(next(generator).copy())
    return frames


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
@pytest.mark.parametrize(("name", "control"), [("tiny", "sway"), ("moving", "x_a")])
def test_frames_of_a_server_are_those_of_this_machine(
    schemas: dict[str, Path], serve: Callable[..., TritonServer], name: str, control: str, pixels: str
) -> None:
    server = serve(name)
    engine = f"grpc://{server.url}/{name}"
    here, there = (show(schemas[name], one, pixels, control) for one in ("onnxruntime", engine))
    np.testing.assert_array_equal(here, there)
    assert len({frame.tobytes() for frame in there}) > 10
    step = server.models[f"{name}-step-{pixels}"]
    assert not step.sequences, "the sequence ended with the show"


def test_what_did_not_change_is_not_sent(schemas: dict[str, Path], serve: Callable[..., TritonServer]) -> None:
    server = serve("moving")
    with Generator.open(schemas["moving"], engine=f"grpc://{server.url}", mark=PAYLOAD) as generator:
        generator.condition(image=moving.picture_of(128, 72))
        for _ in range(12):
            next(generator)
        before = server.num_bytes
        for _ in range(10):
            next(generator)
        assert (server.num_bytes - before) / 10 < 1000
        picture = 3 * (72 + 16 + 1) * (128 + 16 + 1)
        generator.condition(image=moving.picture_of(128, 72, seed=1), dissolve_s=0.2)
        before = server.num_bytes
        for _ in range(10):
            next(generator)
        assert picture < server.num_bytes - before < 3.5 * picture, "the new picture, and what fades from the old one"


def test_two_shows_at_once_do_not_mix(schemas: dict[str, Path], serve: Callable[..., TritonServer]) -> None:
    server = serve("tiny")
    engine = f"grpc://{server.url}"
    alone = []
    for seed in (1, 2):
        with Generator.open(schemas["tiny"], engine="onnxruntime", seed=seed) as generator:
            alone.append([next(generator).copy() for _ in range(20)])
    with (
        Generator.open(schemas["tiny"], engine=engine, seed=1) as one,
        Generator.open(schemas["tiny"], engine=engine, seed=2) as two,
    ):
        both = [(next(one).copy(), next(two).copy()) for _ in range(20)]
        assert len(server.models["tiny-step-rgb"].sequences) == 2
    np.testing.assert_array_equal([pair[0] for pair in both], alone[0])
    np.testing.assert_array_equal([pair[1] for pair in both], alone[1])
    assert not server.models["tiny-step-rgb"].sequences


def test_reset_and_skip_are_as_on_this_machine(schemas: dict[str, Path], serve: Callable[..., TritonServer]) -> None:
    results = []
    for engine in ("onnxruntime", f"grpc://{serve('tiny').url}"):
        with Generator.open(schemas["tiny"], engine=engine, seed=4) as generator:
            first = [next(generator).copy() for _ in range(5)]
            generator.skip(3)
            first.append(next(generator).copy())
            generator.reset()
            results.append((first, [next(generator).copy() for _ in range(5)]))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    np.testing.assert_array_equal(results[1][1], results[1][0][:5])


def test_live_frames_are_not_delayed(schemas: dict[str, Path], serve: Callable[..., TritonServer]) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (8, 48, 64, 3), np.uint8)
    results = []
    for engine in ("onnxruntime", f"grpc://{serve('live').url}/live"):
        with Generator.open(schemas["live"], engine=engine) as generator:
            frames = []
            for picture in pictures:
                generator.feed_live(picture)
                frames.append(next(generator).copy())
            results.append(frames)
    np.testing.assert_array_equal(results[0], results[1])


def test_clips_are_played_here(schemas: dict[str, Path], serve: Callable[..., TritonServer]) -> None:
    results = []
    for engine in ("onnxruntime", f"grpc://{serve('moving').url}"):
        with Generator.open(schemas["moving"], engine=engine, seed=2, mark=PAYLOAD) as generator:
            generator.condition(image=moving.picture_of(128, 72))
            frames = [next(generator).copy() for _ in range(3)]
            generator.condition(clip=waves(40), dissolve_s=0.2)
            results.append([*frames, *(next(generator).copy() for _ in range(20))])
    here, there = results
    np.testing.assert_array_equal(there[:3], here[:3])
    np.testing.assert_array_equal(there[3], here[2])  # it was asked for before the change
    # The clip's stage runs in OpenVINO beside a server, which rounds some pixels to the next value.
    np.testing.assert_allclose(np.array(there[4:], int), np.array(here[3:-1], int), atol=1)


def test_a_server_that_comes_back_begins_again_from_zeros(
    schemas: dict[str, Path], serve: Callable[..., TritonServer]
) -> None:
    server, said = serve("tiny"), []
    with Generator.open(schemas["tiny"], engine=f"grpc://{server.url}", seed=1) as generator:
        generator.on_fall_back = said.append
        before = [next(generator).copy() for _ in range(10)]
        server.kill()
        back = threading.Thread(target=lambda: servers.append(serve("tiny", server.port)))
        servers: list[TritonServer] = []
        back.start()
        after = [next(generator).copy() for _ in range(10)]
        back.join()
    assert [int(frame[0, 0, 0]) for frame in before] == list(range(10)), "the clock of the state"
    restart = next(index for index, frame in enumerate(after) if frame[0, 0, 0] == 0)
    assert restart <= 1, "frame 10 had been asked for and may have come"
    assert [int(frame[0, 0, 0]) for frame in after[restart:]] == list(range(10 - restart))
    assert len(said) == 1
    assert said[0].startswith(f"the Triton server at {server.url} was lost (")
    assert said[0].endswith("and is back: its state is lost, the motion begins again from zeros")
    assert not servers[0].models["tiny-step-rgb"].sequences


def test_a_sequence_that_the_server_has_ended_begins_again(
    schemas: dict[str, Path], serve: Callable[..., TritonServer]
) -> None:
    """As Triton does with one that is idle for too long."""
    server, said = serve("tiny"), []
    with Generator.open(schemas["tiny"], engine=f"grpc://{server.url}") as generator:
        generator.on_fall_back = said.append
        for _ in range(5):
            next(generator)
        step = server.models["tiny-step-rgb"]
        with step.lock:
            step.sequences.clear()
        frames = [next(generator) for _ in range(5)]
    assert 0 in [int(frame[0, 0, 0]) for frame in frames]
    assert len(said) == 1
    assert "was lost (it had ended the sequence) and is back" in said[0]


def test_another_engine_takes_over_from_a_server_that_stays_away(
    schemas: dict[str, Path], serve: Callable[..., TritonServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_connection, "RECONNECT_S", 0.0)
    server, said = serve("moving"), []
    picture = moving.picture_of(128, 72)
    with Generator.open(schemas["moving"], engine=f"grpc://{server.url},onnxruntime") as generator:
        generator.on_fall_back = said.append
        generator.condition(image=picture)
        for _ in range(12):
            next(generator)
        server.kill()
        frames = [next(generator).copy() for _ in range(3)]
        assert generator.engine == "onnxruntime"
    np.testing.assert_array_equal(frames[-1], picture, "the picture was written to the other engine")
    assert len(said) == 1
    assert "did not come back in 0 s" in said[0]
    assert "restarts because its state is lost" in said[0]


def test_a_server_that_stays_away_ends_the_show_with_one_sentence(
    schemas: dict[str, Path], serve: Callable[..., TritonServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_connection, "RECONNECT_S", 0.0)
    server = serve("tiny")
    with Generator.open(schemas["tiny"], engine=f"grpc://{server.url}") as generator:
        next(generator)
        server.kill()
        with pytest.raises(EngineError, match=r"the Triton server at .* was lost .* did not come back in 0 s"):
            generator.skip(3)


def test_a_server_that_does_not_answer_is_an_error(
    schemas: dict[str, Path], serve: Callable[..., TritonServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve("tiny")
    with Generator.open(schemas["tiny"], engine=f"grpc://{server.url}") as generator:
        next(generator)
        next(generator)
        receive = triton_connection.Connection.receive
        monkeypatch.setattr(
            triton_connection.Connection, "receive", lambda self, timeout_s=0.01: receive(self, timeout_s)
        )
        with server.models["tiny-step-rgb"].lock, pytest.raises(EngineError, match=r"did not answer for 0\.01 s"):
            generator.skip(3)


def test_a_refused_request_is_an_error(schemas: dict[str, Path], serve: Callable[..., TritonServer]) -> None:
    server = serve("tiny")
    engine = f"grpc://{server.url}"
    with (
        Generator.open(schemas["tiny"], engine=engine) as one,
        Generator.open(schemas["tiny"], engine=engine) as two,
        Generator.open(schemas["tiny"], engine=engine) as three,
    ):
        next(one), next(two)
        with pytest.raises(EngineError, match="failed: the stand-in has no backlog: more sequences than max"):
            next(three)


@pytest.mark.parametrize(
    ("options", "name", "expected"),
    [
        (
            {"size": (64, 36)},
            "moving",
            r"makes pixel_stage.rgb 1x72x128x3, expected pixel_stage.rgb 1x36x64x3: use its",
        ),
        ({}, "other", r'the Triton server at .* has no model "other-step-rgb" \(it is not ready'),
    ],
)
def test_a_model_of_another_size_or_name_is_one_sentence(
    schemas: dict[str, Path],
    serve: Callable[..., TritonServer],
    options: dict[str, tuple[int, int]],
    name: str,
    expected: str,
) -> None:
    server = serve("moving")
    with pytest.raises(EngineError, match=expected):
        Generator.open(schemas["moving"], engine=f"grpc://{server.url}/{name}", **options)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("everframe_graph_sha256", "ab" * 32, "was exported from another version of the bundle moving"),
        ("everframe_interface", "0", r"has version 0 of the interface, this everframe has 1: export it again"),
        ("everframe_interface", None, "was not written by python -m export triton"),
    ],
)
def test_a_model_of_another_version_is_one_sentence(
    schemas: dict[str, Path], serve: Callable[..., TritonServer], key: str, value: str | None, expected: str
) -> None:
    server = serve("moving")
    parameters = server.models["moving-step-rgb"].config.parameters
    if value is None:
        del parameters[key]
    else:
        parameters[key].string_value = value
    with pytest.raises(EngineError, match=expected):
        Generator.open(schemas["moving"], engine=f"grpc://{server.url}")


def test_a_model_with_other_inputs_is_one_sentence(
    schemas: dict[str, Path], serve: Callable[..., TritonServer]
) -> None:
    server = serve("moving")
    del server.models["moving-step-rgb"].config.input[0]
    with pytest.raises(EngineError, match=r"has other inputs than this bundle \(set.a_free\): export it again"):
        Generator.open(schemas["moving"], engine=f"grpc://{server.url}")


def test_no_server_is_one_sentence_and_the_next_engine_runs(schemas: dict[str, Path]) -> None:
    with TritonServer(schemas["tiny"].with_name("tiny-models")) as server:
        url = server.url
    with pytest.raises(EngineError, match=rf"no Triton server answers at {url} \(connection refused or lost\): start"):
        choose_engine(f"grpc://{url}")
    with Generator.open(schemas["tiny"], engine=f"grpc://{url},onnxruntime") as generator:
        assert generator.engine == "onnxruntime"
        assert "no Triton server answers" in generator.engine_reason


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_connection, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"need the extra: pip install everframe\[triton\]"):
        choose_engine("grpc://localhost:8001")


@pytest.mark.parametrize(
    "address", ["grpc://", "grpc://host", "grpc://host:0", "grpc://host:99999", "grpc://u:p@host:1", "grpc://h:1/A B"]
)
def test_addresses_are_checked(address: str) -> None:
    with pytest.raises(ValueError, match=r"a Triton server is named grpc://HOST:PORT or grpc://HOST:PORT/NAME, got"):
        open_engine(address)


def test_addresses_of_hosts_and_of_numbers_are_taken() -> None:
    for address in ("grpc://gpu.example.org:8001", "grpc://[::1]:8001/landscape-720p", "grpc://10.0.0.1:8001/"):
        assert open_engine(address).name == address
