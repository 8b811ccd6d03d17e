"""How texts speak of options: those of a command line as `--name`, those of a function as its keywords.

The texts are the engine's, which has a command line. A function with keywords hands `of_keywords(…)` to it, and errors and
summaries come back in its own words.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from . import _engine

Speak = Callable[[str], str]

_P = ParamSpec("_P")
_T = TypeVar("_T")

# a text in backticks, or an option outside of them, with what clap says of its value
_OPTION = re.compile(r"`[^`\n]*`|(['\"]?)--([a-z][\w-]*)(?: <[^<>\s]+>(?:\.\.\.)?)?\1")

_has_command_line: ContextVar[bool] = ContextVar("has_command_line", default=False)


@contextlib.contextmanager
def command_line() -> Iterator[None]:
    """What is made meanwhile was asked for by a command line."""
    token = _has_command_line.set(True)
    try:
        yield
    finally:
        _has_command_line.reset(token)


def has_command_line() -> bool:
    """Whether the program was asked for by a command line, and texts speak of its options."""
    return _has_command_line.get()


def of_keywords(kind: str, renamed: Mapping[str, str] | None = None) -> Speak:
    """What makes texts about the options of a kind of programs texts about keywords.

    Parameters
    ----------
    kind : str
        As `_engine.options` takes it.
    renamed : Mapping, optional
        Options that are keywords of another name.
    """
    return functools.partial(_said, kind, dict(renamed or {}))


def _said(kind: str, renamed: Mapping[str, str], text: str) -> str:
    known = options_of(kind)

    def keyword(option: str, value: str | None = None) -> str | None:
        name = option.replace("-", "_")
        if name not in known:
            return None
        spoken = renamed.get(name, name)
        if not known[name]:
            return f"{spoken}=True"
        if value is None:
            return spoken
        return f"{spoken}={value}" if re.fullmatch(r"-?\d+(\.\d+)?", value) else f'{spoken}="{value}"'

    def replaced(found: re.Match[str]) -> str:
        whole, option = found[0], found[2]
        said = _arguments(whole.strip("`"), keyword) if option is None else keyword(option)
        return whole if said is None else f"`{said}`"

    return _OPTION.sub(replaced, without_usage(text))


@functools.cache
def options_of(kind: str) -> dict[str, bool]:
    """The names of all options, and whether they have a value."""
    return {
        name.removeprefix("--").replace("-", "_"): option["takes_value"]
        for option in _engine.options(kind)
        for name in option["names"]
    }


def _arguments(words: str, keyword: Callable[[str, str | None], str | None]) -> str | None:
    """Options and their values, as arguments of a call. None for what is anything else, as a command for a shell."""
    if not words.startswith("--"):
        return None
    try:
        left = shlex.split(words)
    except ValueError:
        return None
    arguments = []
    while left:
        option, _, value = left.pop(0).partition("=")
        if not option.startswith("--"):
            return None
        if not value and left and not left[0].startswith("--"):
            value = left.pop(0)
        said = keyword(option.removeprefix("--"), value or None)
        if said is None:
            return None
        arguments.append(said)
    return ", ".join(arguments)


def without_usage(text: str) -> str:
    """What the engine's reader of command lines says in one sentence, for who has another command line or none."""
    parts = text.split("\n\n")
    kept = [part for part in parts if not part.startswith(("Usage:", "For more information"))]
    if len(kept) == len(parts):
        return text
    return "; ".join(" ".join(part.split()) for part in kept)


def unknown(caller: str, name: str, known: Iterable[str]) -> TypeError:
    """The error for a keyword that is not there, with the nearest one that is."""
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f": did you mean `{near[0]}`?" if near else ""
    return TypeError(f"{caller}() has no option `{name}`{hint}")


def names_the_nearest(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Make a function that names the nearest keyword where it gets one that it does not have."""
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: _P.args, **keywords: _P.kwargs) -> _T:
        for name in keywords:
            if name not in known:
                raise unknown(function.__name__, name, known)
        return function(*args, **keywords)

    return checked
