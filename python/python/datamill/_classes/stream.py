"""The base of all programs that run a function on each whole file of a topic."""

from __future__ import annotations

import difflib
import os
import re
import threading
import uuid
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, Self

from .. import _engine, _host, _isolate, _speech
from .._errors import SetUpError
from .._signature import require
from .._version import version_of
from .arguments import Runnable
from .constructor import construct
from .controlled import ControlledProcess, ended_by_errors
from .data_file import TYPES, DownloadDataFile
from .defaults import current
from .parser import OpenMSIStreamArgumentParser
from .run_const import RUN_CONST
from .words import ENCRYPTION, ENGINE_OPTIONS, OTHER_NAMES, RENAMED, level, option, options, pattern, speak_of

_CREATE_NEW = (
    "this start has a consumer group of its own (`create_new`): every start begins the topic anew. A file that has a result "
    "gets another one, or, with `auto.offset.reset = latest`, a file that came while the program was stopped gets none; "
    "failed files are forgotten. Name a group with `--consumer_group_id NAME`, and each file has one result"
)

_TAKE_OVER = (
    "a start with OpenMSIStream's group looks for what OpenMSIStream had not finished. `--take_over=FOLDER` names its output "
    "folder, `--start_from=committed` takes its positions as they are: "
    "`python -m datamill.openmsistream --take_over=FOLDER program.py ARGUMENTS`"
)

#: What a worker's own object is made without.
_OF_ISOLATION = ("isolate", "warm", "worker_memory", "worker_address_space", "worker_restart_after")


class DataFileStreamHandler(ControlledProcess, Runnable):
    """What processors and reproducers share. See `DataFileStreamProcessor` for the parameters."""

    ARGUMENT_PARSER_TYPE = OpenMSIStreamArgumentParser
    DEF_N_THREADS = RUN_CONST.N_DEFAULT_DOWNLOAD_THREADS
    LOG_SUBDIR_NAME = "LOGS"
    N_RECENT_FILES = 50
    #: What the engine calls the program.
    _KIND: Literal["processor", "reproducer", "download", "transfer"]
    #: Where the engine delivers files by itself.
    _target: str | None = None
    _MORE_KEYWORDS = (*RENAMED, *ENCRYPTION, *(name for name in ENGINE_OPTIONS if name != "nan"))
    #: Options of the engine that are keywords of another name.
    _OTHER_NAMES = {**OTHER_NAMES, "config": "config_file"}
    #: What users write, and what it is called with.
    _HOOKS: Mapping[str, tuple[str, ...]] = {}

    __made_with: tuple[type[Any], tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls)
        # for objects in other processes, where the engine is not
        ours = {name: value for name, value in kwargs.items() if name not in _OF_ISOLATION}
        made.__made_with = (cls, args, ours)
        return made

    def __init__(
        self,
        config_file: Path | str | None,
        *,
        topics: dict[str, str],
        output_dir: Path | str | None = None,
        mode: str = "memory",
        datafile_type: type[DownloadDataFile] | None = None,
        n_threads: int | None = None,
        consumer_group_id: str | None = None,
        filepath_regex: re.Pattern[str] | str | None = None,
        logger_file: Path | str | None = None,
        kafkacrypto: Any = None,
        **kwargs: Any,
    ) -> None:
        if mode not in TYPES:
            raise ValueError(f"mode `{mode}` is not one of memory, disk and both")
        if kafkacrypto is not None:
            raise ValueError("encryption by KafkaCrypto is not supported: leave `kafkacrypto` out, and use TLS")
        self.datafile_type = datafile_type or TYPES[mode]
        if not issubclass(self.datafile_type, TYPES[mode]):
            raise ValueError(f"datafile_type of mode `{mode}` must be a subclass of {TYPES[mode].__name__}")
        self._output_dir = Path(self._get_auto_output_dir() if output_dir is None else output_dir)
        self._logs_subdir = self._output_dir / self.LOG_SUBDIR_NAME
        self._logs_subdir.mkdir(parents=True, exist_ok=True)
        logger_file = self._logs_subdir if logger_file is None else logger_file
        ours = {name: kwargs.pop(name) for name in [*RENAMED, *ENCRYPTION, *self._engine_options()] if name in kwargs}
        for name, parameters in {**self._HOOKS, "_mismatched_hash_callback": ("datafile", "lock")}.items():
            # one that OpenMSIStream never came to call keeps no program from running
            if not (current().unchanged and name.endswith("_callback")):
                require(getattr(self, name), parameters, f" of `{type(self).__name__}`")
        super().__init__(logger_file=logger_file, **kwargs)

        self.filepath_regex = filepath_regex
        self.mode = mode
        self.n_threads = n_threads or self.DEF_N_THREADS
        self.lock = threading.Lock()
        self._consumer_topic = topics.get("consumer_topic_name") or topics.get("topic_name", "")
        self.__config_file = config_file
        self.__group = self._choose_group(consumer_group_id)
        self.__counts: dict[str, Any] = {}
        self.__exit_code = 0
        self.__takes_over = False
        self.__log_topic = ours.get("log_topic_name")
        self.__words = [
            *options({"config": config_file, **topics, "consumer_group_id": self.__group}),
            *options({"output_dir": self._output_dir, "n_consumer_threads": self.n_threads, "mode": mode}),
            *option("download_regex", pattern(filepath_regex)),
            *self._words_of_logging(logger_file, kwargs.get("filelevel")),
            *self._words_of(ours, consumer_group_id),
            *current().words,
        ]
        self.__engine: _engine.Engine | None = self._new_engine()
        self.logger.info("Log files and output will be in %s", self._output_dir)

    # ---- what users override

    @property
    def other_datafile_kwargs(self) -> dict[str, Any]:
        """Arguments for the constructor of `datafile_type`, beside the path and the logger."""
        return {}

    def _mismatched_hash_callback(self, datafile: Any, lock: Any) -> None:
        """Runs for a file whose content is not what was uploaded: a chance to do something else with it. Override it.

        The file has failed, and your function is not called. It may run again for the same file.

        Parameters
        ----------
        datafile
            The file with the content that arrived. It is in memory, in every mode.
        lock
            `self.lock`.
        """

    @abstractmethod
    def _compute(self, datafile: Any, is_last_attempt: bool) -> Any:
        """Runs the user's function for a file. The answer is the result; an exception is a failure of the file."""

    # ---- what users read

    @property
    def consumer_topic_name(self) -> str:
        """The topic that files come from."""
        return self._consumer_topic

    @property
    def consumer_group_id(self) -> str | None:
        """The consumer group; `None` where the engine chooses it."""
        return self.__group

    @property
    def n_msgs_read(self) -> int:
        """Number of messages that were read so far."""
        return int(self._count("messages_read"))

    @property
    def n_msgs_processed(self) -> int:
        """Number of messages whose files are done."""
        return int(self._count("messages_processed"))

    @property
    def n_processed_files(self) -> int:
        """Number of files that the function was done with, counted when it returns: what it made may not be recorded yet."""
        return int(self._count("files"))

    @property
    def recent_processed_filepaths(self) -> list[Path]:
        """Relative paths of the files for which the function has returned last, at most `N_RECENT_FILES`."""
        return [Path(path) for path in self._count("recent") or ()][-self.N_RECENT_FILES :]

    @property
    def progress_msg(self) -> str:
        """A text about the state: the counts, and the last files."""
        files, messages = _host.counted(self.n_processed_files, "file"), _host.counted(self.n_msgs_read, "message")
        counts = f"{files} done, {messages} read; the last files:"
        return counts + "".join(f"\n\t{path}" for path in self.recent_processed_filepaths)

    # ---- the run

    def _run_engine(self) -> None:
        """Runs the engine until it is stopped, on the thread that calls this."""
        try:
            with self._steering(self._choose_engine) as engine:
                try:
                    with self.logger.through_engine() if self.__log_topic else nullcontext():
                        ended = _host.run(engine, n_threads=self.n_threads)
                        self.__exit_code = ended.exit_code
                        self.logger.info("%s", ended.summary)
                finally:
                    self.__counts = dict(engine.counts())
                    self.__engine = None
        except SetUpError as error:
            if self.__takes_over:
                error.add_note(_TAKE_OVER)
            raise

    def _choose_engine(self) -> _engine.Engine:
        engine = self.__engine = self.__engine or self._new_engine()
        return engine

    def _count(self, name: str) -> Any:
        # another thread ends the run meanwhile
        engine = self.__engine
        return (self.__counts if engine is None else engine.counts()).get(name, 0)

    def _code(self, file: Any) -> Any:
        """What the engine calls with each file, on one of its threads."""
        datafile = self.datafile_type._made(file, self._output_dir, self.mode != "memory", self.other_datafile_kwargs)
        return self._compute(datafile, file._is_last_attempt)

    def _code_of_mismatches(self, file: Any) -> None:
        process = os.getpid()
        try:
            datafile = self.datafile_type._made(file, self._output_dir, False, self.other_datafile_kwargs)
            self._mismatched_hash_callback(datafile, self.lock)
        except BaseException as exception:
            if os.getpid() != process:
                # a process that the function has forked, and that has come back from it
                raise
            self.logger.error(f"_mismatched_hash_callback failed for {file.relative_filepath}", exc_info=exception)

    def _new_engine(self) -> _engine.Engine:
        return _engine.Engine(
            kind=self._KIND,
            name=type(self).__name__,
            arguments=self.__words,
            code=self._code,
            logger=self.logger,
            public_names=True,
            target=self._target,
            speak=self._speak(),
            folder=current().folder,
            mismatched=self._code_of_mismatches if self._wants_mismatches() else None,
            version=version_of(type(self)),
            worker=None if self._target else self.__worker,
        )

    def __worker(self, serving: dict[str, Any], warm: bool) -> tuple[list[str], list[str]]:
        return _isolate.worker(self.__made_with, serving, warm)

    def _speak(self) -> _speech.Speak:
        return speak_of("reproducer" if self._KIND == "reproducer" else "processor", self._OTHER_NAMES)

    def _wants_mismatches(self) -> bool:
        hook = getattr(type(self), "_mismatched_hash_callback", None)
        return self._target is None and hook is not DataFileStreamHandler._mismatched_hash_callback

    # ---- the set-up

    @classmethod
    def _engine_options(cls) -> list[str]:
        known = _speech.options_of("reproducer" if cls._KIND == "reproducer" else "processor")
        return [name for name in ENGINE_OPTIONS if name in known]

    @classmethod
    def _get_auto_output_dir(cls) -> Path:
        return Path(f"{cls.__name__}_output")

    def _choose_group(self, given: str | None) -> str | None:
        group = given or current().group
        if group != "create_new":
            return group
        self.logger.warning(self._speak()(_CREATE_NEW))
        return f"{type(self).__name__}_{uuid.uuid4()}"

    def _words_of_logging(self, logger_file: Path | str, filelevel: int | str | None) -> list[str]:
        path = Path(logger_file)
        path = path / f"{type(self).__name__}.log" if path.is_dir() else path
        return [
            *option("logger_stream_level", level(self.logger.get_stream_level())),
            *option("logger_file_level", None if filelevel is None else level(filelevel)),
            *option("logger_file_path", path),
        ]

    def _words_of(self, given: dict[str, Any], group: str | None) -> list[str]:
        """The words for keywords that become options of the engine."""
        wanted = {RENAMED.get(name, name): value for name, value in given.items() if value not in ENCRYPTION.get(name, ())}
        defaults = current()
        if wanted.get("max_attempts") is None:
            wanted["max_attempts"] = defaults.max_attempts
        decided = any(wanted.get(name) is not None for name in ("take_over", "start_from")) or any(
            word.startswith(("--take", "--start")) for word in defaults.words
        )
        if defaults.unchanged and group not in (None, "create_new") and not decided:
            # where the positions are OpenMSIStream's, the engine finds its tables here, or says what is missing
            wanted["take_over"] = self._output_dir
            self.__takes_over = True
        return options(wanted)

    # ---- the command line

    @classmethod
    def get_command_line_arguments(cls) -> tuple[list[str], dict[str, Any]]:
        names, defaults = super().get_command_line_arguments()
        more = [
            *("config", "topic_name", "consumer_topic_name", "consumer_group_id", "producer_topic_name"),
            *("treat_undecryptable_as_plaintext", "max_wait_per_decrypt", "max_initial_wait_per_decrypt"),
            *("update_seconds", "heartbeat_topic_name", "heartbeat_program_id", "heartbeat_interval_secs"),
            *("log_topic_name", "log_program_id", "log_interval_secs", "download_regex", "mode"),
        ]
        if not current().unchanged:
            more += cls._engine_options()
        return [*names, *more], {**defaults, "optional_output_dir": cls._get_auto_output_dir()}

    @classmethod
    def get_init_args_kwargs(cls, parsed_args: Any) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = super().get_init_args_kwargs(parsed_args)
        same = [*RENAMED, *ENCRYPTION, *ENGINE_OPTIONS, "consumer_group_id", "output_dir", "n_threads"]
        kwargs |= {name: getattr(parsed_args, name) for name in same if hasattr(parsed_args, name)}
        kwargs |= {"update_secs": parsed_args.update_seconds, "filepath_regex": parsed_args.download_regex}
        return [*args, parsed_args.config], kwargs

    @classmethod
    def run_from_command_line(cls, args: list[str] | None = None) -> None:
        """Runs the program with these arguments, or with those of the command line, until it is stopped.

        Exits with code 1 where files failed, unless the program was written for OpenMSIStream.
        """
        parsed = cls.get_argument_parser().parse_args(args)
        init_args, init_kwargs = cls.get_init_args_kwargs(parsed)
        with _speech.command_line(), ended_by_errors():
            if missing := sorted(getattr(cls, "__abstractmethods__", ())):
                meant = difflib.get_close_matches(missing[0], vars(cls), 1)
                hint = f"; is `{meant[0]}` meant?" if meant else ""
                raise SetUpError(f"the class `{cls.__name__}` does not define `{missing[0]}`{hint}")
            program = construct(cls, init_args, init_kwargs)
            try:
                program._run_engine()
            finally:
                program.close()
        if program.__exit_code and not current().unchanged:
            raise SystemExit(program.__exit_code)


class StreamConsumer(DataFileStreamHandler):
    """A program that reads a topic and sends nothing. See `DataFileStreamProcessor` for the parameters."""

    def __init__(self, config_file: Path | str | None, topic_name: str, **kwargs: Any) -> None:
        kwargs.pop("producer_topic_name", None)
        super().__init__(config_file, topics={"topic_name": topic_name}, **kwargs)

    def _consume(self) -> tuple[int, int, int, list[Path]]:
        """Runs until the program is stopped; see `DataFileStreamProcessor.process_files_as_read` for the answer."""
        self._run_engine()
        return self.n_msgs_read, self.n_msgs_processed, self.n_processed_files, self.recent_processed_filepaths

    @classmethod
    def get_command_line_arguments(cls) -> tuple[list[str], dict[str, Any]]:
        names, defaults = super().get_command_line_arguments()
        return names, {**defaults, "n_threads": cls.DEF_N_THREADS}

    @classmethod
    def get_init_args_kwargs(cls, parsed_args: Any) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = super().get_init_args_kwargs(parsed_args)
        kwargs["producer_topic_name"] = parsed_args.producer_topic_name
        return [*args, parsed_args.consumer_topic_name], kwargs
