"""The streams of a program whose reader has gone, as that of ``datamill reproduce … 2>&1 | head -1`` has."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO


class _Text(io.TextIOWrapper):
    """A stream that drops what nobody reads, as the programs in Rust do."""

    # not in what lies below: nothing of Python may run while the lock of the buffer is held, since the interpreter waits for
    # it when it ends
    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            drop(self)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            drop(self)
            super().flush()


def drop(stream: TextIO) -> None:
    """Let a stream go nowhere from here on, with what is left in it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def outlive() -> None:
    """Let stdout and stderr end quietly with their readers.

    Otherwise a function that prints would fail for each file, and what is left in a buffer would be an error at the end
    of the interpreter. Streams that the program has put in their place are left alone.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            continue
        # a closed stream, and one that is not of this kind, stays as it is
        with contextlib.suppress(AttributeError, OSError, ValueError):
            if not stream.isatty():
                with contextlib.suppress(BrokenPipeError):
                    stream.flush()
                ours = _Text(
                    stream.buffer, stream.encoding, stream.errors, newline="\n",
                    line_buffering=stream.line_buffering, write_through=stream.write_through,
                )  # fmt: skip
                ours.flush()
                setattr(sys, name, ours)
