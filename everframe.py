"""The command `everframe`: one name for the command lines of the project.

everframe stream --to http://127.0.0.1:8000      (the same as python -m streaming)
"""

from __future__ import annotations

import runpy
import sys

COMMANDS = {
    "stream": ("streaming", "stream generated video to a page, RTMP, SRT, WHIP, a webcam or a file"),
    "fleet": ("fleet", "run many shows on a Ray cluster: placed, moved and started again"),
    "export": ("export", "make a bundle from a training run or from an ONNX model"),
    "train": ("training", "train a generator on a folder of videos"),
    "verify": ("verify", "say whether a video was made by Everframe: read the mark in its frames"),
    "bench": ("benchmarks", "measure a generator"),
    "keys": ("provenance.keys", "make keys to sign recordings with"),
    "ledger": ("provenance.ledger", "list the shows of a ledger, or find the show of a mark"),
}
_USAGE = "usage: everframe COMMAND ...\n\ncommands:\n{commands}\n\neverframe COMMAND --help explains each."


def main() -> int:
    """Run the command line that the first argument names.

    Returns:
        The exit status; 2 if there is no such command.
    """
    arguments = sys.argv[1:]
    lines = "\n".join(f"  {name:<8}{summary}" for name, (_, summary) in COMMANDS.items())
    if arguments in (["--help"], ["-h"]):
        print(_USAGE.format(commands=lines))
        return 0
    if not arguments or arguments[0] not in COMMANDS:
        got = f'got "{arguments[0]}"' if arguments else "got no command"
        print(f"error: {got}, expected one of {', '.join(COMMANDS)}; see everframe --help", file=sys.stderr)
        return 2
    sys.argv = [f"everframe {arguments[0]}", *arguments[1:]]
    runpy.run_module(COMMANDS[arguments[0]][0], run_name="__main__", alter_sys=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
