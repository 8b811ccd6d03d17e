"""The import names of the distribution `datamill-openmsistream`."""

from __future__ import annotations

from importlib import metadata
from types import ModuleType

from . import _hook

_OURS = "datamill-openmsistream"
_THEIRS = ("openmsistream", "openmsitoolbox")


def serve(module: ModuleType) -> None:
    """Makes a module of the distribution what it stands for.

    Raises
    ------
    ImportError
        The real one is installed as well: which of the two a program gets would depend on what was installed last.
    """
    installed = [name for name in _THEIRS if _is_installed(name)]
    if installed:
        raise ImportError(
            f"both `{_OURS}` and `{'` and `'.join(installed)}` are installed, and they write the same files: keep one of "
            f"them. For datamill: `pip uninstall -y {' '.join(_THEIRS)}`, then `pip install --force-reinstall --no-deps "
            f"{_OURS}`. For OpenMSIStream: `pip uninstall -y {_OURS}`, then `pip install --force-reinstall --no-deps "
            f"{' '.join(installed)}`",
            name=module.__name__,
        )
    _hook.install()
    _hook.fill(module)


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
