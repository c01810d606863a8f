"""The generator of a show, opened again."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import BundleError
from streaming.arguments import parse
from streaming.control.controller import ShowController
from streaming.show.player import Player
from tests import tiny


def test_only_the_bundle_of_the_show_is_opened_again(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "tiny")
    options = parse([str(folder), "--engine", "onnxruntime", "--pixels", "rgb"])
    with Player(options, folder, ShowController(), lambda _: None) as player:
        before = player.generator
        player._reopen()
        again = player.generator
        assert again is not before
        tiny.build(folder, memories=False)
        with pytest.raises(BundleError, match="was changed during the show"):
            player._reopen()
        assert player.generator is again
