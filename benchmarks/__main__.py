"""The command line: `python -m benchmarks NAME ...`. A new benchmark is one module and one line in `BENCHMARKS`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, NoReturn

from benchmarks import plots
from benchmarks.machine import machine_card
from benchmarks.report import command_line, write_beside


class Benchmark(NamedTuple):
    """A module and what it measures, in a few words.

    The module's docstring is its manual page; it has add_arguments(parser), run(options) -> BenchmarkReport and, if
    docs/results.md shows it, to_markdown(result) -> str. It is imported only when it is asked for.
    """

    module: str
    summary: str


BENCHMARKS = {
    "all": Benchmark("benchmarks.everything", "every benchmark in docs/results.md, and its tables"),
    "attack": Benchmark("benchmarks.scenarios.attack", "a show whose page is attacked, next to a quiet one"),
    "camera": Benchmark("benchmarks.live.camera", "latency of the page's camera, from another process to the show's"),
    "chain": Benchmark("benchmarks.latency.chain", "what a chain of bundles costs beyond its links' engine runs"),
    "clips": Benchmark("benchmarks.quality.loops", "endless clips: their jumps, beside other ways to go on for ever"),
    "composite": Benchmark("benchmarks.latency.compositing", "time per frame of a person over a show, part by part"),
    "diffusers": Benchmark("benchmarks.diffusion.command", "a pipeline of the size of SD-turbo, exported and timed"),
    "endurance": Benchmark("benchmarks.scenarios.endurance", "a long show to RTMP, a recording and the page at once"),
    "enlarging": Benchmark("benchmarks.quality.enlarging", "the enlarger of painted pictures beside other methods"),
    "fleet": Benchmark("benchmarks.scenarios.fleet", "shows on a Ray cluster whose machines are killed"),
    "flow": Benchmark("benchmarks.training.flow", "the sharder's optical flow beside the exact flow of made footage"),
    "gpu-check": Benchmark("benchmarks.gpu_check", "engines, CUDA graphs, parity and latency on an NVIDIA GPU"),
    "hints": Benchmark("benchmarks.quality.hints", "how well motion follows drawn vectors, on held-out footage"),
    "instrument": Benchmark("benchmarks.live.instrument", "from an OSC message until the frame that uses it"),
    "latency": Benchmark("benchmarks.latency.command", "time per frame, its stages, and other runtimes next to it"),
    "live": Benchmark("benchmarks.live.command", "glass-to-glass latency through RTMP, the page and ffmpeg"),
    "loading": Benchmark("benchmarks.training.loading", "sharding many short clips, then an epoch of batches"),
    "mark": Benchmark("benchmarks.marking.command", "how well the mark of frames is found, what it costs, attacks"),
    "matte": Benchmark("benchmarks.quality.matte", "how well a matte cuts people out, beside known mattes"),
    "photos": Benchmark(
        "benchmarks.quality.photos", "photographs animated: first frame, detail, what must stand still"
    ),
    "pictures": Benchmark("benchmarks.pictures", "a sheet of frames over time and a clip, made by bundles"),
    "precisions": Benchmark("benchmarks.latency.precisions", "time and parity of INT8 beside FP32 and bf16"),
    "pretraining": Benchmark("benchmarks.training.pretraining", "pretraining: clips per second, waiting, TFLOP/s"),
    "quality": Benchmark("benchmarks.quality.command", "distances to held-out footage, motion, text, memory, drift"),
    "reconnect": Benchmark("benchmarks.scenarios.reconnect", "a stream whose server is killed, or never reads"),
    "scale": Benchmark("benchmarks.latency.scale", "time per frame from 128 to 1024 pixels, same weights"),
    "screen": Benchmark("benchmarks.live.screen", "camera to screen, with a person over a show"),
    "server": Benchmark("benchmarks.latency.server", "what a Triton server adds to a frame: gRPC and the way back"),
    "soak": Benchmark("benchmarks.scenarios.soak", "memory, latency and pictures over 100,000 frames"),
    "sound": Benchmark("benchmarks.live.sound", "sound against picture: flashes and clicks through a live stream"),
    "super-resolution": Benchmark("benchmarks.quality.super_resolution", "live video at twice the size, beside others"),
    "fill": Benchmark("benchmarks.quality.fill", "holes of live video, filled, beside others"),
    "transfer": Benchmark("benchmarks.transfer.command", "whether pretraining helps fine-tuning, over several seeds"),
    "weights": Benchmark("benchmarks.weights.command", "memory of a bundle with gigabytes of weights"),
}
ALIASES = {"kills": "reconnect"}  # for one release
EXTRAS = {
    **dict.fromkeys(("scipy", "sklearn"), "evaluation"),
    **dict.fromkeys(("torch", "cv2", "lightning", "array_record", "scenedetect", "onnxscript"), "train"),
    **dict.fromkeys(("onnxruntime", "openvino", "tokenizers"), "cpu"),
    **dict.fromkeys(("diffusers", "transformers"), "diffusers"),
    "matplotlib": "plot",
    "pythonosc": "osc",
    "tritonclient": "triton",
}
_DESCRIPTION = """\
Measure a generator. Every benchmark prints a table and the machine it ran on
to standard error, and its whole result as one line of JSON, the last line of
standard output.
`python -m benchmarks NAME --help` explains each benchmark.
"""
_EPILOG = """\
examples:
  python -m benchmarks latency bundles/satellite
  python -m benchmarks latency bundles/mine --json mine.json --plot mine.png
  python -m benchmarks latency bundles/mine 2>/dev/null | tail -n 1 | jq .ms.p99

exit status:
  0  measured
  1  measured, and a check failed (attack, endurance, gpu-check, reconnect, soak,
     sound)
  2  invalid arguments, bundle or engine: one line on standard error says what
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments; None for the process's own.

    Returns:
        The exit status: see the help.
    """
    from runtime.errors import BundleError, EngineError

    words = list(sys.argv[1:] if argv is None else argv)
    words[:1] = [ALIASES.get(word, word) for word in words[:1]]
    try:
        options = _parser(words[0] if words else "").parse_args(words)
        plot = getattr(options, "plot", None)
        if plot is not None:
            plots.check_plot(Path(plot))
        machine = machine_card()  # before the measurement, so that its load is that of other programs
        report = options.run(options)
        report.result.setdefault("machine", machine)
        report.result.setdefault("command", command_line())
        report.publish(json_file=options.json)
        if plot is not None:
            draw, result = plots.PLOTS[options.benchmark], {**report.result, **report.details}
            write_beside(Path(plot), lambda beside: draw(result, beside))
    except ModuleNotFoundError as error:
        if (extra := EXTRAS.get((error.name or "").partition(".")[0])) is None:
            raise
        print(f"benchmarks: {error.name} is not installed: pip install 'everframe[{extra}]'", file=sys.stderr)
        return 2
    except (BundleError, EngineError, ValueError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks: stopped before the measurement was complete", file=sys.stderr)
        return 130
    return int(report.failed)


def _parser(wanted: str) -> argparse.ArgumentParser:
    """Return the parser; only the wanted benchmark has its arguments."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="python -m benchmarks", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw)
    commands = parser.add_subparsers(title="benchmarks", dest="benchmark", metavar="NAME", required=True)
    for name, (module_name, summary) in BENCHMARKS.items():
        command = commands.add_parser(name, help=summary, formatter_class=raw)
        if name == wanted:
            module = import_module(module_name)
            command.description = module.__doc__
            module.add_arguments(command)
            command.add_argument("--json", metavar="FILE", help="also write the result to a file, with every value")
            if name in plots.PLOTS:
                command.add_argument("--plot", metavar="FILE", help="draw the result: .png, .svg or .pdf")
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
