"""A process that calls a function for one file after the other, as ``docs/workers.md`` says."""

from __future__ import annotations

import base64
import functools
import logging
import multiprocessing.spawn
import os
import pickle
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from . import _engine, _load

# numbers of the descriptors in a worker, from the first to the last that is its own
_INPUT, _OUTPUT, _CONTENT = 3, 4, 5


def work(packed: str) -> None:
    """Be a worker until the input ends."""
    _serve(_prepared(packed))


def keep_warm(packed: str) -> NoReturn:
    """Look after workers that are forked from here, where their code is loaded."""
    prepared: list[Callable[[], None]] = []

    def prepare() -> None:
        # what the code prints while it is loaded must not go among the answers to datamill
        answers = os.dup(1)
        os.dup2(2, 1)
        try:
            prepared.append(_prepared(packed))
            sys.stdout.flush()
        finally:
            os.dup2(answers, 1)
            os.close(answers)

    def fork(descriptors: list[int], environment: dict[str, str]) -> int:
        child = os.fork()
        if child == 0:
            _begin(descriptors, environment)
            try:
                _serve(prepared[0])
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
                code = 1
            _end(code)
        return child

    sys.exit(_engine.keep_warm(prepare, fork))


def _begin(descriptors: list[int], environment: dict[str, str]) -> None:
    """Become a worker: nothing of the process that looks after it stays."""
    os.setpgid(0, 0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    source, target, content, stdout, stderr = (os.dup(number) for number in descriptors)
    for number, place in (nothing, 0), (stdout, 1), (stderr, 2), (source, _INPUT), (target, _OUTPUT), (content, _CONTENT):
        os.dup2(number, place)
    os.closerange(_CONTENT + 1, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") > 0 else 65536)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGINT}:
        if number < signal.SIGRTMIN:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGPIPE else signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)


def _end(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            code = code or 1
    os._exit(code)


def _prepared(packed: str) -> Callable[[], None]:
    """Load the code, and make the object where it is a class. Answers what serves files with it."""
    _log_to_stderr()
    whole = pickle.loads(base64.b64decode(packed))
    multiprocessing.spawn.prepare(whole["process"])
    for name, path in whole["loaded"].items():
        _load.load_again(name, path)
    code, serving = pickle.loads(whole["packed"])
    return functools.partial(_with_object, code, serving)


def _with_object(code: Any, serving: dict[str, Any]) -> None:
    """An object of a class is made in each worker, also where these are forked."""
    logger: Any = logging.getLogger(f"datamill.{serving['name']}")
    if isinstance(code, tuple):
        made, arguments, keywords = code
        program = made(*arguments, **keywords)
        code, logger = program._code, program.logger
    _engine.serve(_that_leaves_descriptors(code), logger, **serving)


def _serve(serve: Callable[[], None]) -> None:
    for number in (_INPUT, _OUTPUT, _CONTENT):
        # programs that the function starts have no business there
        os.set_inheritable(number, False)
    serve()


def _that_leaves_descriptors(code: Callable[..., Any]) -> Callable[..., Any]:
    """The code, after whose calls stdin, stdout and stderr are there again if it closed them: the next file may print."""
    kept = [os.dup(number) for number in range(3)]

    def call(*arguments: Any) -> Any:
        try:
            return code(*arguments)
        finally:
            for number, copy in enumerate(kept):
                try:
                    os.fstat(number)
                except OSError:
                    os.dup2(copy, number)
            for name, number in ("stdout", 1), ("stderr", 2):
                if getattr(getattr(sys, name), "closed", False):
                    setattr(sys, name, open(number, "w", buffering=1, closefd=False))

    return call


def _log_to_stderr() -> None:
    """Lines of `logging` go to datamill's log, as all that is printed."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logging.root.addHandler(handler)
    logging.getLogger("datamill").setLevel(logging.INFO)
