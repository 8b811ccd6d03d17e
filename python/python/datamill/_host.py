"""Runs an engine in this interpreter: threads, signals, what is printed, and the end of the interpreter.

The interpreter is the host. A run takes over no signal that the program has a handler for, gives back what it took, and
leaves the process to Python; what it cannot leave is a function that never ends.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import logging
import os
import re
import signal
import stat
import sys
import tempfile
import threading
import time
from types import FrameType
from typing import Any, NoReturn, overload

from . import _engine, _failure, _pipes, _prompts
from ._errors import DatamillError, RunError, SetUpError

_LOOK_EVERY = 0.2
# what a function may take to end when the interpreter does, where the run broke off and gave it no time
_LAST_WAIT = 10.0
# the same where the run has waited for it
_NOTICED_WITHIN = 0.5
# what may be printed at the end takes no longer
_FLUSHED_WITHIN = 5.0
_HANGING = 5
_AT_ONCE = 130
_FORKED = 70
# not on Windows
_HANG_UP = getattr(signal, "SIGHUP", None)

_lock = threading.Lock()
_runs: list[_Run] = []
_handlers: list[_Signals] = []
_print_lock = threading.Lock()
_forks = threading.local()
# whether this process was forked from one with an engine, and has none of its own
_is_child = False


@overload
def run(engine: _engine.Engine, n_threads: int | None = None) -> _engine.Ended: ...
@overload
def run(engine: _engine.Sending) -> _engine.Uploaded: ...
def run(engine: Any, n_threads: int | None = None) -> Any:
    """Run an engine to its end, from whatever thread.

    Parameters
    ----------
    engine : Engine or Sending
        What has not been started.
    n_threads : int, optional
        Threads that call the function; as the options say where it is not given. To send calls none.

    Returns
    -------
    Ended or Uploaded
        What was done.

    Raises
    ------
    SetUpError, RunError
        The run could not start, or not go on. In a notebook or at a prompt, also where a function takes longer than its
        time: the process would take the session with it.
    KeyboardInterrupt
        A second Ctrl-C. What runs goes on until it is done, or the interpreter ends.
    """
    global _is_child
    _is_child = False
    this = _Run(engine, n_threads)
    if this.threads:
        _failure.forget_printed()
    try:
        with _lock:
            _register_at_exit()
            _forget_ended()
            _runs.append(this)
        with _Signals(engine), _Logging(), _Printing(engine), _prompts.one_at_a_time():
            try:
                this.start()
                while not engine.wait(_LOOK_EVERY):
                    _print(engine)
                    this.look()
            except BaseException:
                engine.stop()
                raise
        if paths := this.hanging:
            _end_hanging(this, paths)
        this.join(_NOTICED_WITHIN)
        try:
            return engine.end()
        except SetUpError as error:
            if still := _left_by_others(this):
                raise SetUpError(f"{still} {error}", error.exit_code) from None
            raise
    finally:
        this.is_over.set()
        with _lock:
            _forget_ended()


def _left_by_others(this: _Run) -> str:
    """What runs before this one left running, which may be what keeps it from starting."""
    with _lock:
        left = [f"`{path}` in thread `{name}`" for other in _runs if other is not this for name, path in other.working]
    if not left:
        return ""
    return (
        f"a run before this one was left, and its function still runs for {', '.join(left)}. Wait until the function ends, or "
        f"end this process ({'restart the kernel' if _is_interactive() else 'Ctrl-C'}): Python cannot end a thread. What is "
        "committed stays, and the file is read again. What this keeps from starting:"
    )


def _is_interactive() -> bool:
    """Whether the process is a session of somebody who types: a notebook, or a prompt."""
    return "ipykernel" in sys.modules or hasattr(sys, "ps1")


def _forget_ended() -> None:
    _runs[:] = [this for this in _runs if not this.is_over.is_set() or this.is_alive()]


class _Run:
    """An engine and the threads that call the function for it, or what is sent, which has none."""

    def __init__(self, engine: _engine.Engine | _engine.Sending, n_threads: int | None = None) -> None:
        self.engine = engine
        self.has_started = False
        self.is_told = False
        # set when the thread that waits for the run does so no longer
        self.is_over = threading.Event()
        self.threads: list[threading.Thread] = []
        if isinstance(engine, _engine.Engine) and not engine.is_isolated:
            self.threads = [
                threading.Thread(target=engine.work, args=(name,), name=name, daemon=True)
                for name in (f"datamill-{number}" for number in range(1, (n_threads or engine.n_threads) + 1))
            ]

    def start(self) -> None:
        self.engine.start()
        self.has_started = True
        for thread in self.threads:
            thread.start()

    @property
    def hanging(self) -> list[str]:
        return self.engine.hanging if isinstance(self.engine, _engine.Engine) else []

    @property
    def working(self) -> list[tuple[str, str]]:
        """Names of the threads in which the function runs, each with its file."""
        return self.engine.working if isinstance(self.engine, _engine.Engine) else []

    def join(self, seconds: float) -> bool:
        """Wait for the threads, all of them together for so long. Answers whether they have ended."""
        until = time.monotonic() + seconds
        for thread in self.threads:
            # one that has not been started cannot be waited for
            if thread.is_alive():
                thread.join(max(0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self.threads)

    def look(self) -> None:
        if not isinstance(self.engine, _engine.Engine):
            return
        if self.engine.hanging and not self.is_told:
            self.is_told = True
            _say_where_threads_are()
            self.engine.told()
        if self.threads and not any(thread.is_alive() for thread in self.threads) and not self.engine.wait(0):
            self.engine.stop(keep_place=True)

    @property
    def broke_off(self) -> bool:
        """Whether the run has ended without waiting for the function, as at a stop."""
        try:
            self.engine.end()
        except Exception:
            return True
        return False

    def is_alive(self) -> bool:
        return self.has_started and (not self.engine.wait(0) or any(thread.is_alive() for thread in self.threads))


def _print(engine: _engine.Engine | _engine.Sending) -> None:
    text = "".join(line if is_own else _spoken(engine, line) for line, is_own in _engine.take_lines())
    if not text:
        return
    with _print_lock:
        _write(text)


# where the fields of a line begin: names of files, and what the user's code said
_FIELDS = re.compile(r" [a-z_]+=")


def _spoken(engine: _engine.Engine | _engine.Sending, line: str) -> str:
    """A line of the engine, with options as the program has them. What its fields hold stays as it is."""
    if "--" not in line:
        return line
    fields = _FIELDS.search(line)
    end = fields.start() if fields else len(line)
    return engine.speak(line[:end]) + line[end:]


def _write(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except BrokenPipeError:
        # what is left in it would be an error at the end of the interpreter
        _pipes.outlive()
    except Exception:
        # a stderr that is gone, closed or the program's own stops nothing
        pass


class _Printing:
    """What the engine says is printed on `sys.stderr`, whatever that is then."""

    def __init__(self, engine: _engine.Engine | _engine.Sending) -> None:
        self.engine = engine

    def __enter__(self) -> None:
        try:
            colours = sys.stderr.isatty()
        except Exception:
            colours = False
        _engine.printing(True, colours)

    def __exit__(self, *_: object) -> None:
        _print(self.engine)
        _engine.printing(False, False)


class _Signals:
    """SIGINT, SIGTERM and SIGHUP stop the run in order, where the program has no handlers of its own."""

    def __init__(self, engine: _engine.Engine | _engine.Sending) -> None:
        self.engine = engine
        self.before: dict[int, Any] = {}

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.engine.stopping:
            # a terminal that goes away may say so twice, by its shell and by the system
            if number == _HANG_UP:
                return
            raise KeyboardInterrupt
        self.engine.stop(keep_place=number != signal.SIGINT)

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        if _HANG_UP is not None:
            # one that is ignored, as under `nohup`, stays so
            defaults[_HANG_UP] = signal.SIG_DFL
        for number, default in defaults.items():
            if signal.getsignal(number) is default:
                self.before[number] = signal.signal(number, self._stop)
        _handlers.append(self)

    def __exit__(self, *_: object) -> None:
        if self in _handlers:
            _handlers.remove(self)
        self.give_back()

    def give_back(self) -> None:
        for number, handler in self.before.items():
            if signal.getsignal(number) == self._stop:
                signal.signal(number, handler)


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = _failure.plain(self.format(record))
            if _is_child:
                # the engine is in the other process, and its locks may be held for ever in this one
                say(f"{record.levelname} {text}")
            else:
                _engine.log(record.levelno, text)
        except Exception:
            self.handleError(record)


class _Logging:
    """Lines of `logging` go where those of the engine go: all of `datamill.…`, and all others where the program has
    set up nothing else."""

    _users = 0
    _handler = _Handler()
    _on_root = False

    def __enter__(self) -> None:
        with _lock:
            _Logging._users += 1
            if _Logging._users > 1:
                return
            ours = logging.getLogger("datamill")
            ours.addHandler(self._handler)
            ours.propagate = False
            if ours.level == logging.NOTSET:
                ours.setLevel(logging.DEBUG)
            _Logging._on_root = not logging.root.handlers
            if _Logging._on_root:
                logging.root.addHandler(self._handler)

    def __exit__(self, *_: object) -> None:
        with _lock:
            _Logging._users -= 1
            if _Logging._users > 0:
                return
            ours = logging.getLogger("datamill")
            ours.removeHandler(self._handler)
            ours.propagate = True
            if _Logging._on_root:
                logging.root.removeHandler(self._handler)


def handler() -> logging.Handler:
    """What hands lines of `logging` to the engine."""
    return _Logging._handler


def prints(other: logging.Handler) -> bool:
    """Whether a handler prints lines by the engine."""
    return other is _Logging._handler


_registered = False


def _register_at_exit() -> None:
    global _registered
    if _registered:
        return
    _registered = True
    # the threads of the program are waited for before `atexit` comes: a run in one of them has to be told earlier. What
    # is registered last is called first, and executors wait for their threads there
    with contextlib.suppress(ImportError, RuntimeError):
        import concurrent.futures.thread  # noqa: F401
    early = getattr(threading, "_register_atexit", None)
    if early is not None:
        # it is refused once the interpreter ends
        with contextlib.suppress(RuntimeError):
            early(_stop_all)
    atexit.register(_drain_all)
    # what is being printed is printed to its end, or the child would wait for the lock of its stderr
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_begin_as_child)


def _before_fork() -> None:
    # a signal that comes to the child before it has its own handlers back would be lost: it waits until then
    _forks.mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    # a stderr that nobody reads holds up no fork
    _forks.holds = _print_lock.acquire(timeout=1)
    _forks.ports = _engine.status_ports()
    if _forks.ports:
        # here, where no thread holds the lock of the import for ever
        import socket  # noqa: F401


def _after_fork() -> None:
    if _forks.holds:
        _print_lock.release()
    signal.pthread_sigmask(signal.SIG_SETMASK, _forks.mask)


def _begin_as_child() -> None:
    """The engine is in the other process: nothing is to be drained here, and signals end this one as they did before."""
    global _lock, _print_lock, _is_child
    _lock = threading.Lock()
    _print_lock = threading.Lock()
    _is_child = True
    _close_status(_forks.ports)
    _runs.clear()
    _prompts.begin_as_child()
    while _handlers:
        _handlers.pop().give_back()
    signal.pthread_sigmask(signal.SIG_SETMASK, _forks.mask)


def _close_status(ports: list[int]) -> None:
    """Close the copies of the sockets that serve the status: they would keep the port when the other process has ended."""
    if not ports:
        return
    import socket

    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            is_status = False
            one = socket.socket(fileno=int(name))
            try:
                # those that were accepted have the port of the one that listens
                is_status = one.family in (socket.AF_INET, socket.AF_INET6) and one.getsockname()[1] in ports
            finally:
                one.detach()
            if is_status:
                os.close(int(name))


def _stop_all() -> None:
    for this in list(_runs):
        this.engine.stop()


def _drain_all() -> None:
    """Nothing of the engine may hold the interpreter's lock or wait for it once it ends."""
    try:
        _stop_all()
        for this in list(_runs):
            _drain(this)
    except KeyboardInterrupt:
        leave(_AT_ONCE, "left at once; what was not finished is done again at the next start")


def _drain(this: _Run) -> None:
    if this.is_alive():
        with _Printing(this.engine):
            while not this.engine.wait(_LOOK_EVERY):
                _print(this.engine)
                this.look()
        if paths := this.hanging:
            _leave_hanging(this, paths)
    if not this.join(_LAST_WAIT if this.broke_off else _NOTICED_WITHIN):
        files = ", ".join(f"`{path}`" for _, path in this.working)
        leave(_HANGING, f"error: the function still runs{' for ' if files else ''}{files} and does not end; the process ends without it")
    if not isinstance(this.engine, _engine.Engine):
        _say_what_was_not_sent(this.engine)
    if not this.is_over.wait(_LAST_WAIT):
        leave(_HANGING, "error: a run does not end; the process ends without it")


def _say_what_was_not_sent(sending: _engine.Sending) -> None:
    """Whoever began to send has left it, or ends with the process."""
    try:
        sent = sending.end()
    except DatamillError as error:
        say(f"error: {error}")
    else:
        if sent.exit_code:
            say(sent.summary)


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 file`, `12,345 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def say(text: str) -> None:
    """Print a line to stderr, whatever has become of that."""
    _write(f"{text}\n")


def _say_where_threads_are() -> None:
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        say(file.read().decode("utf-8", "replace"))


def _end_hanging(this: _Run, paths: list[str]) -> NoReturn:
    """End the process, or what was asked for where the process is a session of somebody who types."""
    if not _is_interactive():
        _leave_hanging(this, paths)
    assert isinstance(this.engine, _engine.Engine)
    this.engine.spare()
    raise RunError(
        f"{_did_not_end(this, paths)}; Python cannot end a thread, so the call goes on in this process. That was an attempt of "
        "this file. Restart the kernel, or the prompt, before you start it again: it goes on behind what is committed",
        _HANGING,
    )


def _leave_hanging(this: _Run, paths: list[str]) -> NoReturn:
    leave(_HANGING, f"error: {_did_not_end(this, paths)}; a thread cannot be ended, so the process ends. That was an attempt of "
          "this file. Start it again: it goes on behind what is committed")


def _did_not_end(this: _Run, paths: list[str]) -> str:
    named = ", ".join(f"`{path}`" for path in paths)
    return f"the function did not end for {named} within {this.engine.speak('--processing_timeout')}"


def leave(code: int, text: str = "") -> NoReturn:
    """End the process at once, with what was printed.

    Parameters
    ----------
    code : int
        The exit code.
    text : str, optional
        What is said before, on stderr.
    """
    # nobody may read what is printed, and a thread that prints may hold the lock of the stream
    with contextlib.suppress(Exception):
        _engine.leave_within(_FLUSHED_WITHIN, code, "error: nobody reads what was printed; the process ends without the rest\n")
    if text:
        say(text)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def leave_forked_process(error: BaseException | None) -> NoReturn:
    """End a process that was forked by the function and has come back from it.

    Parameters
    ----------
    error : BaseException or None
        What it came back with; a `SystemExit` says the exit code.
    """
    if isinstance(error, SystemExit):
        code = error.code
        leave(code if isinstance(code, int) else 0 if code is None else 1)
    leave(_FORKED, f"error: process {os.getpid()} was forked in the function and has come back from it; it ends here, since "
          "the engine is in the other one. End it with os._exit()")
