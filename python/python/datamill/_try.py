"""``datamill try``: a function on local files."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from . import _engine, _host, _pipes
from ._errors import NotAvailable, SetUpError, Stop, WrongAnswer
from ._load import told

# what the program adds to a result at most: its key and its headers
_ADDED = 4_096
# what a topic takes, in bytes: of Kafka unless it is set otherwise, and of the embedded log
_KAFKA_TAKES = 1_048_588 - _ADDED
_EMBEDDED_TAKES = _engine.EMBEDDED_TAKES - _ADDED


class File(NamedTuple):
    """A file as it was named, and where it is whatever the working folder becomes."""

    named: str
    path: str


def found(files: Sequence[str]) -> list[File]:
    """Look for the files of a command line.

    Parameters
    ----------
    files : sequence of str
        Their paths.

    Returns
    -------
    list of File
        The files.

    Raises
    ------
    SetUpError
        Where one of them is not there.
    """
    for file in files:
        if os.path.isdir(file):
            raise SetUpError(f"`{file}` is a folder: name the files in it")
        if not os.path.exists(file):
            raise SetUpError(f"there is no file `{file}`: check the path")
    return [File(file, os.path.abspath(file)) for file in files]


class Trial:
    """Calls a function for local files as the engine would, prints what comes of it, and counts.

    Parameters
    ----------
    function : callable
        As `reproduce` and `process` take it.
    nan : str, default "null"
        What becomes of NaN in a dictionary, as `to_json` takes it.
    """

    def __init__(self, function: Callable[[_engine.DownloadDataFile], Any], nan: str = "null") -> None:
        self._function = function
        self._nan = nan
        self._logger = logging.getLogger(f"datamill.{getattr(function, '__name__', 'function')}")
        self._output_dir = f"{getattr(function, '__name__', 'function')}_output"
        self._results = self._without = self._failed = self._held = 0
        self._is_stopped = False
        self._broken: Exception | None = None

    def run(self, files: Sequence[File]) -> int:
        """Call it for each of the files.

        Parameters
        ----------
        files : sequence of File
            The files.

        Returns
        -------
        int
            The exit code: 1 where the function failed for a file, or a file was not tried.
        """
        logging.basicConfig(level=logging.INFO, format="%(levelname)-7s %(message)s")
        # the engine never calls a function on the main thread
        thread = threading.Thread(target=self._live, args=(files,), name="datamill-1", daemon=True)
        thread.start()
        try:
            thread.join()
        except KeyboardInterrupt:
            _host.leave(130, "left at once")
        return self._end(len(files))

    def _live(self, files: Sequence[File]) -> None:
        try:
            for file in files:
                self._try(file)
                if self._is_stopped:
                    break
        except Exception as error:  # whatever stdout raises
            self._broken = error

    def _try(self, file: File) -> None:
        begin = time.perf_counter()
        try:
            result = _engine.try_file(self._function, self._logger, file.path, self._nan, self._output_dir)
        except WrongAnswer as error:
            self._fail(file.named, f"failed: {error}")
        except NotAvailable as error:
            self._held += 1
            _say(f"{file.named}: not available: {error}. A program holds here, and calls the function again for this file, until "
                 "it does not raise NotAvailable")
        except Stop as error:
            self._is_stopped = True
            _say(f"{file.named}: stop: {error}. A program ends here with exit code 3, and its next start begins with this file")
        except BaseException as error:  # whatever the function raises
            self._fail(file.named, f"failed:\n{told(error, os.path.basename(file.path))}")
        else:
            self._succeed(file.named, result, time.perf_counter() - begin)

    def _end(self, n_files: int) -> int:
        parts = ((self._results, "with a result"), (self._without, "without a result"), (self._failed, "failed"),
                 (self._held, "not available"))
        if sum(count for count, _ in parts) > 1:
            _say(", ".join(f"{count} {what}" for count, what in parts if count))
        if self._without:
            _say("a function that answers with None is one for `datamill process`; for `datamill reproduce`, the file fails")
        left = n_files - sum(count for count, _ in parts)
        if left:
            why = f", since a result could not be printed: {self._broken!r}" if self._broken else ""
            why = ", since the function said stop" if self._is_stopped else why
            _say(f"error: {left} of the files not done{why}")
        return 1 if self._failed or self._held or left else 0

    def _fail(self, file: str, why: str) -> None:
        self._failed += 1
        _say(f"{file}: {why}")

    def _succeed(self, file: str, result: tuple[bytes, int] | None, seconds: float) -> None:
        if result is None:
            self._without += 1
            _say(f"{file}: no result, in {seconds:.3f} s")
            return
        value, nans = result
        if len(value) > _EMBEDDED_TAKES:
            most = f"{_EMBEDDED_TAKES / 1e6:.1f} MB"
            self._fail(file, f"failed: {_size(value)}, and a topic of the embedded log takes {most}: return less")
            return
        null = f"; NaN, infinite or missing values that became null: {nans}" if nans and self._nan == "null" else ""
        _say(f"{file}: {_host.counted(len(value), 'byte')}, in {seconds:.3f} s{null}")
        if len(value) > _KAFKA_TAKES:
            _say(
                f"{file}: {_size(value)}. The embedded log takes that; a topic of Kafka takes 1 MB, after compression, unless "
                "its `max.message.bytes` is larger"
            )
        _put(value)
        self._results += 1


def _size(value: bytes) -> str:
    entry = _engine.largest_entry(value)
    largest = f", its largest entry `{entry[0]}` has {entry[1] / 1e6:.1f} MB" if entry else ""
    return f"the result has {len(value) / 1e6:.1f} MB{largest}"


def _put(value: bytes) -> None:
    """Print a result to stdout."""
    try:
        value.decode()
    except UnicodeDecodeError:
        value = f"({_host.counted(len(value), 'byte')} that {'is' if len(value) == 1 else 'are'} not text)".encode()
    sys.stdout.flush()
    try:
        sys.stdout.buffer.write(value + b"\n")
    except BrokenPipeError:
        # who read it has had enough, and that is success
        _pipes.drop(sys.stdout)
    sys.stdout.flush()


def _say(text: str) -> None:
    # a stdout that is broken is found where a result is printed
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    _host.say(text)
