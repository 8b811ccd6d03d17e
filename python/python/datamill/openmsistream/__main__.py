"""Runs a program that was written for OpenMSIStream: `python -m datamill.openmsistream program.py ARGUMENTS`."""

from __future__ import annotations

import sys
from pathlib import Path

from . import _program

_USAGE = """\
usage: python -m datamill.openmsistream [OPTIONS OF DATAMILL] PROGRAM.py [ARGUMENTS]

Runs a Python program that imports `openmsistream` and `openmsitoolbox` on datamill's engine, unchanged. ARGUMENTS are the
program's own. Options of datamill in front of the program hold for whatever it starts, for example:

    python -m datamill.openmsistream --exit-at-end program.py --config lab.config --topic_name files

`datamill process --help` lists them. Write an option that has a value in one word: --max_attempts=3
"""


def main(words: list[str]) -> None:
    options = []
    while words and words[0].startswith("-"):
        options.append(words.pop(0))
    if any(option in ("-h", "--help") for option in options):
        print(_USAGE, end="")
        return
    if not words:
        print(_USAGE, end="", file=sys.stderr)
        sys.exit(2)
    program = Path(words[0])
    if not program.is_file():
        print(f"error: there is no program `{program}`", file=sys.stderr)
        if any("=" not in option for option in options):
            print("write an option of datamill that has a value in one word: --max_attempts=3", file=sys.stderr)
        sys.exit(2)
    sys.argv = words
    _program.run(program.resolve(), tuple(options))


main(sys.argv[1:])
