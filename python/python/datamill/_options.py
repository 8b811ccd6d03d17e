"""Options of programs, from keywords and from `argparse`, as the words that the engine reads."""

from __future__ import annotations

import argparse
import difflib
import functools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from . import _engine
from ._errors import SetUpError
from ._speech import unknown

_DEST = "_datamill_"


def words_of_keywords(kind: str, keywords: Mapping[str, Any], caller: str) -> list[str]:
    """Make a command line of keywords.

    Parameters
    ----------
    kind : str
        ``"reproducer"``, ``"processor"``, ``"upload"`` or ``"watch"``.
    keywords : Mapping
        Options by their names. ``True`` sets one that has no value; ``False`` and ``None`` leave it out.
    caller : str
        The function that got them, for messages.

    Returns
    -------
    list of str
        The words.

    Raises
    ------
    TypeError
        An option that is not there, or one without a value that got one.
    """
    known = {}
    for each in _engine.options(kind):
        for name in each["names"]:
            known[name.removeprefix("--").replace("-", "_")] = each
    words = []
    for name, value in keywords.items():
        if name not in known:
            raise unknown(caller, name, known)
        option = known[name]
        if value is None or value is False:
            continue
        if not option["takes_value"]:
            if value is not True:
                raise TypeError(f"{caller}(): the option `{name}` is True or False, not {value!r}")
            words.append(f"--{name}")
        elif value is True:
            raise TypeError(f"{caller}(): the option `{name}` needs a value")
        else:
            words.append(f"--{name}={os.fspath(value) if isinstance(value, os.PathLike) else value}")
    return words


#: Options that are paths.
_PATHS = ("config", "logger_file_path", "output_dir", "take_over")


def meant_in(folder: str, words: Sequence[str]) -> list[str]:
    """Make paths of a command line absolute that were typed in another folder.

    Parameters
    ----------
    folder : str
        Where they were typed.
    words : sequence of str
        Options, each with its value in the same word or in the next one.

    Returns
    -------
    list of str
        The same options; a configuration that is named, and is no file there, stays a name.
    """
    meant = []
    left = iter(words)
    for word in left:
        if word.startswith("--") and word.removeprefix("--").replace("-", "_") in _PATHS:
            word = f"{word}={next(left, '')}"
        name, equals, value = word.partition("=")
        path = os.path.join(folder, value)
        known = name.removeprefix("--").replace("-", "_")
        if equals and known in _PATHS and (known != "config" or any(map(os.path.isfile, (path, f"{path}.config")))):
            word = f"{name}={path}"
        meant.append(word)
    return meant


def add_options(parser: argparse.ArgumentParser, kind: str) -> None:
    """Add the options of a program to a parser of the user's.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        A parser that has none of these options.
    kind : str
        ``"reproducer"`` or ``"processor"``.

    Raises
    ------
    SetUpError
        The parser has an option of one of these names.
    """
    groups: dict[str, Any] = {}
    for option in _engine.options(kind):
        heading = option["heading"] or "Options of datamill"
        group = groups.setdefault(heading, None) or parser.add_argument_group(heading)
        groups[heading] = group
        how: dict[str, Any] = {"dest": _DEST + option["name"], "default": argparse.SUPPRESS}
        how["help"] = argparse.SUPPRESS if option["hidden"] else option["help"].replace("%", "%%")
        if option["takes_value"]:
            how["metavar"] = option["metavar"]
        else:
            how["action"] = "store_true"
        try:
            group.add_argument(*option["names"], **how)
        except argparse.ArgumentError as error:
            raise SetUpError(f"the parser has an option that datamill has too: {error}; give yours another name") from None


def wrong(message: str, options: Iterable[str], help_by: str) -> str:
    """Say in a sentence what is wrong with a command line.

    Parameters
    ----------
    message : str
        What `argparse` says of it.
    options : iterable of str
        All options that there are.
    help_by : str
        What shows the help.

    Returns
    -------
    str
        The same with the nearest option, where one is not there.
    """
    # an option with its other ways to write it
    message = re.sub(r"^argument (--[\w-]+)(?:/--[\w-]+)+:", r"argument \1:", message)
    what, _, rest = message.partition("unrecognized arguments: ")
    if rest and not what:
        names = [word.partition("=")[0] for word in rest.split() if word.startswith("-")]
        message = f"there is no option `{names[0]}`" if names else f"nothing is known of `{rest}`"
        if names and (near := nearest_option(names[0], options)):
            message += f": did you mean `{near}`?"
    return f"{message}{'' if message.endswith('?') else '.'} {help_by} lists the options"


def nearest_option(name: str, options: Iterable[str]) -> str | None:
    """The option that is most like a word, with either of the ways to write it."""
    known: dict[str, str] = {}
    for option in options:
        if option.startswith("--"):
            # the first way to write it is its own
            known.setdefault(option.replace("-", "_").lstrip("_"), option)
    near = difflib.get_close_matches(name.replace("-", "_").lstrip("_"), known, n=1)
    return known[near[0]] if near else None


def _refuse(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    raise SetUpError(wrong(message, parser._option_string_actions, f"`{parser.prog} --help`"))


def split(parser: argparse.ArgumentParser, kind: str, arguments: Sequence[str]) -> tuple[list[str], argparse.Namespace]:
    """Read a command line with the options of a program and those of the user.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        The user's; the options of the program are added to it.
    kind : str
        ``"reproducer"`` or ``"processor"``.
    arguments : sequence of str
        The words.

    Returns
    -------
    tuple
        The words of the program's options, and the values of the user's.
    """
    if not any(action.dest.startswith(_DEST) for action in parser._actions):
        add_options(parser, kind)
    if type(parser).error is argparse.ArgumentParser.error:
        # its own would show the usage, with all options of datamill
        parser.error = functools.partial(_refuse, parser)  # type: ignore[method-assign]
    values = vars(parser.parse_args(arguments))
    words = []
    for name in [name for name in values if name.startswith(_DEST)]:
        value = values.pop(name)
        option = name.removeprefix(_DEST)
        words.append(f"--{option}" if value is True else f"--{option}={value}")
    return words, argparse.Namespace(**values)
