"""A function as a program: `reproduce` and `process`."""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from . import _engine, _host, _isolate, _options, _pipes, _speech
from ._classes.console import Console
from ._errors import DatamillError, Help, SetUpError
from ._signature import require
from ._version import version_of

# the exit code at a second signal
_AT_ONCE = 130


def reproduce(
    function: Callable[..., Any],
    *,
    parser: argparse.ArgumentParser | None = None,
    name: str | None = None,
    default: Callable[[Any], Any] | None = None,
    **options: Any,
) -> _engine.Ended:
    """Call a function for each file of a topic, and send what it answers to another topic, exactly once.

    Parameters
    ----------
    function : callable
        Gets a `DownloadDataFile` and answers with a dictionary (sent as JSON), a text, bytes, or a `ReproducerMessage`.
        An exception and ``None`` mean that the file failed. It is called on several threads at once
        (``n_consumer_threads``), never on the main thread.
    parser : argparse.ArgumentParser, optional
        Options of your own. The function is then called with the file and the `argparse.Namespace` of their values.
    name : str, optional
        Name of the program. Its consumer group and its output folder are named after it, so two programs need two names.
        That of the function where it is not given; a lambda has none, and needs this.
    default : callable, optional
        Called with each object in a dictionary that `to_json` has no rule for.
    **options
        The options of the command line as keywords: ``consumer_topic_name="files"``, ``exit_at_end=True``. Without any,
        the command line of the program is read, and the program ends with its exit code.

    Returns
    -------
    Ended
        What was done, with ``exit_code`` and ``failed_files``. Without keywords, this does not return.

    Raises
    ------
    SetUpError
        An option, the configuration, the log or a folder is not as it must be.
    RunError
        The program had to stop while it worked, or the broker was away when it started; nothing is lost.
    TypeError
        An option that is not there.

    Examples
    --------
    >>> def metadata(file):
    ...     return {"lines": file.bytestring.count(b"\\n")}
    >>> datamill.reproduce(metadata, consumer_topic_name="files", producer_topic_name="metadata")  # doctest: +SKIP
    """
    return _run("reproducer", function, parser, name, options, default)


def process(
    function: Callable[..., Any],
    *,
    parser: argparse.ArgumentParser | None = None,
    name: str | None = None,
    **options: Any,
) -> _engine.Ended:
    """Call a function for each file of a topic: it stores, converts or transfers the file.

    Parameters
    ----------
    function : callable
        Gets a `DownloadDataFile` and returns nothing. An exception, raised or returned, and any other answer mean that
        the file failed. After a crash it may be called again for the same file. It is called on several threads at once
        (``n_threads``), never on the main thread.
    parser : argparse.ArgumentParser, optional
        Options of your own. The function is then called with the file and the `argparse.Namespace` of their values.
    name : str, optional
        Name of the program. Its consumer group and its output folder are named after it, so two programs need two names.
        That of the function where it is not given; a lambda has none, and needs this.
    **options
        The options of the command line as keywords: ``topic_name="files"``, ``exit_at_end=True``. Without any, the
        command line of the program is read, and the program ends with its exit code.

    Returns
    -------
    Ended
        What was done, with ``exit_code`` and ``failed_files``. Without keywords, this does not return.

    Raises
    ------
    SetUpError
        An option, the configuration, the log or a folder is not as it must be.
    RunError
        The program had to stop while it worked, or the broker was away when it started; nothing is lost.
    TypeError
        An option that is not there.

    Examples
    --------
    >>> def store(file):
    ...     Path("copies", file.filename).write_bytes(file.bytestring)
    >>> datamill.process(store, topic_name="files")  # doctest: +SKIP
    """
    return _run("processor", function, parser, name, options)


def run_words(
    kind: str,
    function: Callable[..., Any],
    name: str,
    words: Sequence[str],
    default: Callable[[Any], Any] | None = None,
    console: bool = False,
    folder: str | None = None,
    version: str | None = None,
) -> _engine.Ended:
    """Run a function with the words of a command line.

    Parameters
    ----------
    kind : str
        ``"reproducer"`` or ``"processor"``.
    function : callable
        As `reproduce` and `process` take it.
    name : str
        Name of the program.
    words : sequence of str
        Options, without the name of the program.
    default : callable, optional
        As `reproduce` takes it.
    console : bool, default False
        Whether ``c`` and ``q`` on stdin are heard, as by a program with a command line.
    folder : str, optional
        Where the log is without a configuration; the working folder where it is not given.
    version : str, optional
        Version of the function; that of its module where it is not given.

    Returns
    -------
    Ended
        What was done.
    """
    engine = _engine.Engine(
        kind=kind,
        name=name,
        arguments=list(words),
        code=function,
        logger=logging.getLogger(f"datamill.{name}"),
        public_names=True,
        default=default,
        speak=None if console else _speech.of_keywords(kind),
        folder=folder,
        version=version or version_of(function),
        worker=functools.partial(_isolate.worker, function),
    )
    typed = Console(lambda line: _obey(engine, line), ends_by_itself=engine.ends_by_itself) if console else None
    with typed or contextlib.nullcontext():
        return _host.run(engine)


def _obey(engine: _engine.Engine, line: str) -> bool:
    """Do what was typed. Answers whether more can be typed: what comes behind ``q`` is for others."""
    match line.strip().lower():
        case "c" | "check":
            engine.check()
        case "q" | "quit":
            engine.stop()
        case "":
            pass
        case other:
            _engine.log(logging.WARNING, f"`{other}` means nothing here: type `c` for the counts, `q` to stop")
    return not engine.stopping


def exit_code_of(run: Callable[[], _engine.Ended]) -> int:
    """Run something as a program: print how it ended, and say its exit code.

    Parameters
    ----------
    run : callable
        What runs.

    Returns
    -------
    int
        As the programs in Rust have them.
    """
    try:
        ended = run()
    except Help as help:
        print(str(help).rstrip("\n"))
        return 0
    except DatamillError as error:
        _host.say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        # a third one changes nothing
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        # the end of the interpreter would wait for functions that run
        _host.leave(_AT_ONCE, "left at once; what was not finished is done again at the next start")
    _host.say(ended.summary)
    return ended.exit_code


def _run(
    kind: str,
    function: Callable[..., Any],
    parser: argparse.ArgumentParser | None,
    name: str | None,
    options: dict[str, Any],
    default: Callable[[Any], Any] | None = None,
) -> _engine.Ended:
    if not callable(function):
        raise TypeError(f"a function is needed, not {function!r}")
    caller = "reproduce" if kind == "reproducer" else "process"
    if isinstance(function, type) and hasattr(function, "run_from_command_line"):
        raise TypeError(f"{caller}() calls a function, and `{function.__name__}` is the class of a program: run it with "
                        f"`{function.__name__}.run_from_command_line()`, or make an object of it and call its method")
    if options and parser is not None:
        raise TypeError(f"{caller}(): `parser` is for programs with a command line: leave out the other keywords")
    if not options and "ipykernel" in sys.modules:
        raise TypeError(f"{caller}() without keywords reads the command line of a program, and a notebook has none: give the "
                        "options as keywords, as in topic_name=\"files\"")

    def checked_name() -> str:
        require(function, ["file"] if parser is None else ["file", "options"])
        return name or name_of(function)

    if options:
        words = _options.words_of_keywords(kind, options, caller)
        return run_words(kind, function, checked_name(), words, default)

    def run() -> _engine.Ended:
        named, words, code = checked_name(), sys.argv[1:], function
        if parser is not None:
            words, values = _options.split(parser, kind, words)
            code = functools.partial(_with_values, function, values)
        return run_words(kind, code, named, words, default, console=True, version=version_of(function))

    _pipes.outlive()
    sys.exit(exit_code_of(run))


def _with_values(function: Callable[..., Any], values: argparse.Namespace, file: _engine.DownloadDataFile) -> Any:
    return function(file, values)


def name_of(function: Any) -> str:
    """Name of the program that a function is.

    Raises
    ------
    SetUpError
        It has no name of its own.
    """
    while isinstance(function, functools.partial):
        function = function.func
    name = str(getattr(function, "__name__", None) or type(function).__name__)
    if not name.isidentifier():
        what = "a lambda" if name == "<lambda>" else f"`{name}`"
        raise SetUpError(
            f"{what} gives the program no name: say `name=\"…\"`. The consumer group and the output folder are named "
            "after it, so each program needs its own"
        )
    return name
