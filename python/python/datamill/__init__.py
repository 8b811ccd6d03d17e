"""Whole data files in, results out, exactly one result per file."""

from ._engine import __version__

__all__ = ["__version__"]
