"""A checked bundle and names of engines -> everything that a generator runs, and what it runs if that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.bundle.reader import Bundle
from runtime.engines.engine import Session
from runtime.engines.sessions import open_blind, open_condition, open_sessions
from runtime.engines.table import EngineChoice, choose_engine, failed_pairs
from runtime.errors import EngineError


@dataclass(frozen=True)
class OpenedEngine:
    """What one engine opened of a bundle.

    Args:
        choice: the engine, its precision, and why.
        step: session of the step graph with the frame that is wanted.
        condition: session of the condition graph, or None where the bundle has none.
        open_blind: opens a session of the step graph without frames.
        open_second: opens another session of the condition graph.
    """

    choice: EngineChoice
    step: Session
    condition: Session | None
    open_blind: Callable[[], Session]
    open_second: Callable[[], Session]


def open_engines(
    bundle: Bundle,
    engines: str,
    precision: str,
    *,
    pixels: str,
    threads: int | None,
    cache_dir: str | Path | None,
) -> Iterator[OpenedEngine]:
    """Open a bundle with one engine after the other, the next whenever it is asked for.

    Args:
        bundle: the checked bundle.
        engines: a name of `runtime.engines.table.ENGINES`, "auto", or several names separated by commas, best first.
        precision: as `choose_engine` takes it.
        pixels: the frame output that is wanted.
        threads: CPU threads for a frame; None for every core.
        cache_dir: folder for compiled graphs; None for the default.

    Yields:
        What an engine opened; those that cannot run here are passed over, and the reason of the next tells why.

    Raises:
        EngineError: no engine is left; all reasons.
        ValueError: a name or number is wrong.
    """
    names = [name.strip() for name in engines.split(",")]
    for name in names:  # a wrong name is told before anything is opened
        if len(names) > 1 and name == "auto":
            raise ValueError('"auto" is no part of a list of engines: name those to be tried, best first')
    failed = failed_pairs(bundle.manifest.verified)
    reasons: list[str] = []
    for name in names:
        try:
            choice = choose_engine(name, precision, failed)
            step, condition = open_sessions(
                bundle, choice.engine, choice.precision, pixels=pixels, threads=threads, cache_dir=cache_dir
            )
        except EngineError as error:
            reasons.append(str(error))
            continue
        yield _opened(bundle, _after(choice, reasons), step, condition, threads, cache_dir)
        reasons.clear()
    raise EngineError("; ".join(reasons) if reasons else "no other engine was named to go on with")


def _opened(
    bundle: Bundle,
    choice: EngineChoice,
    step: Session,
    condition: Session | None,
    threads: int | None,
    cache_dir: str | Path | None,
) -> OpenedEngine:
    def blind() -> Session:
        return open_blind(bundle, choice.engine, choice.precision, threads=threads, cache_dir=cache_dir)

    def second() -> Session:
        return open_condition(bundle, choice.engine, choice.precision, threads=threads, cache_dir=cache_dir)

    return OpenedEngine(choice, step, condition, blind, second)


def _after(choice: EngineChoice, reasons: Sequence[str]) -> EngineChoice:
    if not reasons:
        return choice
    return EngineChoice(choice.engine, choice.precision, f"{choice.reason} ({'; '.join(reasons)})")
