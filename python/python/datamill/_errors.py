"""What goes wrong, as exceptions."""

from __future__ import annotations


class DatamillError(Exception):
    """A program could not start or go on.

    Attributes
    ----------
    exit_code : int
        The exit code that a program ends with for this reason.
    """

    exit_code: int = 3

    def __init__(self, text: str, exit_code: int | None = None) -> None:
        super().__init__(text)
        if exit_code is not None:
            self.exit_code = exit_code


class SetUpError(DatamillError):
    """The options, the configuration, the log or a folder is not as it must be, or a permission is missing."""

    exit_code = 2


class RunError(DatamillError):
    """The program had to stop while it worked, or the broker was away when it started.

    Nothing is lost: start it again, unless the text says otherwise.
    """


class NotAvailable(Exception):
    """Raise this in a function when something that all files need is not there for the moment.

    The program holds and tries again; the file is neither skipped nor counted as failed.
    """


class Stop(Exception):
    """Raise this in a function to stop the program. The file counts as not processed."""


class WrongAnswer(TypeError):
    """A function answered with something that is no result."""


class Help(Exception):
    """The command line asks for a text alone, as ``--help`` does."""
