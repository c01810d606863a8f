"""The command line: `python -m benchmarks NAME ...`. Adding a benchmark = one file and one line in `BENCHMARKS`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

# Name -> module with SUMMARY and EXAMPLES (text), add_arguments(parser) and run(options) -> Report.
BENCHMARKS = {
    "all": "benchmarks.everything",
    "attack": "benchmarks.scenarios.attack",
    "endurance": "benchmarks.scenarios.endurance",
    "gpu-check": "benchmarks.gpu_check",
    "kills": "benchmarks.scenarios.reconnect",
    "latency": "benchmarks.latency.command",
    "live": "benchmarks.live.command",
    "loading": "benchmarks.training.loading",
    "pictures": "benchmarks.pictures",
    "pretraining": "benchmarks.training.pretraining",
    "quality": "benchmarks.quality.command",
    "scale": "benchmarks.latency.scale",
    "soak": "benchmarks.scenarios.soak",
    "transfer": "benchmarks.transfer.command",
}
_DESCRIPTION = """\
Measure a generator. Every benchmark prints a table and the machine it ran on
to standard error, and its whole result as one line of JSON, the last line of
standard output.
`python -m benchmarks NAME --help` explains each benchmark.
"""
_EPILOG = """\
examples:
  python -m benchmarks latency bundles/satellite-256
  python -m benchmarks latency bundles/mine --json mine.json --plot mine.png
  python -m benchmarks latency bundles/mine 2>/dev/null | tail -n 1 | jq .ms.p99

exit status:
  0  measured
  1  measured, and something that must hold does not (soak,
     endurance, kills, gpu-check)
  2  something is wrong with the arguments, the bundle or the engine: one line
     on standard error says what
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

    try:
        options = _parser().parse_args(argv)
        report = options.run(options)
        report.publish(json_file=options.json)
    except (BundleError, EngineError, ValueError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks: stopped, nothing was measured to the end", file=sys.stderr)
        return 130
    return int(report.failed)


def _parser() -> argparse.ArgumentParser:
    modules = {name: import_module(module) for name, module in BENCHMARKS.items()}
    parser = _Parser(
        prog="python -m benchmarks",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(
        title="benchmarks", dest="benchmark", metavar="NAME", required=True, parser_class=_Parser
    )
    for name, module in modules.items():
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=module.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.add_argument("--json", metavar="FILE", help="also write the result here, with every single value")
        command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
