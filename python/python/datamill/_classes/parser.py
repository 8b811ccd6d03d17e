"""The parsers of OpenMSIStream's programs: arguments are chosen by name from a table.

A program that has an argument of its own adds a row to the table of its parser, and names it::

    class MyParser(OpenMSIStreamArgumentParser):
        ARGUMENTS = {
            **OpenMSIStreamArgumentParser.ARGUMENTS,
            "threshold": ["optional", {"type": float, "default": 5.0, "help": "Least angle"}],
        }
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .._options import wrong
from .arguments import HasArguments
from .defaults import current
from .parser_types import (
    config_path,
    create_dir,
    detect_bucket_name,
    existing_dir,
    existing_file,
    int_power_of_two,
    logger_string_to_level,
    positive_float,
    positive_int,
)
from .run_const import RUN_CONST
from .words import ENGINE_OPTIONS

#: Names in the table that stand for an option without this beginning.
_OPTIONAL = "optional_"


class OpenMSIArgumentParser(argparse.ArgumentParser):
    """A parser whose arguments are chosen by name from `ARGUMENTS`.

    `ARGUMENTS` has a pair for each name: `"positional"` or `"optional"`, and the keywords of `add_argument`. A name that
    begins with `optional_` stands for the option without that.
    """

    DEF_UPDATE_SECS = 300
    ARGUMENTS: Mapping[str, Sequence[Any]] = {
        "logger_stream_level": [
            "optional",
            {"type": logger_string_to_level, "default": "info", "help": "Lowest level that is printed"},
        ],
        "logger_file_level": [
            "optional",
            {"type": logger_string_to_level, "default": "warning", "help": "Lowest level that goes to the log file"},
        ],
        "logger_file_path": ["optional", {"type": Path, "help": "The log file, or a folder for it"}],
        "filepath": ["positional", {"type": existing_file, "help": "The file"}],
        "output_dir": ["positional", {"type": create_dir, "help": "Folder for what the program writes"}],
        "optional_output_dir": ["optional", {"type": create_dir, "help": "Folder for what the program writes"}],
        "n_threads": ["optional", {"type": positive_int, "help": "Number of threads"}],
        "update_seconds": [
            "optional",
            {"type": int, "default": DEF_UPDATE_SECS, "help": "Seconds between two lines about the state, -1 for none"},
        ],
    }

    def error(self, message: str) -> NoReturn:
        """Ends the program with what is wrong with its command line, in a sentence."""
        self.exit(2, f"error: {wrong(message, self._option_string_actions, f'`{self.prog} --help`')}\n")

    @property
    def actions(self) -> list[argparse.Action]:
        """The arguments that were added."""
        return self._actions

    def add_arguments(self, *args: str, **kwargs: Any) -> None:
        """Adds arguments of the table.

        Parameters
        ----------
        *args
            Names.
        **kwargs
            Names, each with another default.

        Raises
        ------
        ValueError
            A name that is not in the table, or a default of another type than the table's.
        """
        defaults = {**{name: None for name in args if name not in kwargs}, **kwargs}
        for name, default in defaults.items():
            flags, options = self._of_table(name, default)
            self.add_argument(flags, **options)

    def add_subparser_arguments(
        self,
        subp_name: str,
        args_to_add: Sequence[str] | None = None,
        kwargs_to_add: Mapping[str, Any] | None = None,
        **other_kwargs: Any,
    ) -> None:
        """Adds a command with arguments of the table. `add_subparsers` must have been called."""
        if self._subparsers is None:
            raise RuntimeError(f"call add_subparsers() before the command `{subp_name}` is added")
        commands = self._subparsers._group_actions[0]
        assert isinstance(commands, argparse._SubParsersAction)
        parser = commands.add_parser(subp_name, **other_kwargs)
        parser.add_arguments(*(args_to_add or ()), **(kwargs_to_add or {}))

    def add_subparser_arguments_from_class(
        self,
        class_to_add: type[HasArguments],
        *,
        subp_name: str | None = None,
        addl_args: Sequence[str] | None = None,
        addl_kwargs: Mapping[str, Any] | None = None,
        **other_kwargs: Any,
    ) -> None:
        """Adds a command with the arguments of a class."""
        names, defaults = class_to_add.get_command_line_arguments()
        self.add_subparser_arguments(
            subp_name or class_to_add.__name__,
            [*names, *(addl_args or ())],
            {**defaults, **(addl_kwargs or {})},
            **other_kwargs,
        )

    def _of_table(self, name: str, new_default: Any) -> tuple[str, dict[str, Any]]:
        if name not in self.ARGUMENTS:
            raise ValueError(f"no argument `{name}` in ARGUMENTS of {type(self).__name__}")
        kind, options = self.ARGUMENTS[name]
        options = dict(options)
        if name == "consumer_group_id" and new_default is None:
            new_default = current().group
        if options.get("default") == RUN_CONST.DEFAULT_TOPIC_NAME and name.endswith("topic_name") and not current().unchanged:
            # OpenMSIStream's default is a topic of nobody's: the engine asks for a name
            options["default"] = None
        if kind == "positional":
            if new_default is not None:
                options["default"] = new_default
            return name, options
        if kind != "optional":
            raise ValueError(f"argument `{name}` of {type(self).__name__} is `{kind}`: write `positional` or `optional`")
        default = options.get("default")
        if new_default is not None:
            if default is not None and not isinstance(new_default, type(default)):
                raise ValueError(
                    f"the new default `{new_default}` of argument `{name}` is a {type(new_default).__name__}, and the one "
                    f"in ARGUMENTS of {type(self).__name__} is a {type(default).__name__}"
                )
            options["default"] = default = new_default
        if default is not None and "help" in options:
            text = default.pattern if isinstance(default, re.Pattern) else default
            options["help"] += f" (default = {str(text).replace('%', '%%')})"
        return "--" + name.removeprefix(_OPTIONAL), options


class OpenMSIStreamArgumentParser(OpenMSIArgumentParser):
    """The parser of programs that read or write topics."""

    DEF_HEARTBEAT_INTERVAL = 900
    DEF_LOG_INTERVAL = 60
    ARGUMENTS = {
        **OpenMSIArgumentParser.ARGUMENTS,
        "upload_dir": ["positional", {"type": existing_dir, "help": "The folder that is watched"}],
        "bucket_name": ["positional", {"type": detect_bucket_name, "help": "Name of the bucket"}],
        "config": [
            "optional",
            {
                "type": config_path,
                "help": "Configuration file: a path, or the name of a file in the folder that "
                "OPENMSISTREAM_CONFIG_FILE_DIR names. Without one, the log is `datamill.db` in this folder",
            },
        ],
        "topic_name": ["optional", {"default": RUN_CONST.DEFAULT_TOPIC_NAME, "help": "The topic"}],
        "consumer_topic_name": [
            "optional",
            {"default": RUN_CONST.DEFAULT_TOPIC_NAME, "help": "Topic that files come from, where it is not --topic_name"},
        ],
        "producer_topic_name": [
            "optional",
            {"default": RUN_CONST.DEFAULT_TOPIC_NAME, "help": "Topic that results go to, where it is not --topic_name"},
        ],
        "n_threads": ["optional", {"type": positive_int, "help": "Number of threads that run the function"}],
        "n_consumer_threads": [
            "optional",
            {"default": 2, "type": positive_int, "help": "Number of threads that run the function"},
        ],
        "n_producer_threads": [
            "optional",
            {"default": 2, "type": positive_int, "help": "Accepted, and without effect: results need no threads"},
        ],
        "upload_regex": [
            "optional",
            {
                "default": RUN_CONST.DEFAULT_UPLOAD_REGEX,
                "type": re.compile,
                "help": "Only files whose relative path matches this regular expression are sent",
            },
        ],
        "download_regex": [
            "optional",
            {"type": re.compile, "help": "Only files whose relative path matches this regular expression"},
        ],
        "chunk_size": [
            "optional",
            {"default": RUN_CONST.DEFAULT_CHUNK_SIZE, "type": int_power_of_two, "help": "Size of a chunk in bytes"},
        ],
        "queue_max_size": [
            "optional",
            {
                "default": RUN_CONST.DEFAULT_MAX_UPLOAD_QUEUE_MEGABYTES,
                "type": positive_int,
                "help": "Megabytes that may wait to be sent",
            },
        ],
        "mode": [
            "optional",
            {
                "choices": ["memory", "disk", "both"],
                "default": "memory",
                "help": "Where the function finds a file; with `disk` and `both` it stays in the output folder",
            },
        ],
        "upload_existing": [
            "optional",
            {"action": "store_true", "help": "Also send the files that are in the folder at the first start"},
        ],
        "watchdog_lag_time": [
            "optional",
            {
                "default": RUN_CONST.DEFAULT_WATCHDOG_LAG_TIME,
                "type": int,
                "help": "Seconds that a file must not have changed before it is sent",
            },
        ],
        "use_polling_observer": [
            "optional",
            {"action": "store_true", "help": "Look for changes again and again, for shares that report none"},
        ],
        "consumer_group_id": [
            "optional",
            {
                "help": "Consumer group; programs of one group share the files. `create_new` is a new one for each "
                "start, which begins the topic anew",
            },
        ],
        "treat_undecryptable_as_plaintext": ["optional", {"action": "store_true", "help": "Accepted, without effect"}],
        "max_wait_per_decrypt": [
            "optional",
            {
                "default": RUN_CONST.DEFAULT_MAX_WAIT_PER_DECRYPT,
                "type": positive_float,
                "help": "Accepted, without effect",
            },
        ],
        "max_initial_wait_per_decrypt": [
            "optional",
            {
                "default": RUN_CONST.DEFAULT_MAX_INITIAL_WAIT_PER_DECRYPT,
                "type": positive_float,
                "help": "Accepted, without effect",
            },
        ],
        "girder_api_url": ["positional", {"help": "Address of the API of the Girder server"}],
        "girder_api_key": ["positional", {"help": "Key of the API of the Girder server"}],
        "girder_root_folder_id": ["optional", {"help": "Id of the Girder folder that files go to"}],
        "collection_name": ["optional", {"help": "Name of the Girder collection that files go to"}],
        "girder_root_folder_path": ["optional", {"help": "Path of the folder inside of the collection"}],
        "metadata": ["optional", {"help": "Metadata for every file and folder, as a JSON object"}],
        "replace_existing": ["optional", {"action": "store_true", "help": "Replace files that are there already"}],
        "heartbeat_topic_name": ["optional", {"help": "Send heartbeat messages to this topic"}],
        "heartbeat_program_id": ["optional", {"help": "Name of this program in heartbeat messages"}],
        "heartbeat_interval_secs": [
            "optional",
            {"default": DEF_HEARTBEAT_INTERVAL, "type": positive_float, "help": "Seconds between two heartbeats"},
        ],
        "log_topic_name": ["optional", {"help": "Send log lines to this topic"}],
        "log_program_id": ["optional", {"help": "Name of this program in log messages"}],
        "log_interval_secs": [
            "optional",
            {"default": DEF_LOG_INTERVAL, "type": positive_float, "help": "Seconds between two log messages"},
        ],
        **{name: ["optional", dict(options)] for name, options in ENGINE_OPTIONS.items()},
    }

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses what it knows of a command line. A name may be written with ``-`` for ``_``, and the other way round."""
        words = sys.argv[1:] if args is None else list(args)
        end = words.index("--") if "--" in words else len(words)
        return super().parse_known_args([self._as_known(word) for word in words[:end]] + words[end:], namespace)

    def _as_known(self, word: Any) -> Any:
        """An option as the parser has it, where the word names one; also by an unambiguous beginning."""
        name, equals, value = str(word).partition("=")
        if not name.startswith("--") or name in self._option_string_actions:
            return word
        alike = {option: option.replace("-", "_") for option in self._option_string_actions if option.startswith("--")}
        meant = name.replace("-", "_")
        exact = [option for option, other in alike.items() if other == meant]
        begun = [option for option, other in alike.items() if other.startswith(meant) and self.allow_abbrev]
        other = {"__n_threads": "--n_consumer_threads", "__n_consumer_threads": "--n_threads"}.get(meant)
        exact = exact or [option for option in self._option_string_actions if option == other]
        for found in (exact, begun):
            if len(found) == 1:
                return found[0] + equals + value
        return word

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses a command line. `topic_name` counts for the consumer and the producer where those are not given."""
        parsed = super().parse_args(args, namespace)
        topic = getattr(parsed, "topic_name", None)
        if topic is not None:
            for name in ("consumer_topic_name", "producer_topic_name"):
                if getattr(parsed, name, None) in (None, RUN_CONST.DEFAULT_TOPIC_NAME):
                    setattr(parsed, name, topic)
        return parsed
