"""What differs between programs that are written for datamill and unchanged programs of OpenMSIStream."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Defaults:
    """The values where a program gives none.

    Attributes
    ----------
    group
        The consumer group. `None` is the group of the configuration, or a name made from program and topic.
    max_attempts
        How often a function runs for a file in one start. `None` is the engine's own number.
    unchanged
        Whether the program was written for OpenMSIStream.
    words
        Options of the engine for every program, as words of a command line.
    folder
        Where the log is without a configuration. `None` is the working folder.
    """

    group: str | None = None
    max_attempts: int | None = None
    unchanged: bool = False
    words: tuple[str, ...] = ()
    folder: str | None = None


_current = Defaults()


def current() -> Defaults:
    """The defaults of this process."""
    return _current


def be_unchanged(words: tuple[str, ...] = ()) -> None:
    """Makes the defaults OpenMSIStream's from here on: a fresh group for each start, one attempt for each file."""
    global _current
    _current = Defaults(group="create_new", max_attempts=1, unchanged=True, words=words or _current.words)


def begin_in(folder: str | None) -> None:
    """Looks for the log in this folder where there is no configuration."""
    global _current
    _current = replace(_current, folder=folder)
