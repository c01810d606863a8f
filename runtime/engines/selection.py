"""Opens a bundle with the best engine, and with the next one if that cannot run it or fails later."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from runtime.bundle.reader import Bundle
from runtime.engines.engine import Session
from runtime.engines.int8 import faster_pairs
from runtime.engines.opening import ON_CPU, OpenedEngine, frame_output, open_sessions, open_step, opened_engine
from runtime.engines.settings import cache_folder, thread_count
from runtime.engines.table import EngineChoice, engine_choices, failed_pairs
from runtime.engines.timing import Candidate, SpeedRecord, compare_speeds, describe_speeds, fastest
from runtime.errors import EngineError

Sessions = tuple[Session, Session | None]
_MAX_BYTES = 2**29  # of a bundle; larger ones are not measured, as two engines at once would need too much memory


def open_engines(
    bundle: Bundle, engines: str, precision: str, *, pixels: str, threads: int | None, cache_dir: str | Path | None
) -> Iterator[OpenedEngine]:
    """Open a bundle with one engine after the other, each when the iterator is advanced.

    Args:
        bundle: the checked bundle.
        engines: a name in `runtime.engines.table.ENGINES`, "auto", or several names separated by commas, best first.
        precision: as in `choose_engine`.
        pixels: the frame output to keep.
        threads: CPU threads per frame; None for all cores.
        cache_dir: folder for compiled graphs; None for the default.

    Yields:
        The opened engine. Engines that cannot run here are skipped; the next engine's reason says why. "auto" yields
        one: the fastest that does not refuse the graph.

    Raises:
        BundleError: the precision is "int8" and the bundle has no such graph.
        EngineError: no engine is left; the message has all reasons.
        ValueError: a name or number is wrong.
    """
    names = [name.strip() for name in engines.split(",")]
    if len(names) > 1 and "auto" in names:
        raise ValueError('"auto" cannot be part of a list of engines: name the engines to try, best first')
    bundle.in_precision(precision)  # raises here if it has no such graph
    verified = bundle.manifest.verified
    failed, faster = failed_pairs(verified), faster_pairs(verified) if bundle.int8 is not None else ()
    opener = _Opener(bundle, pixels, threads, cache_dir)
    reasons: list[str] = []
    for name in names:
        try:
            choices = engine_choices(name, precision, failed, faster)
            choice, sessions = opener.fastest(choices) if name == "auto" else opener.first(choices)
        except EngineError as error:
            reasons.append(str(error))
            continue
        if reasons:
            choice = replace(choice, reason=f"{choice.reason} ({'; '.join(reasons)})")
        yield opened_engine(bundle, choice, sessions, pixels=pixels, threads=threads, cache_dir=cache_dir)
        reasons.clear()
    raise EngineError("; ".join(reasons) if reasons else "no other engine was named to go on with")


def next_engine(engines: Iterator[OpenedEngine], error: EngineError) -> OpenedEngine:
    """Return the next engine of `open_engines` after one has failed with an error; raises that if there is no other."""
    try:
        fallback = next(engines, None)
    except EngineError as another:
        raise EngineError(f"{error}; {another}") from error
    if fallback is None:
        raise error
    return fallback


def taken_over(before: str, error: EngineError, *, has_states: bool) -> str:
    """Return what another engine did after the one before it failed, and how the show goes on."""
    how = "continues where it was" if has_states else "restarts because its state is lost"
    return f"took over from {before} ({error}); the show {how}"


def keep_times(bundle: Bundle, times: Mapping[str, float]) -> None:
    """Keep times of an import, so that "auto" need not measure, unless it would compare others too.

    Args:
        bundle: the checked bundle.
        times: milliseconds per frame by engine and precision, with all threads.
    """
    verified = bundle.manifest.verified
    try:
        candidates = _comparable(list(engine_choices("auto", "auto", failed_pairs(verified))))
    except EngineError:  # no engine is left
        return
    found = {choice.label: times[choice.label] for choice in candidates if choice.label in times}
    if len(found) > 1 and len(found) == len(candidates):
        _record_of(bundle, candidates, None, None).store(found)


def _record_of(
    bundle: Bundle, candidates: list[EngineChoice], threads: int | None, cache_dir: str | Path | None
) -> SpeedRecord:
    """Return the record of what engines take for a bundle's frames on this machine; arguments as in `open_engines`."""
    frame, step = bundle.manifest.frame, bundle.manifest.step
    files = [step.file, *([step.int8] if step.int8 else [])]
    graphs = " ".join(bundle.manifest.files[file].sha256 for file in files)
    labels = [choice.label for choice in candidates]
    return SpeedRecord(cache_folder(cache_dir), f"{graphs} {frame.width}x{frame.height}", thread_count(threads), labels)


class _Opener:
    """Opens the graphs of one bundle; arguments as in `open_engines`."""

    def __init__(self, bundle: Bundle, pixels: str, threads: int | None, cache_dir: str | Path | None) -> None:
        self._bundle, self._pixels, self._threads, self._cache_dir = bundle, pixels, threads, cache_dir

    def first(self, choices: Iterator[EngineChoice]) -> tuple[EngineChoice, Sessions]:
        """Open the first of some engines that does not refuse the graphs; raises EngineError if there is none."""
        refusals: list[str] = []
        for choice in choices:
            try:
                sessions = self._open(choice)
            except EngineError as error:
                refusals.append(str(error))
                continue
            if refusals:
                choice = replace(choice, reason=f"{choice.reason} ({'; '.join(refusals)})")
            return choice, sessions
        raise EngineError("; ".join(dict.fromkeys(refusals)))

    def fastest(self, choices: Iterator[EngineChoice]) -> tuple[EngineChoice, Sessions]:
        """Open the fastest engine, as this machine's record says; make that record if it is missing."""
        found = list(choices)
        candidates = _comparable(found)
        if len(candidates) < 2:
            return self.first(iter(found))
        record = _record_of(self._bundle, candidates, self._threads, self._cache_dir)
        times = record.load()
        if times:
            return self.first(iter(_ordered(found, candidates, times)))
        start = time.perf_counter()
        choice, sessions = self.first(iter(found))
        open_s = time.perf_counter() - start
        is_comparable = choice.label in [item.label for item in candidates]
        if times is not None or self._is_too_large() or not is_comparable or not record.begin():
            return choice, sessions
        try:
            times = self._measure(choice, sessions[0], candidates, open_s)
            record.store(times)
        except BaseException as error:  # Ctrl-C too: the next start measures again
            record.discard()
            _close(sessions)
            if not isinstance(error, EngineError):
                raise
            return self._without(choice, found, error)
        ordered = _ordered(found, candidates, times)
        if ordered[0].label == choice.label:
            return replace(choice, reason=ordered[0].reason), sessions
        _close(sessions)
        return self.first(iter(ordered))

    def _is_too_large(self) -> bool:
        return sum(file.size_bytes for file in self._bundle.manifest.files.values()) > _MAX_BYTES

    def _without(
        self, failed: EngineChoice, choices: list[EngineChoice], error: EngineError
    ) -> tuple[EngineChoice, Sessions]:
        """Open the fastest of the choices but one that failed; raises EngineError with its reason if none is left."""
        rest = [choice for choice in choices if choice.label != failed.label]
        if not rest:
            raise error
        try:
            choice, sessions = self.fastest(iter(rest))
        except EngineError as another:
            raise EngineError(f"{error}; {another}") from error
        return replace(choice, reason=f"{choice.reason} ({error})"), sessions

    def _measure(
        self, choice: EngineChoice, step: Session, candidates: list[EngineChoice], open_s: float
    ) -> dict[str, float]:
        """Return milliseconds per frame by engine and precision; bundles of ours start within a second more."""
        frame = frame_output(self._bundle.manifest.step, self._pixels)

        def open_other(other: EngineChoice) -> Session:
            bundle = self._bundle.in_precision(other.precision)
            return open_step(
                bundle, other.engine, other.precision, frame, threads=self._threads, cache_dir=self._cache_dir
            )

        others = [
            Candidate(other.label, partial(open_other, other), other.engine.name == choice.engine.name)
            for other in candidates
            if other.label != choice.label
        ]
        is_ours = self._bundle.work is not None
        return compare_speeds(choice.label, step, others, open_s=open_s, is_short=is_ours)

    def _open(self, choice: EngineChoice) -> Sessions:
        return open_sessions(
            self._bundle,
            choice.engine,
            choice.precision,
            pixels=self._pixels,
            threads=self._threads,
            cache_dir=self._cache_dir,
        )


def _comparable(choices: list[EngineChoice]) -> list[EngineChoice]:
    """Return the choices between which the speed decides; none if a GPU runs the bundle.

    What an engine lists after "fp32" is neither faster nor closer to the original.
    """
    if choices[0].engine.name not in ON_CPU:
        return []
    kept: list[EngineChoice] = []
    for choice in choices:
        precisions = list(choice.engine.precisions())
        is_after = choice.precision in precisions[precisions.index("fp32") + 1 :] if "fp32" in precisions else False
        if choice.engine.name in ON_CPU and not is_after:
            kept.append(choice)
    return kept


def _ordered(
    choices: list[EngineChoice], candidates: list[EngineChoice], times: dict[str, float]
) -> list[EngineChoice]:
    """Return the choices with the fastest of the candidates first, which says what was measured."""
    measured = {choice.label: times[choice.label] for choice in candidates if choice.label in times}
    best = fastest(measured)
    if best is None:
        return choices
    first = next(choice for choice in candidates if choice.label == best)
    notes = f" ({'; '.join(first.skipped)})" if first.skipped else ""
    told = f"{first.engine.name} in {first.precision}{notes}, the fastest here: {describe_speeds(measured)}"
    return [replace(first, reason=told), *(choice for choice in choices if choice.label != best)]


def _close(sessions: Sessions) -> None:
    for session in sessions:
        if session is not None:
            session.close()
