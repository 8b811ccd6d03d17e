"""What running programs share: they are steered from other threads, by the console and by a queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from .console import Console
from .logger import LogOwner

#: Beginning of the names of threads that the package makes.
OWN_THREADS = "datamill-"


class Steered(Protocol):
    """What runs, as far as it can be steered."""

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop, by whomever."""

    def stop(self) -> None:
        """Asks for an orderly stop."""

    def check(self) -> None:
        """Asks for a line about the state."""


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
        self.__over = threading.Event()
        self.__over.set()

    @property
    def alive(self) -> bool:
        """Whether the program runs and was not told to stop."""
        running = self.__running
        return running is not None and not self.__stopping and not running.stopping

    def shutdown(self) -> None:
        """Tells the program to stop: what its function works on is finished and recorded. Does not wait."""
        self.__stopping = True
        if self.__running is not None:
            self.__running.stop()

    def close(self) -> None:
        """Stops the program if it runs in another thread, waits until it has ended, and closes the log file.

        It can be called any number of times.
        """
        if self.__thread is not None:
            self.shutdown()
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
    def _steering(self, what: Steered) -> Iterator[None]:
        """Lets the console, the queue and other threads steer what runs meanwhile."""
        if self.__thread is not None:
            raise RuntimeError(f"{type(self).__name__} runs already: make another object for a second run")
        self.__running, self.__thread, self.__stopping = what, threading.current_thread(), False
        self.__over.clear()
        try:
            self.control_command_queue.hand_to(self._obey)
            with Console(self._obey):
                yield
        finally:
            self.control_command_queue.hand_to(None)
            try:
                self._on_shutdown()
            finally:
                self.__running, self.__thread = None, None
                self.__over.set()
