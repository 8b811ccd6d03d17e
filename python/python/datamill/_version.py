"""The version that a function has of itself."""

from __future__ import annotations

import functools
import sys
from typing import Any


def version_of(code: Any) -> str | None:
    """What `__version__` says in the module of a function or a class, or in the package that the module is in.

    Parameters
    ----------
    code : callable or type
        The function, or the class of a program.

    Returns
    -------
    str or None
        The version; `None` where there is none, and for code of this package.
    """
    while isinstance(code, functools.partial):
        code = code.func
    name = getattr(code, "__module__", None) or type(code).__module__
    while isinstance(name, str) and name and name.partition(".")[0] != "datamill":
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str) and version.strip():
            return version.strip()
        name = name.rpartition(".")[0]
    return None
