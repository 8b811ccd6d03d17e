"""Runs a program that was written for OpenMSIStream: `python -m datamill.openmsistream program.py ARGUMENTS`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .. import _engine, _options
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
    if wrong := _wrong(options, words):
        print(f"error: {wrong}. `python -m datamill.openmsistream --help` shows how it is called", file=sys.stderr)
        sys.exit(2)
    program = Path(words[0])
    sys.argv = words
    _program.run(program.resolve(), tuple(_options.meant_in(os.getcwd(), options)))


def _wrong(options: list[str], words: list[str]) -> str | None:
    """What is wrong with the words in front of the program, and the program's own word."""
    known = {
        name.replace("-", "_"): option
        for kind in ("reproducer", "processor")
        for option in _engine.options(kind)
        for name in option["names"]
    }
    for word in options:
        name, equals, _ = word.replace("-", "_").partition("=")
        # a beginning is as good, where it is that of one option
        meant = [known[name]] if name in known else [known[other] for other in known if other.startswith(name)]
        if not meant:
            near = _options.nearest_option(word.partition("=")[0], (f"--{other.lstrip('_')}" for other in known))
            return f"datamill has no option `{word}`" + (f": did you mean `{near}`" if near else "")
        if all(option["takes_value"] for option in meant) and not equals:
            value = words[0] if words and not words[0].endswith(".py") else "VALUE"
            return f"the option `{word}` needs its value in the same word, in front of the program: `{word}={value}`"
    if not words:
        return "a program is missing"
    return None if Path(words[0]).is_file() else f"there is no program `{words[0]}`"


main(sys.argv[1:])
