"""A thread that keeps the exception that ended it."""

from __future__ import annotations

from threading import Thread
from typing import Any


class ExceptionTrackingThread(Thread):
    """A thread that keeps the exception of its target, and raises it in `join()`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.__caught: Exception | None = None

    def run(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().run(*args, **kwargs)
        except Exception as exception:
            self.__caught = exception

    @property
    def caught_exception(self) -> Exception | None:
        """The exception that ended the thread, if one did."""
        return self.__caught

    def join(self, *args: Any, **kwargs: Any) -> None:
        """Waits for the end of the thread, and raises the exception that ended it."""
        super().join(*args, **kwargs)
        if self.__caught is not None:
            raise self.__caught
