"""Prints what an installation of OpenMSIStream offers, as JSON: run by the peer's interpreter and by ours.

`surface_of.py NAME...` describes these classes of `openmsistream`.
"""

import inspect
import json
import sys
from pathlib import Path

import openmsistream


def parameters(function):
    """The names of the parameters, with what kind each is."""
    try:
        return [[p.name, p.kind.name] for p in inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return None


def described(value):
    """A value of a parsed argument, as JSON has it."""
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(getattr(value, "pattern", value))


def surface(cls, words):
    """The public members of a class with their parameters, its arguments, and what it parses."""
    members = {}
    for name, member in inspect.getmembers(cls):
        if name.startswith("__") and name != "__init__" or f"_{name.lstrip('_')}".startswith("_abc"):
            continue
        members[name] = parameters(member) if callable(member) and not isinstance(member, type) else None
    parser = cls.get_argument_parser()
    actions = {}
    for action in parser._actions:
        choices = list(action.choices) if action.choices else None
        actions[action.dest] = [action.option_strings, choices, action.required, type(action).__name__]
    parsed = parser.parse_args(words)
    args, kwargs = cls.get_init_args_kwargs(parsed)
    return {
        "members": members,
        "abstract": sorted(cls.__abstractmethods__),
        "mro": [base.__name__ for base in cls.__mro__],
        "actions": actions,
        "parsed": {name: described(value) for name, value in vars(parsed).items()},
        "args": [described(value) for value in args],
        "kwargs": {name: described(value) for name, value in kwargs.items()},
    }


if __name__ == "__main__":
    folder = str(Path(__file__).parent)
    first = {
        "UploadDataFile": [__file__],
        "DataFileUploadDirectory": [folder],
        "DataFileDownloadDirectory": [folder],
        "S3TransferStreamProcessor": ["bucket"],
        "GirderUploadStreamProcessor": ["https://girder", "key"],
    }
    config = ["--config", sys.argv[1], "--topic_name", "files"]
    print(json.dumps({name: surface(getattr(openmsistream, name), [*first.get(name, []), *config]) for name in sys.argv[2:]}))
