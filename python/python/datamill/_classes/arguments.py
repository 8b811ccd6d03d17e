"""Classes that know which arguments of a command line they take."""

from __future__ import annotations

import argparse
import inspect
from abc import ABC, abstractmethod
from typing import Any

from .._speech import unknown


def unknown_keyword(cls: type, name: str) -> TypeError:
    """The error for a keyword that no constructor of a class takes, with the nearest one that one of them takes."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = []
    for base in cls.__mro__:
        known += vars(base).get("_MORE_KEYWORDS", ())
        if "__init__" in vars(base):
            parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            known += [parameter.name for parameter in parameters if parameter.kind in named]
    return unknown(cls.__name__, name, known)


class HasArguments(ABC):
    """Something that can be made from arguments of a command line."""

    @classmethod
    def get_command_line_arguments(cls) -> tuple[list[str], dict[str, Any]]:
        """Which arguments the class takes.

        Returns
        -------
        names : list of str
            Names in `ARGUMENTS` of the parser.
        defaults : dict
            More names, each with the default that takes the place of the parser's.
        """
        return [], {}

    @classmethod
    def get_init_args_kwargs(cls, parsed_args: argparse.Namespace) -> tuple[list[Any], dict[str, Any]]:
        """What goes to the constructor, made from the parsed arguments.

        Returns
        -------
        args : list
            The arguments by position.
        kwargs : dict
            The arguments by name.
        """
        return [], {}


class HasArgumentParser(ABC):
    """Something that has a parser for its command line. `ARGUMENT_PARSER_TYPE` is the parser's class."""

    ARGUMENT_PARSER_TYPE: type[argparse.ArgumentParser]

    @classmethod
    def get_argument_parser(cls, *args: Any, **kwargs: Any) -> argparse.ArgumentParser:
        """A parser with the arguments of the class. Add your own with `add_argument`."""
        from .parser import OpenMSIArgumentParser

        parser = cls.ARGUMENT_PARSER_TYPE(*args, **kwargs)
        if isinstance(parser, OpenMSIArgumentParser) and issubclass(cls, HasArguments):
            names, defaults = cls.get_command_line_arguments()
            parser.add_arguments(*names, **defaults)
        return parser


class Runnable(HasArguments, HasArgumentParser):
    """A class whose objects run as programs."""

    @classmethod
    @abstractmethod
    def run_from_command_line(cls, args: list[str] | None = None) -> None:
        """Runs the program with these arguments, or with those of the command line."""
