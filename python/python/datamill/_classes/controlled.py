"""What running programs share: they are steered from other threads, by the console and by a queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from .. import _host
from .._errors import DatamillError
from .console import Console
from .logger import LogOwner

#: Beginning of the names of threads that the package makes.
OWN_THREADS = "datamill-"


class Steered(Protocol):
    """What runs, as far as it can be steered."""

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop, by whomever."""

    @property
    def ends_by_itself(self) -> bool:
        """Whether it ends without being asked to."""

    def stop(self) -> None:
        """Asks for an orderly stop."""

    def check(self) -> None:
        """Asks for a line about the state."""


_Run = TypeVar("_Run", bound=Steered)


@contextmanager
def ended_by_errors() -> Iterator[None]:
    """What keeps a program with a command line from going on ends it, with a sentence and the exit code."""
    try:
        yield
    except DatamillError as error:
        # the sentence says what to do; a traceback would hide it
        _host.say("\n".join([f"error: {error}", *getattr(error, "__notes__", ())]))
        raise SystemExit(error.exit_code) from None


class CommandQueue(queue.Queue[str]):
    """Takes commands as the console does. What is put while nothing runs is done when the run begins."""

    def __init__(self) -> None:
        super().__init__()
        self._obey: Callable[[str], bool] | None = None

    def put(self, item: str, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._pass_on()

    def hand_to(self, obey: Callable[[str], bool] | None) -> None:
        """Gives commands to this function from here on, or keeps them."""
        self._obey = obey
        self._pass_on()

    def _pass_on(self) -> None:
        while (obey := self._obey) is not None:
            try:
                command = self.get_nowait()
            except queue.Empty:
                return
            obey(command)


class ControlledProcess(LogOwner):
    """A program that runs until it is stopped."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.control_command_queue = CommandQueue()
        self.__stopping = False
        self.__thread: threading.Thread | None = None
        self.__running: Steered | None = None
        self.__has_run = False
        self.__only_run = threading.Lock()
        self.__over = threading.Event()
        self.__over.set()

    @property
    def alive(self) -> bool:
        """Whether the program runs and was not told to stop."""
        running = self.__running
        return running is not None and not self.__stopping and not running.stopping

    def shutdown(self) -> None:
        """Tells the program to stop: what its function works on is finished and recorded. Does not wait.

        Where it does not run, the next run stops as soon as it begins.
        """
        # `_steering` does the same two steps the other way round, so that one of the two sees the other
        self.__stopping = True
        if (running := self.__running) is not None:
            running.stop()

    def close(self) -> None:
        """Stops the program if it runs in another thread, waits until it has ended, and closes the log file.

        It can be called any number of times. An object that has not run yet stops as soon as its first run begins; one
        that has run can run again.
        """
        if self.__thread is not None or not self.__has_run:
            self.shutdown()
        if self.__thread is not None:
            caller = threading.current_thread()
            if caller is not self.__thread and not caller.name.startswith(OWN_THREADS):
                self.__over.wait()
        self.logger.close()

    def _on_check(self) -> None:
        """Runs when `c` is typed. Override it to say more; call `super()._on_check()`."""
        if self.__running is not None:
            self.__running.check()

    def _on_shutdown(self) -> None:
        """Runs when all work is done, on the thread of the run method. Override it to clean up."""

    def _obey(self, line: str) -> bool:
        """Does what was typed. Answers whether more can be typed: what comes behind `q` is for others."""
        command = line.strip().lower()
        if command in ("c", "check"):
            self._on_check()
        elif command in ("q", "quit"):
            self.shutdown()
        elif command:
            self.logger.warning("`%s` means nothing here: type `c` for the counts, `q` to stop", command)
        return self.alive

    @contextmanager
    def _steering(self, choose: Callable[[], _Run]) -> Iterator[_Run]:
        """Lets the console, the queue and other threads steer meanwhile what is chosen to run."""
        if not self.__only_run.acquire(blocking=False):
            raise RuntimeError(f"{type(self).__name__} runs already: make another object for a second run")
        try:
            self.__over.clear()
            self.__thread = threading.current_thread()
            what = self.__running = choose()
            if self.__stopping:
                what.stop()
            try:
                self.control_command_queue.hand_to(self._obey)
                with Console(self._obey, ends_by_itself=what.ends_by_itself):
                    yield what
            finally:
                self.control_command_queue.hand_to(None)
                self._on_shutdown()
        finally:
            self.__has_run = True
            self.__running, self.__thread, self.__stopping = None, None, False
            self.__over.set()
            self.__only_run.release()
