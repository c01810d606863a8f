"""`python -m export check BUNDLE`: replays the golden frames on every engine of this machine, without PyTorch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from export.commandline import to_list
from export.parity.checks import ParityCheck, print_checks
from runtime.bundle.reader import open_bundle
from runtime.bundle.strict_json import nearest
from runtime.engines.engine import INT8, supports
from runtime.engines.table import ENGINES, PRECISIONS, choose_engine, open_engine
from runtime.golden import check_golden
from training.atomic_file import write_text

EXAMPLES = """examples:
  python -m export check bundles/landscape                          every engine of this machine
  python -m export check bundles/landscape     --engine openvino    this engine, or an error if it cannot run
  python -m export check bundles/landscape     --json - | jq .      only JSON on stdout, for scripts

The golden frames were made by PyTorch during the export: frames 1, 10, 100 and 300 from a seed, and frame 100 from an
image, a clip and a text. Each engine replays the same prompts, and its frames are compared with them (PSNR). Stored
results are not used. PyTorch is not needed.

exit status: 0 every engine passed; 1 an engine failed its gate; 2 the bundle is damaged, or a named engine cannot run.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    check_parser = argparse.ArgumentParser(
        prog="python -m export check",
        description="Replay a bundle's golden frames on the engines of this machine and compare them with PyTorch's.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = check_parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="folder of a bundle")
    add("--engine", default="", metavar="E,...", help=f"{', '.join(ENGINES)} (default: all that can run)")
    add("--precision", default="", metavar="P,...", help=f"{', '.join(PRECISIONS)} (default: all of each engine)")
    add("--json", type=Path, metavar="FILE", help="write the results as JSON; - is stdout")
    return check_parser


def run(argv: Sequence[str]) -> int:
    """Check a bundle and return the exit status.

    Args:
        argv: the arguments after `check`.

    Raises:
        ValueError: an engine or precision is unknown, or the bundle is damaged or has no golden frames.
        EngineError: a named engine cannot run here.
    """
    arguments = parser().parse_args(argv)
    bundle: Path = arguments.bundle
    opened = open_bundle(bundle)
    if not opened.manifest.golden:
        raise ValueError(f"{bundle} has no golden frames to compare with: export or import it again")
    if INT8 in to_list(arguments.precision):
        opened.in_precision(INT8)  # raises if it has no such graph
    has_int8 = opened.int8 is not None
    pairs, not_run = _choose(to_list(arguments.engine), to_list(arguments.precision), has_int8=has_int8)
    checks: list[ParityCheck] = []
    for engine, precision in pairs:
        for file, group in groupby(check_golden(bundle, engine, precision), key=lambda result: result.file):
            results = list(group)
            run_name = f"{Path(file).stem}, frames {', '.join(str(result.frame) for result in results)}"
            checks.append(ParityCheck.of_psnr(engine, precision, run_name, [result.psnr_db for result in results]))
    is_passed = all(check.passed for check in checks)
    report = {"bundle": str(bundle), "passed": is_passed, "parity": [check.to_json() for check in checks]}
    report["not_run"] = not_run
    if str(arguments.json) == "-":
        json.dump(report, sys.stdout, indent=2)
        print()
    else:
        print_checks(checks, "golden frames of PyTorch on this machine's engines")
        for reason in not_run:
            print(f"not run: {reason}")
        if arguments.json is not None:
            write_text(arguments.json, json.dumps(report, indent=2) + "\n")
        print(f"{bundle}: {'every engine passed' if is_passed else 'FAILED: do not use the engines that failed'}")
    return 0 if is_passed else 1


def _choose(
    engines: Sequence[str], precisions: Sequence[str], *, has_int8: bool
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the (engine, precision) pairs to run, and why other engines cannot run; empty arguments mean all."""
    for precision in precisions:
        if precision not in PRECISIONS:
            raise ValueError(f'there is no precision "{precision}" {nearest(precision, PRECISIONS)}')
    pairs: list[tuple[str, str]] = []
    not_run: list[str] = []
    for name in engines or ENGINES:
        engine = open_engine(name)
        if (why_not := engine.available()) is not None:
            if engines:
                choose_engine(name)  # raises EngineError with the reason
            not_run.append(why_not)
            continue
        own = [*engine.precisions(), *([INT8] if has_int8 and supports(engine, INT8) else [])]
        for precision in precisions or own:
            if precision in own:
                pairs.append((name, precision))
            elif engines:
                choose_engine(name, precision)
    if not pairs:
        raise ValueError(f"no engine of this machine runs in {' or '.join(precisions)}: choose another --precision")
    return pairs, not_run
