"""The command ``datamill`` of the package."""

from __future__ import annotations

import contextlib
import inspect
import os
import platform
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from . import _engine
from ._errors import DatamillError, SetUpError


def main(words: Sequence[str] | None = None, *, is_here: bool = False) -> int:
    """Run the command ``datamill``.

    Parameters
    ----------
    words : sequence of str, optional
        The command line without its first word. Without it, that of the process.
    is_here : bool, default False
        Whether ``--python`` has led to this interpreter.

    Returns
    -------
    int
        The exit code.
    """
    asked = _engine.parse_command(_program(), _edition(), list(sys.argv[1:] if words is None else words))
    if isinstance(asked, int):
        return asked
    if isinstance(asked, _engine.RustCommand):
        with _signals_of_rust():
            return asked.run()
    if asked.python is not None and not is_here:
        return asked.run_elsewhere()
    try:
        return _run(asked)
    except DatamillError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _run(asked: _engine.FunctionCommand) -> int:
    from . import _functions
    from ._load import load
    from ._try import try_files

    function = load(asked.function)
    if inspect.isclass(function):
        return _run_class(function, asked)
    if asked.what == "try":
        nans = [word.removeprefix("--nan=") for word in asked.options if word.startswith("--nan=")]
        return try_files(function, asked.files, *nans)
    kind = "reproducer" if asked.what == "reproduce" else "processor"
    name = _functions.name_of(function)
    return _functions.exit_code_of(lambda: _functions.run_words(kind, function, name, asked.options, console=True))


def _run_class(program: type[Any], asked: _engine.FunctionCommand) -> int:
    if asked.what == "try":
        raise SetUpError(f"`{program.__name__}` is a class, and `datamill try` takes a function")
    if not hasattr(program, "run_from_command_line"):
        raise SetUpError(f"`{program.__name__}` is a class without `run_from_command_line`: name a function")
    program.run_from_command_line(asked.options)
    return 0


def _program() -> str:
    """What calls this command again."""
    first = sys.argv[0] or "datamill"
    if os.path.basename(first) in ("__main__.py", "_here.py"):
        return f"{shlex.quote(sys.executable)} -m datamill"
    return shlex.quote(first)


def _edition() -> str:
    return f"Python package, {platform.python_implementation()} {platform.python_version()}"


@contextlib.contextmanager
def _signals_of_rust() -> Iterator[None]:
    """Leaves SIGINT to the command: Python would raise KeyboardInterrupt when it is over."""
    try:
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            raise ValueError("somebody else's")
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    except ValueError:
        # also where this is not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
