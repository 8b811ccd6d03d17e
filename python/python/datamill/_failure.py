"""Makes of an exception the reason that is recorded for its file, and prints its traceback once."""

from __future__ import annotations

import os
import traceback
from types import FrameType, TracebackType

from . import _engine
from ._errors import NotAvailable, Stop, WrongAnswer

_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep
_STANDARD = os.path.dirname(os.__file__) + os.sep
_INSTALLED = {"site-packages", "dist-packages"}
_OF_STREAMS = {"read", "readline", "readlines", "seek", "tell"}
_NO_FILE = "in mode `memory` there is no file at `file.filepath`: `file.path()` is a real file in every mode, `file.open()` a stream"
_ADVICE = "`file.open()` is a stream with the content, `file.path()` the path of a real file"
_LONGEST = 2000
_MOST_PLACES = 5
_printed: set[str] = set()
_MOST_PRINTED = 100


def describe(path: str, error: BaseException) -> tuple[str, str]:
    """Say what kind of failure an exception is, and why the file failed.

    Parameters
    ----------
    path : str
        Relative path of the file.
    error : BaseException
        What the function raised.

    Returns
    -------
    tuple of str
        ``"not available"``, ``"stop"`` or ``"failed"``, and the reason in one line, with the frames of the user's code.
    """
    if isinstance(error, NotAvailable):
        return "not available", _text(error)
    if isinstance(error, Stop):
        return "stop", _text(error)
    if isinstance(error, WrongAnswer):
        return "failed", _text(error)
    advise(error, path)
    begin = _of_user(error.__traceback__)
    reason = _named(error)
    if cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        reason = f"{reason}, after {_named(cause)}"
    if places := _places(begin):
        reason = f"{reason} ({', called from '.join(places)})"
    if begin is not None:
        _print_once(path, reason, error, begin)
    return "failed", plain(reason)


def advise(error: BaseException, path: str | None = None) -> None:
    """Add to an exception what to do, where the file object was taken for a path or a stream, or its path for a file."""
    if isinstance(error, FileNotFoundError) and path and isinstance(error.filename, (str, bytes)):
        named = os.fsdecode(error.filename)
        if (named == path or named.endswith(os.sep + path)) and _NO_FILE not in getattr(error, "__notes__", ()):
            error.add_note(_NO_FILE)
    is_of_stream = not isinstance(error, AttributeError) or error.name in _OF_STREAMS
    if isinstance(error, (TypeError, ValueError, AttributeError)) and "DownloadDataFile" in str(error) and is_of_stream:
        if _ADVICE not in getattr(error, "__notes__", ()):
            error.add_note(_ADVICE)


def _places(begin: TracebackType | None) -> list[str]:
    """Name the places in the user's code that led to an exception, the innermost first. The first frame is the function."""
    frames = [(frame, line) for n, (frame, line) in enumerate(traceback.walk_tb(begin)) if n == 0 or not _of_library(frame)]
    return [_place(frame, line) for frame, line in reversed(frames[-_MOST_PLACES:])]


def _of_library(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    # Cython names its sources by a path of the package's developers
    return file.startswith((_STANDARD, "<frozen ")) or file.endswith(".pyx") or not _INSTALLED.isdisjoint(file.split(os.sep))


def _place(frame: FrameType, line: int) -> str:
    return f"{os.path.basename(frame.f_code.co_filename)}:{line} in {frame.f_code.co_name}"


def _text(error: BaseException) -> str:
    return plain(str(error)) or type(error).__name__


def _named(error: BaseException) -> str:
    texts = [str(error), *map(str, getattr(error, "__notes__", []))]
    text = " ".join("; ".join(filter(None, texts)).split())
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def plain(text: str) -> str:
    """Make a text of one that UTF-8 cannot hold."""
    # a text of Python may hold halves of characters
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _of_user(trace: TracebackType | None) -> TracebackType | None:
    begin = trace
    while begin is not None and begin.tb_frame.f_code.co_filename.startswith(_OWN):
        begin = begin.tb_next
    return begin or trace


def _print_once(path: str, reason: str, error: BaseException, begin: TracebackType) -> None:
    if reason in _printed or len(_printed) >= _MOST_PRINTED:
        return
    _printed.add(reason)
    text = "".join(traceback.format_exception(type(error), error, begin))
    _engine.print_text(plain(f"{path}: {text}"))


def forget_printed() -> None:
    """Print each traceback again, in another run."""
    _printed.clear()
