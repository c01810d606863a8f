"""A show that has begun, for the tests of the instrument."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import Generator
from streaming.control.controller import ShowController
from streaming.instrument.performer import Performer


@pytest.fixture
def generator(prompted_bundle: Path) -> Iterator[Generator]:
    """A small generator with the controls gain (0 to 2), drift (0 to 4) and seed."""
    with Generator.open(prompted_bundle, engine="onnxruntime", threads=1, seed=3) as generator:
        yield generator


@pytest.fixture
def controller(generator: Generator) -> Iterator[ShowController]:
    """Its controller."""
    controller = ShowController()
    controller.attach(generator, "seed 3")
    yield controller
    controller.close()


@pytest.fixture
def performer(controller: ShowController) -> Iterator[Performer]:
    """A performer that runs; its cross-fades are cuts."""
    performer = Performer(controller, 0.0)
    performer.start()
    yield performer
    performer.close()
