"""A stream over the content of a file that does not copy it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer


class _Content(io.RawIOBase):
    def __init__(self, content: Buffer) -> None:
        self._view = memoryview(content)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, into: Buffer) -> int:
        with memoryview(into).cast("B") as room:
            part = self._view[self._at : self._at + len(room)]
            room[: len(part)] = part
        self._at += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._view)}[whence]
        if begin + offset < 0:
            raise ValueError(f"negative seek position {begin + offset}")
        self._at = begin + offset
        return self._at

    def tell(self) -> int:
        return self._at


def open_content(content: Buffer) -> io.BufferedReader:
    """Open a binary stream over a buffer.

    Parameters
    ----------
    content : Buffer
        What is read; it stays alive as long as the stream.

    Returns
    -------
    io.BufferedReader
        A stream that can seek.
    """
    return io.BufferedReader(_Content(content))
