"""Keyword arguments of the classes, as words of the engine's command line."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from .. import _engine, _speech
from .defaults import current

#: Arguments of OpenMSIStream's constructors that become an option of the engine under another or the same name.
RENAMED: Mapping[str, str] = {
    "update_secs": "update_seconds",
    "heartbeat_topic_name": "heartbeat_topic_name",
    "heartbeat_program_id": "heartbeat_program_id",
    "heartbeat_interval_secs": "heartbeat_interval_secs",
    "log_topic_name": "log_topic_name",
    "log_program_id": "log_program_id",
    "log_interval_secs": "log_interval_secs",
    "mode": "mode",
}

#: Options of the engine that are keywords of another name in constructors.
OTHER_NAMES: Mapping[str, str] = {
    "download_regex": "filepath_regex",
    "n_consumer_threads": "n_threads",
    "update_seconds": "update_secs",
    "logger_stream_level": "streamlevel",
    "logger_file_level": "filelevel",
    "logger_file_path": "logger_file",
}

#: Arguments about OpenMSIStream's encryption, and the values that ask for nothing.
ENCRYPTION: Mapping[str, tuple[Any, ...]] = {
    "treat_undecryptable_as_plaintext": (None, False),
    "max_wait_per_decrypt": (None, 5.0),
    "max_initial_wait_per_decrypt": (None, 60.0),
}

#: Options that OpenMSIStream has too, by the names of the engine.
_SHARED = {
    *("config", "topic_name", "consumer_topic_name", "producer_topic_name", "consumer_group_id", "output_dir"),
    *RENAMED.values(), *OTHER_NAMES, *ENCRYPTION, "n_producer_threads",
}

#: What `--help` of a class's own parser says of options of the engine alone, where it is shorter than what the engine says.
_SHORT: Mapping[str, dict[str, Any]] = {
    "exit_at_end": {"action": "store_true", "help": "Stop when all that was in the topic at the start has been handled"},
    "max_attempts": {"type": int, "help": "How often the function runs for a file before the file has failed"},
    "processing_timeout": {"type": float, "help": "Seconds that the function may take for a file"},
    "dead_letter_topic": {"help": "Topic that gets a message for each file that fails"},
    "delivery": {"choices": ["exactly-once", "at-least-once"], "help": "What is promised of results"},
    "start_from": {"help": "Where to start in partitions without a position: earliest, latest, committed, an offset"},
    "take_over": {"help": "Output folder of the stopped program of OpenMSIStream whose group this program goes on with"},
    "same_group": {"action": "store_true", "help": "Go on in a group that another program uses for this topic"},
    "retry_failed": {"choices": ["now", "only", "no"], "help": "Whether files that failed earlier are tried again"},
    "incomplete_after": {"type": float, "help": "Hours after which a file whose chunks stopped coming has failed"},
    "memory_limit": {"help": "Memory for the content of files, for example 256M"},
    "spill_limit": {"help": "Disk for files that fill up"},
    "instance": {"help": "Name of this process's place in its group"},
    "membership": {"choices": ["static", "dynamic"], "help": "How the group knows this process"},
    "log_max_size": {"help": "Largest size of the log file; older ones are kept beside it"},
    "status_listen": {"help": "Serve the state of the program over HTTP: a port of this machine, or an address with a port"},
    "processor_version": {"help": "Version of the function, which each result names; by default `__version__` of its module"},
    "shutdown_timeout": {"type": int, "help": "Seconds that a stop waits for functions that run"},
    "nan": {"choices": ["null", "error", "python"], "help": "What a number becomes that JSON cannot hold"},
}


def _of_engine() -> dict[str, dict[str, Any]]:
    found = dict(_SHORT)
    for kind in ("processor", "reproducer"):
        for each in _engine.options(kind):
            if each["name"] not in {*_SHARED, *found}:
                how = {} if each["takes_value"] else {"action": "store_true"}
                found[each["name"]] = {**how, "help": each["help"].replace("%", "%%")}
    return found


#: Options of the engine that have no name in OpenMSIStream, all of them.
ENGINE_OPTIONS: Mapping[str, dict[str, Any]] = _of_engine()

_LEVELS = ((logging.DEBUG, "debug"), (logging.INFO, "info"), (logging.WARNING, "warning"), (logging.ERROR, "error"))


def option(name: str, value: Any) -> list[str]:
    """The words of one option; none where its value is `None` or `False`."""
    if value is None or value is False:
        return []
    if value is True:
        return [f"--{name}"]
    # in one word, since a value may begin with a dash
    return [f"--{name}={value}"]


def options(values: Mapping[str, Any]) -> list[str]:
    """The words of several options."""
    return [word for name, value in values.items() for word in option(name, value)]


def level(number: int | str) -> str:
    """The name of the engine's level for a level of Python's `logging`."""
    if isinstance(number, str):
        return number.lower()
    return next((name for at, name in _LEVELS if number <= at), "critical")


def pattern(regex: re.Pattern[str] | str | None) -> str | None:
    """A regular expression with its flags in its text."""
    if regex is None or isinstance(regex, str):
        return regex
    flags = {re.I: "i", re.M: "m", re.S: "s", re.X: "x"}
    given = "".join(letter for flag, letter in flags.items() if regex.flags & flag)
    return f"(?{given}){regex.pattern}" if given else regex.pattern


def speak_of(kind: str, other_names: Mapping[str, str]) -> _speech.Speak:
    """How texts speak of the options of a kind of programs: as keywords, unless a command line asked for the program."""
    if current().unchanged or _speech.has_command_line():
        return _speech.without_usage
    return _speech.of_keywords(kind, other_names)
