"""A show from a bundle to its sinks: `stream` is the Python API, and `python -m streaming` uses the same code.

from streaming import stream
stream("bundles/landscape", to=["clip.mp4"], seconds=10)
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streaming.arguments import DEFAULT_BUNDLE, DEFAULT_SINK, parse
from streaming.circle import refuse_circle
from streaming.inputs.page_camera import PAGE
from streaming.live.encoders import ENCODERS, choose
from streaming.output.fan_out import FanOut, SinkStats
from streaming.output.frame_repeater import FrameRepeater
from streaming.output.pacing import Pacer, SystemClock
from streaming.process.interruption import Interruption, process_start_s
from streaming.shipped import find_shipped
from streaming.show.record import ShowRecord, read_others
from streaming.show.show import Show, ShowEnd
from streaming.show.stats import ShowStats
from streaming.show.status import StatusLine, to_summary
from streaming.sinks.sink import Sink, StreamFormat
from streaming.sinks.table import KINDS, make_sinks
from streaming.sound.opening import make_sound

if TYPE_CHECKING:
    from streaming.show.keeping import ShowKeeper

_INCOMPLETE = 3  # exit status: everything is recorded, and not all of it is signed or in the ledger


def stream(
    bundle: str | Path, to: Sequence[str | Path | Sink] = (DEFAULT_SINK,), seconds: float | None = None, **options: Any
) -> int:
    """Stream a bundle to sinks, and return when the show has ended.

    On the main thread, Ctrl-C and SIGTERM end the show as they end `python -m streaming`.

    Args:
        bundle: folder of the bundle.
        to: sinks as behind `--to`, or instances of `Sink`; at least one.
        seconds: length of the show; None for no end.
        options: the other options of `python -m streaming`, with underscores: text, image, clip, past, seed, fps,
            preset, engine, ... `control` is a mapping of names to values, `cue` a list of strings. None leaves one out.

    Returns:
        0, 1 if no sink is left or none has received a frame, or 3 if a recording could not be signed or the ledger not
        be written.

    Raises:
        ValueError: an option is unknown or has a bad value.
        BundleError: the bundle is missing or damaged.
        EngineError: no engine can run the bundle, or it failed during the show.
        SinkError: a sink cannot be opened.
    """
    if isinstance(to, (str, Path, Sink)) or not to:
        raise ValueError(f'to must be a list of sinks with at least one, e.g. ["clip.mp4"], got {to!r}')
    specs = [f"--to={sink}" for sink in to if not isinstance(sink, Sink)]
    parsed = parse([*specs, *to_arguments({**options, "seconds": seconds}), "--", str(bundle)])
    made = iter(make_sinks(parsed.to or [], parsed.pixels))
    sinks = [sink if isinstance(sink, Sink) else next(made) for sink in to]
    interruption = Interruption()
    is_main = threading.current_thread() is threading.main_thread()
    with interruption if is_main else nullcontext():
        return run_show(parsed, interruption, sinks)


def run_show(
    options: argparse.Namespace,
    interruption: Interruption,
    sinks: Sequence[Sink] = (),
    keeper: ShowKeeper | None = None,
) -> int:
    """Run a show from its first frame to its summary.

    Args:
        options: as `streaming.arguments.parse` returns them.
        interruption: ends the show.
        sinks: where frames go; empty for those that the options name.
        keeper: keeps the show's position, so that another process can go on with it; None for nobody.

    Returns:
        The exit status: 0, 1, or 3 if a recording could not be signed or the ledger not be written.

    Raises:
        ValueError, BundleError, EngineError, SinkError: as `stream`.
    """
    from runtime import EngineError
    from runtime.bundle.reader import read_manifest
    from runtime.chaining.checks import check_links, describe_rates
    from runtime.pixels.assemble import frame_size
    from streaming.painting.opening import check_painting

    refuse_circle(options.input, options.to or ([] if sinks else [DEFAULT_SINK]))
    sinks = sinks or make_sinks(options.to or [DEFAULT_SINK], options.pixels)
    if options.input == PAGE and not any(base.__name__ == "PageSink" for sink in sinks for base in type(sink).__mro__):
        raise ValueError(f"--input page is the camera of a browser on the page: add --to {DEFAULT_SINK}")
    bundle = find_shipped(Path(DEFAULT_BUNDLE)) if options.bundle is None else Path(options.bundle)
    manifests = [read_manifest(path) for path in (bundle, *(find_shipped(Path(then)) for then in options.then))]
    check_links(manifests, options.size)
    manifest = manifests[0]
    check_painting(options, manifest)
    width, height = frame_size(manifests[-1], options.size)
    fps = options.fps or manifest.frame.fps
    if keeper is not None and keeper.position is not None:
        options = keeper.position.applied_to(options, fps)
    clock = SystemClock()
    fan_out = FanOut(list(sinks))
    pacer = Pacer(clock, fps)
    show = Show(fan_out, pacer, clock, FrameRepeater(fan_out, pacer, clock))
    status = StatusLine(sys.stderr, clock, as_json=options.log == "json")
    from streaming.control.controller import ShowController
    from streaming.instrument.instrument import Instrument
    from streaming.show.mark import show_mark, to_invitation, to_text

    mark = show_mark(no_mark=options.no_mark, payload=options.mark_payload)
    show.mark = to_text(mark)
    controller, preset = ShowController(), "" if options.preset == "none" else options.preset
    instrument = Instrument(options, controller, show.latest)
    encoding = {kind.cls for kind in KINDS if kind.encodes}
    needs_encoder = any(type(sink).__name__ in encoding for sink in sinks)
    encoder = choose(options.encoder, width, height, fps) if needs_encoder else ""
    others = read_others(options, manifest)
    record = ShowRecord(
        options, manifests, others, (width, height), fps, status.say, payload=mark, has_no_mark=mark is None
    )
    controller.on_prompt.append(record.prompt)
    sound = make_sound(options, fps)
    stream_format = StreamFormat(
        manifest.name,
        width,
        height,
        fps,
        options.pixels,
        lambda: {**instrument.stats(), **controller.painter_stats()},
        controller,
        preset,
        encoder,
        sound,
        record.chain,
    )
    try:
        fan_out.open(stream_format)
        lines = instrument.open()
        from streaming.show.keeping import PositionTaker  # while the sinks start on their threads
        from streaming.show.player import Player
        from streaming.show.position import next_slot

        levels = None if sound is None else sound.levels
        with Player(options, bundle, controller, status.say, sound, mark, keeper) as player, instrument.playing(levels):
            frames = player.frames(pacer, clock)
            positions = None if keeper is None else PositionTaker(keeper, player, controller, pacer, clock)
            if sound is not None:
                sound.wait_ready()
            fan_out.wait_ready()

            def refresh(stats: ShowStats) -> None:
                show.engine, show.link_ms, show.repeated = player.engine, player.link_ms, player.repeated
                record.frame(pacer.next_slot - 1)
                status.refresh(stats)
                if positions is not None:
                    positions.update()

            show.engine = player.engine
            status.say(f"{manifest.name}: {width} x {height}, {float(fps):g} fps, {player.engine}")
            if options.fps is None and (rates := describe_rates(manifests)):
                status.say(rates)
            if options.verbose:
                status.say(player.generator.engine_reason)
            status.say(f"on air: {', '.join(sink.name for sink in sinks)}. Ctrl-C ends the show.")
            status.say(to_invitation(mark, width, height))
            if sound is not None:
                status.say(f"sound: {sound.name}")
            if encoder:
                status.say(f"H.264 by {ENCODERS[encoder].title}")
            for invitation in (*lines, *filter(None, (sink.invitation for sink in sinks))):
                status.say(invitation)
            record.begin(sinks)
            if keeper is not None:
                keeper.prepared(player)
                if keeper.position is not None:
                    player.go_on(next_slot(pacer, clock, keeper.position.began_s))
            interruption.is_on_air = True
            num_slots = None if options.seconds is None else ceil(options.seconds * fps)
            try:
                end = show.run(frames, num_slots=num_slots, is_stopped=lambda: interruption.is_set, on_refresh=refresh)
                record.frame(pacer.next_slot - 1)
                record.end(end.value)
                if positions is not None and show.first_frame_s is not None:
                    with suppress(EngineError, ValueError):  # the one before it is kept
                        positions.take()
            finally:
                hung = fan_out.close(keep=True)
    finally:
        instrument.close()
        fan_out.close(keep=False)  # does nothing if the show has closed it
        if sound is not None:
            sound.close()
        record.close(sys.exc_info()[0])
    stats = show.stats(of_all=True)
    for name in hung:
        status.say(f"sink {name} did not close in time and was abandoned")
    first_s = None if show.first_frame_s is None else show.first_frame_s - process_start_s()
    about = to_summary(
        stats,
        reason=end.value,
        engine=show.engine,
        first_frame_s=first_s,
        link_ms=show.link_ms,
        mark=show.mark,
        repeated=show.repeated,
    )
    status.say(about)
    return _to_status(end, stats.sinks, stats.frames) or (0 if record.is_complete else _INCOMPLETE)


def to_arguments(options: Mapping[str, Any]) -> list[str]:
    """Return options as `streaming.arguments.parse` reads them, so that both are checked by the same code."""
    arguments = []
    for name, value in options.items():
        if name in ("help", "to", "bundle"):
            raise ValueError(f"stream takes no option {name!r}")
        values = [f"{key}={item}" for key, item in value.items()] if isinstance(value, Mapping) else value
        for item in values if isinstance(values, (list, tuple)) else [values]:
            option = f"--{name.replace('_', '-')}"
            arguments += [] if item is None or item is False else [option if item is True else f"{option}={item}"]
    return arguments


def _to_status(end: ShowEnd, sinks: Sequence[SinkStats], frames: int) -> int:
    if end is ShowEnd.READER_GONE:
        return 0
    is_vain = frames > 0 and all(sink.is_dead or not sink.written for sink in sinks)
    is_dead = end is ShowEnd.ALL_DEAD and any(sink.is_dead for sink in sinks)  # not all were closed by the user
    return 1 if is_vain or is_dead else 0
