"""What is wrong with a constructor of the user's, in a sentence with the lines that mend it."""

from __future__ import annotations

import inspect
import os
import re
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from .._errors import SetUpError
from .._load import told

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LINES = "\n    def __init__(self, *args, **kwargs):\n        super().__init__(*args, **kwargs)"

_Made = TypeVar("_Made")


class NotConstructed(SetUpError, AttributeError):
    """An object is used, and the constructor of its class in this package has not run."""


def is_set_by_constructors(cls: type, name: str) -> bool:
    """Whether the constructors of this package set an attribute, or something that the attribute is made of."""
    ours = [vars(base).get("__init__") for base in cls.__mro__ if base.__module__.startswith("datamill.")]
    return hasattr(cls, name) or any(name in code.co_names for init in ours if (code := getattr(init, "__code__", None)))


def not_constructed(cls: type, name: str) -> NotConstructed:
    """The error where an attribute is not there yet."""
    asked = "" if re.match(r"_[A-Z]\w*__", name) else f" before `{name}` is used"
    return NotConstructed(f"`{_owner(cls).__name__}.__init__` has not called `super().__init__`{asked}: begin it with{_LINES}")


def construct(cls: type[_Made], args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Made:
    """Make an object of a program's class with what its command line says.

    Raises
    ------
    SetUpError
        The constructor cannot be called so.
    """
    try:
        inspect.signature(cls).bind(*args, **kwargs)
    except TypeError as error:
        shown = inspect.signature(_owner(cls).__init__)  # type: ignore[misc]
        raise SetUpError(
            f"`{_owner(cls).__name__}.__init__` has the parameters `{shown}`, and a program is made with more: {error}. Take them "
            f"and hand them on:{_LINES}"
        ) from None
    try:
        return cls(*args, **kwargs)
    except (TypeError, ValueError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        if last.filename.startswith(_OWN):
            raise SetUpError(str(error)) from None
        if isinstance(error, TypeError) and "__init__()" in str(error) and last.name == "__init__":
            raise SetUpError(f"a constructor does not hand on what it gets. Write{_LINES}\n{told(error)}") from None
        raise


def _owner(cls: type) -> type:
    """The class whose constructor runs first."""
    return next(base for base in cls.__mro__ if "__init__" in vars(base))
