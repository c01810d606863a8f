"""The command `everframe keys`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from provenance.keys.development import CERTIFICATES, KEY, ROOT, YEARS, create

_NOTE = (
    "This is a development chain. It proves that a file was not changed since you signed it. It does not prove who "
    "you are: nobody has checked the name, and programs that check files call it not trusted."
)
_DESCRIPTION = """\
Make a key and a certificate with which a show signs its recordings.

  everframe keys create --out keys --name "My channel"
  everframe stream --sign keys --to night.mp4
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see everframe keys --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, or 2 if nothing was made; one line says why.
    """
    parser = _Parser(
        prog="everframe keys",
        description=_DESCRIPTION,
        epilog=_NOTE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.epilog = "\n".join(_wrapped(_NOTE))
    commands = parser.add_subparsers(dest="command", metavar="create", required=True)
    make = commands.add_parser("create", help="make a development chain", allow_abbrev=False)
    make.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="a new folder")
    make.add_argument("--name", default="Everframe development", help="who signs, as people see it")
    try:
        options = parser.parse_args(argv)
        create(options.out, options.name)
    except ImportError:
        return _refuse("keys need the extra sign: pip install 'everframe[sign]'")
    except ValueError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"{error.strerror}: {error.filename}")
    out = options.out
    print(f"{out / KEY}: the private key, which only you can read; keep it secret")
    print(f"{out / CERTIFICATES}: the certificate of {options.name}, valid for {YEARS} years")
    print(f"{out / ROOT}: the root, for people who check your files; its key was thrown away")
    print("\n".join(_wrapped(_NOTE)))
    return 0


def _wrapped(text: str) -> list[str]:
    from textwrap import wrap

    return wrap(text, 79)


def _refuse(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2
