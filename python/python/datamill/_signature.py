"""Whether the engine can call a function, looked at before the program starts."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ._errors import SetUpError


def require(function: Callable[..., Any], parameters: Sequence[str], where: str = "") -> None:
    """Refuse a function that fails for every file, since it takes other parameters or does not run when it is called.

    Parameters
    ----------
    function : callable
        What is called.
    parameters : sequence of str
        Names for what it is called with, by position.
    where : str, optional
        Where it is, for messages.

    Raises
    ------
    SetUpError
        It cannot be called so; the text shows the signature that is expected.
    """
    code, is_bound = _code(function)
    name = getattr(code, "__name__", type(function).__qualname__)
    named = f"`{name}`{where}"
    if inspect.iscoroutinefunction(code) or inspect.isasyncgenfunction(code):
        raise SetUpError(f"{named} is asynchronous: write `def` in place of `async def`")
    if inspect.isgeneratorfunction(code):
        raise SetUpError(f"{named} has a `yield`, so calling it runs nothing: return the result")
    try:
        # as it is called: what a decorator has around it counts, and not what is within
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        # written in C, and it does not say
        return
    try:
        signature.bind(*parameters)
    except TypeError:
        shown = inspect.signature(getattr(code, "__func__", code)) if is_bound else signature
        wanted = ", ".join(["self", *parameters] if is_bound else parameters)
        write = f"lambda {wanted}: …" if name == "<lambda>" else f"def {name}({wanted})"
        called = "one argument" if len(parameters) == 1 else f"{len(parameters)} arguments"
        raise SetUpError(f"{named} has the parameters `{shown}` and is called with {called}: write `{write}`"
                         + (_with_parser(name, signature) if parameters == ["file"] else "")) from None


def _with_parser(name: str, signature: inspect.Signature) -> str:
    """What to do about a second parameter for the options of a parser, which only the script itself reads."""
    others = list(signature.parameters.values())[1:]
    if [other.default for other in others] != [inspect.Parameter.empty]:
        return ""
    if others[0].kind == inspect.Parameter.KEYWORD_ONLY:
        return f", or give `{others[0].name}` a default"
    return (f". If `{others[0].name}` are the values of `parser=…`, run the file as a script, or give them a default: "
            f"`def {name}(file, {others[0].name}=parser.parse_args([]))`")


def _code(function: Callable[..., Any]) -> tuple[Any, bool]:
    """What runs, without arguments that are bound to it, and whether it has the object that it belongs to."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function):
        return function, inspect.ismethod(function)
    return type(function).__call__, True
