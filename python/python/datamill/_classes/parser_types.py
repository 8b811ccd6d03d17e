"""Types of arguments: each takes the word of a command line, and answers with the checked value."""

from __future__ import annotations

import logging
from argparse import ArgumentTypeError
from pathlib import Path

from .run_const import find_config

_LEVELS = ("debug", "info", "warning", "error", "critical")


def logger_string_to_level(argval: str | int) -> int:
    """A level of the log by its number or its name (debug, info, warning, error, critical)."""
    try:
        return int(argval)
    except ValueError:
        pass
    if str(argval).lower() not in _LEVELS:
        raise ArgumentTypeError(f"`{argval}` is not a level of the log: write a number, or one of {', '.join(_LEVELS)}")
    return int(getattr(logging, str(argval).upper()))


def existing_file(argstring: str) -> Path:
    """A file that is there, as an absolute path."""
    path = Path(argstring)
    if not path.is_file():
        raise ArgumentTypeError(f"there is no file `{argstring}`")
    return path.resolve()


def existing_dir(argstring: str) -> Path:
    """A folder that is there, as an absolute path."""
    path = Path(argstring)
    if not path.is_dir():
        raise ArgumentTypeError(f"there is no folder `{argstring}`")
    return path.resolve()


def create_dir(argstring: str | None) -> Path | None:
    """A folder, which is made where it is missing, as an absolute path."""
    if argstring is None:
        return None
    path = Path(argstring)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentTypeError(f"the folder `{argstring}` cannot be made: {error.strerror}") from error
    return path.resolve()


def config_path(configarg: str) -> Path:
    """A configuration file by its path, or by the name of a file in the folder of configuration files."""
    try:
        return find_config(configarg)
    except FileNotFoundError as error:
        raise ArgumentTypeError(str(error)) from error


def _number(argval: str | float, kind: type[int] | type[float], what: str) -> float:
    try:
        value = kind(argval)
    except ValueError:
        value = kind(0)
    if value <= 0:
        raise ArgumentTypeError(f"`{argval}` is not {what}")
    return value


def positive_int(argval: str | int) -> int:
    """A whole number above 0."""
    return int(_number(argval, int, "a whole number above 0"))


def positive_float(argval: str | float) -> float:
    """A number above 0."""
    return _number(argval, float, "a number above 0")


def int_power_of_two(argval: str | int) -> int:
    """A power of two, as sizes of chunks are."""
    value = positive_int(argval)
    if value & (value - 1):
        raise ArgumentTypeError(f"`{argval}` is not a power of two: the nearest below is {1 << (value.bit_length() - 1)}")
    return value


def detect_bucket_name(argstring: str) -> str:
    """The name of a bucket, also given as `s3://NAME`."""
    return argstring.removeprefix("s3://").strip("/")
