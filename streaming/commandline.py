"""The command line: `python -m streaming [BUNDLE] --to SINK`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from math import ceil
from pathlib import Path

from streaming.arguments import DEFAULT_BUNDLE, DEFAULT_SINK, parse
from streaming.errors import SinkError, explain
from streaming.live.encoders import ENCODERS, choose
from streaming.output.fan_out import FanOut, SinkStats
from streaming.output.frame_repeater import FrameRepeater
from streaming.output.pacing import Pacer, SystemClock
from streaming.process.interruption import Interruption, process_start_s
from streaming.show.show import Show, ShowEnd
from streaming.show.stats import ShowStats
from streaming.show.status import StatusLine, to_summary
from streaming.sinks.sink import StreamFormat
from streaming.sinks.table import encodes, make_sinks


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments; None for the process's own.

    Returns:
        The exit status: see the help.
    """
    try:
        options = parse(argv)
    except ValueError as error:
        return _refuse(error)
    try:
        from runtime import BundleError, EngineError  # not before --help, which should not wait for it
    except (ImportError, MemoryError) as error:
        return _refuse(error)

    interruption = Interruption()
    try:
        with interruption:
            return _run(options, interruption)
    except (SinkError, BundleError, EngineError, ValueError, ImportError, MemoryError, OSError) as error:
        return _refuse(error)
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        return _refuse(error)
    except KeyboardInterrupt:
        if interruption.is_on_air:
            print("left at once; unfinished recordings end in .partial", file=sys.stderr)
            return 130
        print("stopped before the first frame", file=sys.stderr)
        return 0


def _run(options: argparse.Namespace, interruption: Interruption) -> int:
    from runtime.bundle.reader import read_manifest

    sinks = make_sinks(options.to or [DEFAULT_SINK], options.pixels)
    bundle = _find_bundle(options.bundle)
    manifest = read_manifest(bundle)
    fps = options.fps or manifest.frame.fps
    clock = SystemClock()
    fan_out = FanOut(sinks)
    pacer = Pacer(clock, fps)
    show = Show(fan_out, pacer, clock, FrameRepeater(fan_out, pacer, clock))
    status = StatusLine(sys.stderr, clock, as_json=options.log == "json")
    from streaming.control.controller import ShowController

    desk, preset = ShowController(), "" if options.preset == "none" else options.preset
    width, height = manifest.frame.width, manifest.frame.height
    encoder = _choose_encoder(options, width, height, fps)
    feed = StreamFormat(manifest.name, width, height, fps, options.pixels, show.latest, desk, preset, encoder)
    with ExitStack() as stack:
        stack.callback(desk.close)
        fan_out.open(feed)
        stack.callback(fan_out.close, keep=False)  # does nothing once the show has closed it

        from streaming.show.player import Player  # while the sinks start on their threads

        player = stack.enter_context(Player(options, bundle, desk, status.say))
        frames = player.frames(pacer, clock)
        fan_out.wait_ready()

        def refresh(figures: ShowStats) -> None:
            show.engine = player.engine
            status.refresh(figures)

        show.engine = player.engine
        reason = player.generator.engine_reason
        status.say(f"{feed.title}, {feed.width} x {feed.height}, {float(fps):g} fps. {reason}")
        status.say(f"on air: {', '.join(sink.name for sink in sinks)}. Ctrl-C ends the show.")
        if encoder:
            status.say(f"H.264 by {ENCODERS[encoder].title}")
        for invitation in filter(None, (sink.invitation for sink in sinks)):
            status.say(invitation)
        interruption.is_on_air = True
        num_slots = None if options.seconds is None else ceil(options.seconds * fps)
        try:
            end = show.run(
                frames,
                num_slots=num_slots,
                is_stopped=lambda: interruption.is_set,
                on_refresh=refresh,
            )
        finally:
            hung = fan_out.close(keep=True)
    figures = show.figures(of_all=True)
    for name in hung:
        status.say(f"sink {name} did not close in time and was left to itself")
    first_s = None if show.first_frame_s is None else show.first_frame_s - process_start_s()
    status.say(to_summary(figures, reason=end.value, engine=show.engine, first_frame_s=first_s))
    return _to_status(end, figures.sinks, figures.frames)


def _choose_encoder(options: argparse.Namespace, width: int, height: int, fps: Fraction) -> str:
    """Return the name of the encoder, or "" if no sink encodes."""
    if not any(encodes(spec) for spec in options.to or [DEFAULT_SINK]):
        return ""
    return choose(options.encoder, width, height, fps)


def _to_status(end: ShowEnd, sinks: Sequence[SinkStats], frames: int) -> int:
    if end is ShowEnd.READER_GONE:
        return 0
    is_vain = frames > 0 and all(sink.is_dead or not sink.written for sink in sinks)
    is_dead = end is ShowEnd.ALL_DEAD and any(sink.is_dead for sink in sinks)  # not all were closed by somebody
    return 1 if is_vain or is_dead else 0


def _refuse(error: Exception) -> int:
    from runtime.errors import printable  # not before --help, as above

    with contextlib.suppress(OSError):  # nobody reads standard error any more
        print(f"error: {printable(' '.join(explain(error).split()))}", file=sys.stderr)
    return 2


def _find_bundle(given: str | None) -> Path:
    """Return the bundle that was asked for; the default is looked for here, then beside the installed package."""
    if given is not None:
        return Path(given)
    beside = Path(__file__).resolve().parents[1] / DEFAULT_BUNDLE
    here = Path(DEFAULT_BUNDLE)
    return here if here.is_dir() or not beside.is_dir() else beside
