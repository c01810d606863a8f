"""`python -m export check BUNDLE`: a bundle's golden frames on every engine of this machine, without PyTorch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from export.arguments import to_list
from export.parity.checks import GATES_DB, IDENTICAL_DB, ParityCheck, print_rungs
from runtime.bundle.reader import open_bundle
from runtime.bundle.strict_json import nearest
from runtime.engines.table import ENGINES, PRECISIONS, choose_engine, open_engine
from runtime.golden import check_golden
from training.atomic_file import write_text

EXAMPLES = """examples:
  python -m export check bundles/satellite-256                      every engine that this machine has
  python -m export check bundles/satellite-256 --engine openvino    this one, or an error if it cannot run
  python -m export check bundles/satellite-256 --json - | jq .      figures for a script, and nothing else on stdout

The golden frames are PyTorch's own, written by the export: numbers 1, 10, 100 and 300 from a seed, 100 from a picture,
a clip or a text. Each engine plays the same shows and is compared frame by frame (PSNR); what is stored is not
believed, everything is run again. PyTorch is not needed. Exit status: 0 every engine passed, 1 one failed its gate, 2
the bundle is damaged or an engine that was named cannot run.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    check_parser = argparse.ArgumentParser(
        prog="python -m export check",
        description="Replay a bundle's golden frames on the engines of this machine and compare them with PyTorch's.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check_parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of a bundle")
    check_parser.add_argument("--engine", default="", metavar="E,...", help=f"of {', '.join(ENGINES)} (all that run)")
    check_parser.add_argument("--precision", default="", metavar="P,...", help="fp32, bf16, fp16 (all of each engine)")
    check_parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON; - is stdout")
    return check_parser


def run(words: Sequence[str]) -> int:
    """Check a bundle; returns the exit status.

    Args:
        words: the arguments after `check`.

    Raises:
        ValueError: an engine or precision is unknown, or the bundle is damaged or has no golden frames.
        EngineError: an engine that was named cannot run here.
    """
    arguments = parser().parse_args(words)
    bundle: Path = arguments.bundle
    if not open_bundle(bundle).manifest.golden:
        raise ValueError(f"{bundle} holds no golden frames: nothing to compare with; export or import it again")
    named = to_list(arguments.engine)
    precisions = to_list(arguments.precision)
    for precision in precisions:
        if precision not in PRECISIONS:
            raise ValueError(f'there is no precision "{precision}" {nearest(precision, PRECISIONS)}')
    pairs: list[tuple[str, str]] = []
    passed_over: list[str] = []
    for name in named or ENGINES:
        engine = open_engine(name)
        if (why_not := engine.available()) is not None:
            if named:
                choose_engine(name)  # refuses it with the reason
            passed_over.append(why_not)
            continue
        wanted = precisions or list(engine.precisions())
        for precision in wanted:
            if precision in engine.precisions():
                pairs.append((name, precision))
            elif named:
                choose_engine(name, precision)
    if not pairs:
        raise ValueError(f"no engine of this machine runs in {' or '.join(precisions)}: choose another --precision")
    rungs: list[ParityCheck] = []
    for engine_name, precision in pairs:
        for file, group in groupby(check_golden(bundle, engine_name, precision), key=lambda result: result.file):
            results = list(group)
            values = [min(result.psnr_db, IDENTICAL_DB) for result in results]
            run_name = f"{Path(file).stem}, frames {', '.join(str(result.frame) for result in results)}"
            gate = GATES_DB[precision]
            rungs.append(
                ParityCheck(
                    engine_name, precision, run_name, len(values), min(values), sum(values) / len(values), gate, "dB"
                )
            )
    is_passed = all(rung.passed for rung in rungs)
    report = {"bundle": str(bundle), "passed": is_passed, "parity": [rung.to_json() for rung in rungs]}
    report["not_run"] = passed_over
    if str(arguments.json) == "-":
        json.dump(report, sys.stdout, indent=2)
        print()
    else:
        print_rungs(rungs, "golden frames of PyTorch against this machine's engines")
        for sentence in passed_over:
            print(f"not run: {sentence}")
        if arguments.json is not None:
            write_text(arguments.json, json.dumps(report, indent=2) + "\n")
        print(f"{bundle}: {'every engine passed' if is_passed else 'FAILED: do not put it on air with what failed'}")
    return 0 if is_passed else 1
