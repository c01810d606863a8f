"""What keeps a show alive when its machine is lost: something outside of it that knows where it is."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from runtime import EngineError
from streaming.show.position import ShowPosition

if TYPE_CHECKING:
    from streaming.control.controller import ShowController
    from streaming.output.pacing import Clock, Pacer
    from streaming.show.player import Player


class ShowKeeper(Protocol):
    """Keeps the position of one show; its methods are called by the show's thread.

    Attributes:
        position: where to go on from; None for a show that begins.
        every_s: seconds between two positions.
    """

    position: ShowPosition | None
    every_s: float

    def prepared(self, player: Player) -> None:
        """Return when frames may be sent; raises ValueError if they may not."""
        ...

    def keep(self, position: ShowPosition) -> None:
        """Keep a position; returns at once."""
        ...


class PositionTaker:
    """Takes the position of a show now and then; for the show's thread.

    Args:
        keeper: gets it.
        player: makes the frames.
        controller: of the show.
        pacer: of the show.
        clock: of the pacer.
    """

    def __init__(
        self, keeper: ShowKeeper, player: Player, controller: ShowController, pacer: Pacer, clock: Clock
    ) -> None:
        self._keeper, self._player, self._controller = keeper, player, controller
        self._pacer, self._clock = pacer, clock
        self._began_s = None if keeper.position is None else keeper.position.began_s
        self._next_s = clock.now()

    def update(self) -> None:
        """Take a position if it is time; called between two frames. None is taken while the engine fails."""
        now_s = self._clock.now()
        if now_s < self._next_s:
            return
        self._next_s = now_s + self._keeper.every_s
        with contextlib.suppress(EngineError, ValueError):  # making frames tells it, or shows the fallback picture
            self.take()

    def take(self) -> None:
        """Take a position now.

        Raises:
            EngineError: the engine failed.
            ValueError: the generator is closed.
        """
        if self._began_s is None:
            self._began_s = time.time() - (self._clock.now() - float(self._pacer.deadline(0)))
        generator, bundle = self._player.coming  # what fades in is there at once
        position = generator.position()
        if generator.has_live_input:  # it makes no frames for slots that were dropped
            position = replace(position, frame_index=self._pacer.next_slot)
        prompt, is_in_turn, cues = self._controller.kept()
        self._keeper.keep(
            ShowPosition(
                self._began_s,
                str(bundle),
                position,
                prompt,
                is_in_turn,
                self._controller.values(),
                cues,
            )
        )
