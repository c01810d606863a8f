"""The command line of the export for Triton: `python -m export triton BUNDLE --out REPO`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from export.commandline import print_table, to_list, to_size
from export.triton.config import BACKENDS, load_protobuf
from export.triton.repository import PLANS, RepositoryOptions, write_repository
from runtime.bundle.strict_json import nearest

PIXELS = ("rgb", "i420")
EXAMPLES = """models of REPO, each with 1/model.onnx and config.pbtxt:
  NAME-step-rgb, NAME-step-i420   a frame per request, with the pixel stage and the mark; a sequence per show
  NAME-condition, NAME-paint      make scenes; without states

examples:
  python -m export triton bundles/landscape --out models --size 1280x720
  tritonserver --model-repository=models                                     on the server
  everframe stream bundles/landscape --engine grpc://SERVER:8001             a show with frames of the server
  python -m export triton bundles/landscape --out models --backend tensorrt  then run models/build-plans.sh there

The configurations are read back by Triton's own protobuf and compared with the graphs. The tests use a stand-in for
the server that speaks its gRPC protocol. REPO has not yet been run on a Triton server (docs/triton.md).

exit status: 0 REPO was written; 2 an error, in one sentence. REPO is complete or absent.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    triton_parser = argparse.ArgumentParser(
        prog="python -m export triton",
        description="Write a bundle as a model repository of NVIDIA Triton Inference Server (not yet run on one).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = triton_parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="folder of a bundle")
    add("--out", type=Path, required=True, metavar="REPO", help="folder to write; must not exist")
    add("--size", metavar="WxH", help="frame size in pixels, even (default: the bundle's)")
    add("--pixels", default="rgb,i420", metavar="P,...", help="rgb, i420: formats of the frames (default: both)")
    add("--backend", default="onnxruntime", metavar="B", help=f"{' or '.join(BACKENDS)} (default: onnxruntime)")
    add(
        "--max-sequences", type=int, default=8, metavar="N",
        help="shows that an instance of a step model runs at a time (default: 8)",
    )  # fmt: skip
    add("--name", default="", help="what the models' names begin with (default: the bundle's name)")
    return triton_parser


def run(argv: Sequence[str]) -> int:
    """Write a repository and return the exit status.

    Args:
        argv: the arguments after `triton`.

    Raises:
        ValueError: an argument is wrong.
        BundleError: the bundle is damaged.
        EngineError: tritonclient is not installed.
    """
    arguments = parser().parse_args(argv)
    load_protobuf()
    options = RepositoryOptions(
        size=None if arguments.size is None else to_size(arguments.size),
        pixels=to_list(arguments.pixels),
        backend=arguments.backend,
        max_sequences=arguments.max_sequences,
        name=arguments.name,
    )
    _check(options)
    models = write_repository(arguments.bundle, arguments.out, options)
    rows = [
        (
            model.name,
            f"{model.graph.ByteSize() / 1e6:.2f} MB",
            "" if model.interface is None else f"{_state_size(model.config) / 1e6:.1f} MB",
        )
        for model in models
    ]
    print_table(str(arguments.out), ("model", "graph", "states of a show"), rows, right="graph")
    if options.backend == "tensorrt":
        print(f"next: run {arguments.out / PLANS} on the server, which builds model.plan for each model")
    print("not yet run on a Triton server; see docs/triton.md")
    return 0


def _check(options: RepositoryOptions) -> None:
    if not options.pixels or not set(options.pixels) <= set(PIXELS):
        raise ValueError(f"--pixels must be rgb, i420 or both (rgb,i420), got {','.join(options.pixels)!r}")
    if options.backend not in BACKENDS:
        raise ValueError(f'there is no backend "{options.backend}" {nearest(options.backend, BACKENDS)}')
    if not 1 <= options.max_sequences <= 1024:
        raise ValueError(f"--max-sequences must be from 1 to 1024, got {options.max_sequences}")
    if options.name and re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", options.name) is None:
        raise ValueError(f"--name must be lower-case letters, digits, dots, dashes, at most 64, got {options.name!r}")


def _state_size(config: str) -> int:
    """Return the bytes of the states of one sequence."""
    from math import prod

    from export.triton.config import parse_config

    sizes = {"TYPE_FP32": 4, "TYPE_INT32": 4, "TYPE_FP16": 2, "TYPE_INT64": 8}
    protobuf, _ = load_protobuf()
    states = parse_config(config).sequence_batching.state
    return sum(prod(item.dims) * sizes.get(protobuf.DataType.Name(item.data_type), 1) for item in states)
