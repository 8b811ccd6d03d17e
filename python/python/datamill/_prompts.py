"""`input()` while runs last, and with it the debugger: one prompt at a time.

Calls of one function overlap, so two of them may come to a `breakpoint()` at the same moment. The debugger asks by
`input()`. Who asks first keeps the prompt, and other threads wait with theirs: until it has its line, and, where it is
the debugger, until that is told to go on (`c`). `sys.breakpointhook` stays as it is, so the debugger opens in the frame
that calls it.
"""

from __future__ import annotations

import builtins
import contextlib
import linecache
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_LOOK_EVERY = 0.1
_DEBUGGER = ("bdb", "cmd", "pdb")


class _Prompts:
    def __init__(self) -> None:
        # the debugger may ask while it goes through `input()` itself
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._watchers = 0
        self._asking = 0
        self._owner: int | None = None
        self._owner_asks = 0
        self._before: Callable[..., str] | None = None
        self._ours: Callable[..., str] | None = None

    def watch(self) -> None:
        with self._lock:
            self._watchers += 1
            if self._watchers == 1:
                self._before = builtins.input
                builtins.input = self._ours = self._wrapped(self._before)

    def leave(self) -> None:
        with self._lock:
            self._watchers -= 1
            # unless somebody has put something else there meanwhile
            if self._watchers == 0 and self._before is not None and builtins.input is self._ours:
                builtins.input = self._before

    def are_asked(self) -> bool:
        return self._asking > 0

    @contextlib.contextmanager
    def resting(self) -> Iterator[bool]:
        with self._lock:
            yield self._asking == 0

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        me = threading.get_ident()
        has_waited = False
        with self._changed:
            self._asking += 1
            while self._owner not in (None, me) and (self._owner_asks or _is_debugged(self._owner)):
                has_waited = True
                self._changed.wait(_LOOK_EVERY)
            self._owner = me
            self._owner_asks += 1
        try:
            if has_waited:
                _say_where()
            yield
        finally:
            with self._changed:
                self._asking -= 1
                self._owner_asks -= 1
                self._changed.notify_all()

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._turn():
                return function(*args, **kwargs)

        wrapped.__name__ = getattr(function, "__name__", "input")
        wrapped.__doc__ = function.__doc__
        return wrapped


def _is_debugged(thread: int | None) -> bool:
    """Whether a debugger stops in a thread again, before the call that it is in ends.

    It leaves its marks on the frames. That on the outermost one stays for ever, and so do those on the frames of a thread
    that waits for its next call.
    """
    frame = sys._current_frames().get(thread or 0)
    while frame is not None and frame.f_back is not None and frame.f_globals.get("__name__") != "threading":
        if frame.f_trace is not None:
            return True
        frame = frame.f_back
    return False


def _say_where() -> None:
    """Show where the debugger stands, since what it said of that is far above."""
    frame: FrameType | None = sys._getframe()
    names = []
    while frame is not None and (name := frame.f_globals.get("__name__")) in (__name__, "contextlib", *_DEBUGGER):
        names.append(name)
        frame = frame.f_back
    if frame is None or names[-1] not in _DEBUGGER:
        # somebody else's question says by itself what it asks
        return
    code = frame.f_code
    line = linecache.getline(code.co_filename, frame.f_lineno).strip()
    with contextlib.suppress(OSError, ValueError):
        print(f"> {code.co_filename}({frame.f_lineno}){code.co_name}(), {threading.current_thread().name}\n-> {line}")


_prompts = _Prompts()


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let one thread at a time ask, until this is left."""
    prompts = _prompts
    prompts.watch()
    try:
        yield
    finally:
        prompts.leave()


def are_asked() -> bool:
    """Whether somebody asks, or waits for that."""
    return _prompts.are_asked()


def resting() -> contextlib.AbstractContextManager[bool]:
    """Hold questions back for a moment. Answers whether nobody asks."""
    return _prompts.resting()


def begin_as_child() -> None:
    """Let a forked process ask: those who asked are in the other one."""
    global _prompts
    if _prompts._before is not None and builtins.input is _prompts._ours:
        builtins.input = _prompts._before
    _prompts = _Prompts()
