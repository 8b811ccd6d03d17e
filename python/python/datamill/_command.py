"""The command ``datamill`` of the package."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import platform
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from . import _engine, _host, _isolate, _pipes
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
    _pipes.outlive()
    words = list(sys.argv[1:] if words is None else words)
    asked = _engine.parse_command(_program(), _edition(), _isolate.keeper(), words)
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
        _host.say(f"error: {error}")
        return error.exit_code


def _run(asked: _engine.FunctionCommand) -> int:
    from . import _functions, _options
    from ._load import load
    from ._try import Trial, found

    # before the user's module is loaded, which may go to another folder
    files, here = found(asked.files), _folder()
    function, name = load(asked.function)
    if asked.what == "try":
        if inspect.isclass(function):
            raise SetUpError(f"`{name}` is a class, and `datamill try` takes a function")
        nans = [word.removeprefix("--nan=") for word in asked.options if word.startswith("--nan=")]
        return Trial(function, *nans).run(files)
    if inspect.isclass(function):
        _require_kind(function, name, asked)
    elif asked.refusal is not None:
        raise SetUpError(asked.refusal.removeprefix("error: ").rstrip("\n"))
    words, folder = (asked.own if inspect.isclass(function) else asked.options), None
    if here is not None and here != _folder():
        words, folder = _options.meant_in(here, words), here
        if not any(word.partition("=")[0] in ("--output_dir", "--output-dir") for word in words):
            output = getattr(function, "_get_auto_output_dir", lambda: f"{name}_output")()
            words.append(f"--output_dir={os.path.join(here, output)}")
    if inspect.isclass(function):
        return _run_class(function, words, folder)
    kind = "reproducer" if asked.what == "reproduce" else "processor"
    run = functools.partial(_functions.run_words, kind, function, name, words, console=True, folder=folder)
    return _functions.exit_code_of(run)


def _require_kind(program: type[Any], name: str, asked: _engine.FunctionCommand) -> None:
    """Refuse a class that is no program, or one for the other command."""
    if not hasattr(program, "run_from_command_line"):
        raise SetUpError(f"`{name}` is a class without `run_from_command_line`: name a function")
    file = asked.function.rpartition(":")[0] or asked.function
    kind = getattr(program, "_KIND", None)
    if kind is None:
        raise SetUpError(f"`{name}` runs no function on the files of a topic: run it as a script, `python {shlex.quote(file)}`")
    right = "reproduce" if kind == "reproducer" else "process"
    if right == asked.what:
        return
    topic = shlex.quote(_value(asked.own, "consumer_topic_name") or _value(asked.own, "topic_name") or "TOPIC")
    does = "sends a result for each file" if right == "reproduce" else "acts on each file and sends no results"
    topics = f"--consumer_topic_name {topic} --producer_topic_name RESULTS" if right == "reproduce" else f"--topic_name {topic}"
    raise SetUpError(f"`{name}` is a {'reproducer' if right == 'reproduce' else 'processor'}, which {does}: run it with "
                     f"`datamill {right} {shlex.quote(asked.function)} {topics}`")


def _value(words: Sequence[str], option: str) -> str | None:
    """The value that a command line gives to an option, by its whole name."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name.startswith("--") and name.removeprefix("--").replace("-", "_") == option:
            return value if equals else following
    return None


def _run_class(program: type[Any], words: Sequence[str], folder: str | None) -> int:
    from ._classes import defaults

    defaults.begin_in(folder)
    # what is wrong with the words is said with the script whose `--help` lists all options
    sys.argv[0] = sys.modules[program.__module__].__file__ or sys.argv[0]
    program.run_from_command_line(list(words))
    return 0


def _folder() -> str | None:
    """The working folder, unless it is gone."""
    try:
        return os.getcwd()
    except OSError:
        return None


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
