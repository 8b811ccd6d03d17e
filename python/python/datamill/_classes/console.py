"""`c` and `q` on stdin of a running program.

The reader takes whole lines, and only while nobody else wants them: it rests during `input()`, by which the debugger
reads too, and ends with the run. It reads the file descriptor and never holds the lock of `sys.stdin`, which a forked
child would wait for without end.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable

from .. import _prompts

#: Seconds between two looks at whether the run has ended.
_LOOK_EVERY = 0.2
_STDIN = 0


class Console:
    """Reads lines from stdin while a run lasts.

    Parameters
    ----------
    obey
        Called with each line, on the thread of the reader. Answers whether there is more to be heard.
    ends_by_itself
        The run does not wait for `q`. Then it hears a terminal alone: another stdin may belong to the loop of a shell that
        starts the program for each line of a list.
    """

    def __init__(self, obey: Callable[[str], bool], *, ends_by_itself: bool) -> None:
        self._obey = obey
        self._hears = not ends_by_itself or _is_there() and os.isatty(_STDIN)
        self._ended = threading.Event()
        self._asking = _prompts.one_at_a_time()
        self._thread = threading.Thread(target=self._read, name="datamill-console", daemon=True)

    def __enter__(self) -> Console:
        self._asking.__enter__()
        if self._hears:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._asking.__exit__(None, None, None)
        if self._hears:
            self._thread.join(10 * _LOOK_EVERY)

    def _read(self) -> None:
        try:
            while (line := self._line()) is not None and self._obey(line):
                pass
        except OSError:
            # stdin was closed, or is no file that can be waited for
            pass

    def _line(self) -> str | None:
        """The next line; `None` at the end of the run or of stdin."""
        line = b""
        while self._waits():
            with _prompts.resting() as resting:
                if not resting or not _is_there() or not _is_ready(0):
                    continue
                # one character at a time: what comes behind the line is left to others
                character = os.read(_STDIN, 1)
            if not character:
                return None
            if character == b"\n":
                return line.decode(errors="replace")
            line += character
        return None

    def _waits(self) -> bool:
        while not self._ended.is_set() and _is_there():
            if not _prompts.are_asked() and _is_in_front() and _is_ready(_LOOK_EVERY):
                return True
            if _prompts.are_asked() or not _is_in_front():
                self._ended.wait(_LOOK_EVERY)
        return False


def _is_there() -> bool:
    """Whether the program has its stdin: where it was closed, the descriptor may be that of any file or connection."""
    return sys.__stdin__ is not None and not sys.__stdin__.closed


def _is_ready(seconds: float) -> bool:
    return bool(select.select([_STDIN], [], [], seconds)[0])


def _is_in_front() -> bool:
    """Whether the program may read: the system stops one that reads from its terminal in the background."""
    return not os.isatty(_STDIN) or os.tcgetpgrp(_STDIN) == os.getpgrp()
