"""Loads the function that ``FILE.py:NAME`` names."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from ._errors import SetUpError
from ._failure import advise
from ._signature import require

#: Modules that were loaded from files of a command line, by their names.
loaded: dict[str, str] = {}

_OWN = os.path.dirname(os.path.abspath(__file__)) + os.sep


def load(named: str) -> tuple[Callable[..., Any], str]:
    """The function or the class that ``FILE.py:NAME`` or ``FILE.py`` names, and the name that a program of it has.

    The file runs as a module, with its folder first among the places of modules, as for a script. What stands below
    ``if __name__ == "__main__":`` does not run.

    Raises
    ------
    SetUpError
        Where there is no such file or function, or the file cannot be loaded. The text shows the user's line.
    """
    file, name = _parted(named)
    if not os.path.isfile(file):
        raise SetUpError(_no_file(file, name))
    return _chosen(_module(file), file, name)


def _parted(named: str) -> tuple[str, str | None]:
    file, colon, name = named.rpartition(":")
    if colon and name.isidentifier():
        return file, name
    if colon and file.endswith(".py"):
        raise SetUpError(f"`{name}` in `{named}` is not the name of a function: write FILE.py:NAME")
    return named, None


def _no_file(file: str, name: str | None) -> str:
    if os.path.isdir(file):
        return f"`{file}` is a folder: write FILE.py:NAME"
    if os.path.isfile(f"{file}.py"):
        meant = f"{file}.py:{name}" if name else f"{file}.py"
        return f"there is no file `{file}`: did you mean `{meant}`?"
    stem, point, function = file.rpartition(".")
    if point and os.path.isfile(f"{stem}.py"):
        return f"there is no file `{file}`: did you mean `{stem}.py:{function}`?"
    folder = os.path.dirname(file)
    if not os.path.isdir(folder or "."):
        return f"there is no file `{file}`, since there is no folder `{folder}`"
    others = [other for other in os.listdir(folder or ".") if other.endswith(".py")]
    return f"there is no file `{file}`" + _nearest(os.path.basename(file), others, "The Python files in its folder")


def _nearest(name: str, others: Iterable[str], those: str) -> str:
    """What may have been meant: the nearest names, or all of them where none is near."""
    names = sorted(others)
    if near := difflib.get_close_matches(name, names, n=3):
        return ": did you mean " + " or ".join(f"`{other}`" for other in near) + "?"
    if not names:
        return ""
    most = 10
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f". {those}: " + ", ".join(f"`{other}`" for other in names[:most]) + more


def _module(file: str) -> ModuleType:
    path = os.path.abspath(file)
    stem = os.path.splitext(os.path.basename(path))[0]
    # a module of this name that is there stays: others use it
    name = stem if stem.isidentifier() and stem not in sys.modules else f"_datamill_{stem}"
    module = load_again(name, path, file)
    loaded[name] = path
    return module


def load_again(name: str, path: str, file: str | None = None) -> ModuleType:
    """Load a file as the module of this name, also in another process.

    Parameters
    ----------
    name : str
        Name of the module.
    path : str
        Where the file is.
    file : str, optional
        The file as it was typed.
    """
    file = file or path
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise SetUpError(f"`{file}` cannot be loaded: the name of a Python file ends with `.py`")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, os.path.dirname(os.path.realpath(file)))
    words, sys.argv = sys.argv, [path]
    try:
        with open(path, "rb") as source:
            content = source.read()
        # not by the loader: that may take what it kept of a file which was changed within the same second
        exec(compile(content, path, "exec", dont_inherit=True), module.__dict__)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's file raises
        del sys.modules[name]
        raise SetUpError(f"`{file}` cannot be loaded: {_why(error)}\n{told(error)}") from None
    finally:
        sys.argv = words
    return module


def _why(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return "Python cannot read it"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"there is no module `{error.name}` for this Python. `{sys.executable} -m pip install` brings the package "
            "that has it"
        )
    if isinstance(error, SystemExit):
        return 'it ends the program. Put what starts a program below `if __name__ == "__main__":`'
    return "it raised an exception"


def _chosen(module: ModuleType, file: str, name: str | None) -> tuple[Callable[..., Any], str]:
    own = {
        key: value
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    }
    if name is None:
        if len(own) == 1:
            [(name, chosen)] = own.items()
            return _checked(chosen, file), _own_name(chosen, name)
        raise SetUpError(f"`{file}` has {len(own) or 'no'} public functions and classes of its own: write `{file}:NAME`"
                         + _nearest("", own, "They are"))
    try:
        chosen = getattr(module, name)
    except AttributeError:
        message = f"there is no function `{name}` in `{file}`" + _nearest(name, own, "The functions there")
        raise SetUpError(message) from None
    if not callable(chosen):
        raise SetUpError(f"`{name}` in `{file}` is no function, but of type `{type(chosen).__qualname__}`")
    return _checked(chosen, file), _own_name(chosen, name)


def _own_name(function: Callable[..., Any], name: str) -> str:
    """The function's own name, or the one in its file, which a lambda has alone."""
    own = str(getattr(function, "__name__", ""))
    return own if own.isidentifier() else name


def _checked(function: Callable[..., Any], file: str) -> Callable[..., Any]:
    """The function, if it takes the file and nothing else."""
    if not inspect.isclass(function):
        require(function, ["file"], f" in `{file}`")
    return function


def told(error: BaseException, path: str | None = None) -> str:
    """An exception of a user's code with its traceback, without the frames of this package.

    Parameters
    ----------
    error : BaseException
        The exception.
    path : str, optional
        Relative path of the file that the code worked on.
    """
    advise(error, path)
    shown = traceback.TracebackException.from_exception(error)
    theirs = [frame for frame in shown.stack if not frame.filename.startswith(_OWN)]
    shown.stack = traceback.StackSummary.from_list(theirs)
    text = "".join(shown.format())
    return (text if theirs else text.removeprefix("Traceback (most recent call last):\n")).rstrip("\n")
