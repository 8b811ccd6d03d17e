"""Imports of `openmsistream` and `openmsitoolbox` that are served from datamill."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from .._classes import defaults
from ._names import MODULES, VERSIONS, packages

_PACKAGES = set(packages())


def fill(module: ModuleType) -> None:
    """Gives a module of OpenMSIStream's the names that belong in it."""
    names = MODULES[module.__name__]
    for name, place in names.items():
        setattr(module, name, getattr(importlib.import_module(f"datamill._classes.{place}"), name))
    module.__doc__ = f"The names of `{module.__name__}`, on datamill's engine."
    module.__dict__["__all__"] = sorted(names)
    top, _, rest = module.__name__.partition(".")
    if rest in ("", "version"):
        module.__dict__["__version__"] = VERSIONS[top]


class _Finder(MetaPathFinder, Loader):
    """Finds the modules of the table, before any that are installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in MODULES:
            return ModuleSpec(fullname, self, origin="datamill", is_package=fullname in _PACKAGES)
        if fullname.split(".")[0] in VERSIONS:
            raise ModuleNotFoundError(
                f"datamill has no `{fullname}`: only the parts of OpenMSIStream are here that programs of users build on; "
                "docs/python-classes.md lists them",
                name=fullname,
            )
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        fill(module)


def install(words: tuple[str, ...] = ()) -> None:
    """Serves imports of `openmsistream` and `openmsitoolbox` from here on, and takes OpenMSIStream's defaults.

    Parameters
    ----------
    words
        Options of the engine for every program of this process.
    """
    defaults.be_unchanged(words)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
