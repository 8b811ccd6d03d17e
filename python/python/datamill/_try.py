"""``datamill try``: a function on local files."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from . import _engine, _host
from ._errors import SetUpError, WrongAnswer
from ._load import told

# what a topic of Kafka takes unless it is set otherwise, in bytes, less what the program adds to a result
_LARGEST = 1_000_000


def try_files(function: Callable[[_engine.DownloadDataFile], Any], files: Sequence[str], nan: str = "null") -> int:
    """Call a function for local files as the engine would, and print what comes of it.

    Parameters
    ----------
    function : callable
        As `reproduce` and `process` take it.
    files : sequence of str
        Paths of the files.
    nan : str, default "null"
        What becomes of NaN in a dictionary, as `to_json` takes it.

    Returns
    -------
    int
        The exit code: 1 where the function failed for a file, or a file was not tried.

    Raises
    ------
    SetUpError
        Where one of the files is not there.
    """
    for file in files:
        if os.path.isdir(file):
            raise SetUpError(f"`{file}` is a folder: name the files in it")
        if not os.path.exists(file):
            raise SetUpError(f"there is no file `{file}`: check the path")
    logging.basicConfig(level=logging.INFO, format="%(levelname)-7s %(message)s")
    trial = _Trial(function, nan)
    # the engine never calls a function on the main thread
    thread = threading.Thread(target=trial.run, args=(files,), name="datamill-1", daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        _host.leave(130, "left at once")
    return trial.end(len(files))


class _Trial:
    """Calls a function, prints what comes of it, and counts."""

    def __init__(self, function: Callable[[_engine.DownloadDataFile], Any], nan: str) -> None:
        self._function = function
        self._nan = nan
        self._logger = logging.getLogger(f"datamill.{getattr(function, '__name__', 'function')}")
        self._results = self._without = self._failed = 0
        self._broken: Exception | None = None

    def run(self, files: Sequence[str]) -> None:
        try:
            self._try(files)
        except Exception as error:  # whatever stdout raises
            self._broken = error

    def _try(self, files: Sequence[str]) -> None:
        for file in files:
            begin = time.perf_counter()
            try:
                result = _engine.try_file(self._function, self._logger, file, self._nan)
            except WrongAnswer as error:
                self._fail(file, f"failed: {error}")
            except BaseException as error:  # whatever the function raises
                self._fail(file, f"failed:\n{told(error)}")
            else:
                self._succeed(file, result, time.perf_counter() - begin)

    def end(self, n_files: int) -> int:
        parts = ((self._results, "with a result"), (self._without, "without a result"), (self._failed, "failed"))
        if sum(count for count, _ in parts) > 1:
            _say(", ".join(f"{count} {what}" for count, what in parts if count))
        if self._without:
            _say("a function that answers with None is one for `datamill process`; for `datamill reproduce`, the file fails")
        left = n_files - self._results - self._without - self._failed
        if left:
            why = f", since a result could not be printed: {self._broken!r}" if self._broken else ""
            _say(f"error: {left} of the files not done{why}")
        return 1 if self._failed or left else 0

    def _fail(self, file: str, why: str) -> None:
        self._failed += 1
        _say(f"{file}: {why}")

    def _succeed(self, file: str, result: tuple[bytes, int] | None, seconds: float) -> None:
        if result is None:
            self._without += 1
            _say(f"{file}: no result, in {seconds:.3f} s")
            return
        value, nans = result
        if len(value) > _LARGEST:
            entry = _engine.largest_entry(value)
            largest = f", its largest entry `{entry[0]}` {entry[1] / 1e6:.1f} MB" if entry else ""
            self._fail(
                file,
                f"failed: the result has {len(value) / 1e6:.1f} MB{largest}, and a topic takes 1 MB: return less, or raise "
                "`max.message.bytes` of the topic for results",
            )
            return
        null = f"; NaN or infinite values that became null: {nans}" if nans and self._nan == "null" else ""
        _say(f"{file}: {len(value)} bytes, in {seconds:.3f} s{null}")
        _put(value)
        self._results += 1


def _put(value: bytes) -> None:
    """Print a result to stdout."""
    try:
        value.decode()
    except UnicodeDecodeError:
        value = f"({len(value)} bytes that are not text)".encode()
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(value + b"\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # who read it has had enough, and that is success
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str) -> None:
    # a stdout that is broken is found where a result is printed; a stderr that is broken stops nothing
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(Exception):
        print(text, file=sys.stderr, flush=True)
