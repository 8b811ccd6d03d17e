"""Files on their way to a topic: one, or those of a folder as they are finished."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from .. import _engine, _host, _speech
from .._topics import all_sent
from .arguments import Runnable
from .constructor import construct
from .controlled import ControlledProcess, ended_by_errors
from .data_file import DataFile
from .defaults import current
from .parser import OpenMSIStreamArgumentParser
from .run_const import RUN_CONST
from .words import OTHER_NAMES, RENAMED, level, option, options, pattern, speak_of

#: Options of uploads and watches that are keywords of another name.
_OTHER_NAMES = {**OTHER_NAMES, "config": "config_path"}


class UploadDataFile(DataFile, Runnable):
    """A file that is sent to a topic.

    Parameters
    ----------
    filepath
        The file.
    to_upload
        Whether it is to be sent.
    rootdir
        The file is rebuilt under its path relative to this folder; under its name alone where none is given.
    filename_append
        What goes between stem and suffix of the name under which the file is rebuilt.
    **kwargs
        See `LogOwner`.

    Examples
    --------
    >>> UploadDataFile("scan.csv").upload_whole_file("lab.config", "files")  # doctest: +SKIP
    """

    ARGUMENT_PARSER_TYPE = OpenMSIStreamArgumentParser

    def __init__(
        self,
        filepath: Path | str,
        to_upload: bool = True,
        rootdir: Path | str | None = None,
        filename_append: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(filepath, **kwargs)
        self.__to_upload = to_upload
        self.rootdir = None if rootdir is None else Path(rootdir)
        self.filename_append = filename_append or ""
        self.__fully_produced = False

    @property
    def to_upload(self) -> bool:
        """Whether the file is to be sent."""
        return self.__to_upload

    @to_upload.setter
    def to_upload(self, to_upload: bool) -> None:
        self.__to_upload = to_upload

    @property
    def fully_produced(self) -> bool:
        """Whether the topic has the whole file."""
        return self.__fully_produced

    def upload_whole_file(
        self,
        config_path: Path | str | None,
        topic_name: str,
        n_threads: int = RUN_CONST.N_DEFAULT_UPLOAD_THREADS,
        chunk_size: int = RUN_CONST.DEFAULT_CHUNK_SIZE,
    ) -> None:
        """Sends the file, and waits until the topic has it.

        Parameters
        ----------
        config_path
            The configuration file. `None` is the embedded log `datamill.db` in this folder.
        topic_name
            The topic.
        n_threads
            Accepted, and without effect: the threads are chosen by the size of the file.
        chunk_size
            Bytes of the file in a message.

        Raises
        ------
        datamill.SetUpError
            The configuration, the topic or the file is not as it must be.
        datamill.RunError
            The file was not sent; the text says why.
        """
        if not self.to_upload:
            return
        words = [
            *option("config", config_path),
            *option("logger_stream_level", level(self.logger.get_stream_level())),
            *options({"topic_name": topic_name, "chunk_size": chunk_size}),
        ]
        sending = _engine.Sending(
            kind="upload",
            name=type(self).__name__,
            arguments=[*words, "--", os.fspath(self.filepath)],
            root=self.rootdir,
            filename_append=self.filename_append,
            speak=speak_of("upload", _OTHER_NAMES),
        )
        sent = all_sent(_host.run(sending), f"`{self.filepath}` was not sent: ")
        self.__fully_produced = True
        self.logger.info("%s", sent.summary)

    @classmethod
    def get_command_line_arguments(cls) -> tuple[list[str], dict[str, Any]]:
        names, defaults = super().get_command_line_arguments()
        more = ["filepath", "config", "topic_name", "chunk_size"]
        return [*names, *more], {**defaults, "n_threads": RUN_CONST.N_DEFAULT_UPLOAD_THREADS}

    @classmethod
    def get_init_args_kwargs(cls, parsed_args: Any) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = super().get_init_args_kwargs(parsed_args)
        return [*args, parsed_args.filepath], kwargs

    @classmethod
    def run_from_command_line(cls, args: list[str] | None = None) -> None:
        """Sends the file that the command line names."""
        parsed = cls.get_argument_parser().parse_args(args)
        init_args, init_kwargs = cls.get_init_args_kwargs(parsed)
        with _speech.command_line(), ended_by_errors():
            file = construct(cls, init_args, init_kwargs)
            file.upload_whole_file(parsed.config, parsed.topic_name, parsed.n_threads, parsed.chunk_size)


class DataFileUploadDirectory(ControlledProcess, Runnable):
    """Sends the files of a folder to a topic as they are finished, also those that change later.

    Parameters
    ----------
    dirpath
        The folder, with all folders in it.
    config_path
        The configuration file. `None` is the embedded log `datamill.db` in this folder.
    upload_regex
        Only files whose relative path matches. OpenMSIStream's default stands for datamill's own rules, which leave out
        hidden files, log files, lock files of office programs and unfinished copies.
    datafile_type
        Accepted where it is OpenMSIStream's default.
    watchdog_lag_time
        Seconds that a file must not have changed before it is sent.
    use_polling_observer
        Look for changes again and again, for shares that report none.
    **kwargs
        `update_secs`, `heartbeat_…`, `log_…` as for `DataFileStreamProcessor`, those of `LogOwner`, and `exit_at_end`,
        `log_max_size`, `logs_dir`, `new_folder` and `status_listen` as `datamill watch` has them.
    """

    ARGUMENT_PARSER_TYPE = OpenMSIStreamArgumentParser
    LOG_SUBDIR_NAME = "LOGS"
    _MORE_KEYWORDS = (
        *(name for name in RENAMED if name != "mode"),
        *("exit_at_end", "log_max_size", "logs_dir", "new_folder", "status_listen"),
    )

    def __init__(
        self,
        dirpath: Path | str,
        config_path: Path | str | None,
        upload_regex: re.Pattern[str] | str = RUN_CONST.DEFAULT_UPLOAD_REGEX,
        datafile_type: type[UploadDataFile] = UploadDataFile,
        watchdog_lag_time: float = RUN_CONST.DEFAULT_WATCHDOG_LAG_TIME,
        use_polling_observer: bool = False,
        **kwargs: Any,
    ) -> None:
        if datafile_type is not UploadDataFile:
            raise ValueError("a watched folder has no files of other types: `datafile_type` must be UploadDataFile")
        ignored = ("consumer_topic_name", "producer_topic_name", "consumer_group_id", "treat_undecryptable_as_plaintext")
        for name in (*ignored, "max_wait_per_decrypt", "max_initial_wait_per_decrypt", "kafkacrypto"):
            kwargs.pop(name, None)
        ours = {name: kwargs.pop(name) for name in self._MORE_KEYWORDS if name in kwargs}
        super().__init__(**kwargs)
        self.dirpath = Path(dirpath)
        self.upload_regex = upload_regex
        self.watchdog_lag_time = watchdog_lag_time
        self.use_polling_observer = use_polling_observer
        self.__words = [
            *option("config", config_path),
            *option("logger_stream_level", level(self.logger.get_stream_level())),
            *options({RENAMED.get(name, name): value for name, value in ours.items()}),
        ]
        self.__counts: dict[str, Any] = {}
        self.__exit_code = 0
        self.__sending: _engine.Sending | None = None

    def upload_files_as_added(
        self,
        topic_name: str,
        n_threads: int = RUN_CONST.N_DEFAULT_UPLOAD_THREADS,
        chunk_size: int = RUN_CONST.DEFAULT_CHUNK_SIZE,
        max_queue_size: int = RUN_CONST.DEFAULT_MAX_UPLOAD_QUEUE_MEGABYTES,
        upload_existing: bool = False,
    ) -> list[Path]:
        """Sends files until the program is stopped, on the thread that calls this.

        Parameters
        ----------
        topic_name
            The topic.
        n_threads
            Accepted, and without effect: the threads are chosen by the size of a file.
        chunk_size
            Bytes of a file in a message.
        max_queue_size
            Megabytes that may wait to be sent.
        upload_existing
            Also send the files that are there when the folder is watched for the first time.

        Returns
        -------
        list of pathlib.Path
            Paths of the files that were sent last, at most 50.

        Raises
        ------
        datamill.SetUpError
            The configuration, the topic or the folder is not as it must be.
        datamill.RunError
            The watch could not go on; the text says what was not sent. Start it again.
        """
        own_rules = self.upload_regex == RUN_CONST.DEFAULT_UPLOAD_REGEX
        words = options(
            {
                "topic_name": topic_name,
                "chunk_size": chunk_size,
                "queue_max_size": max_queue_size,
                "upload_regex": None if own_rules else pattern(self.upload_regex),
                "upload_existing": upload_existing,
                "watchdog_lag_time": self.watchdog_lag_time,
                "use_polling_observer": self.use_polling_observer,
            }
        )
        new = _engine.Sending(
            kind="watch",
            name=type(self).__name__,
            arguments=[*self.__words, *words, "--", os.fspath(self.dirpath)],
            speak=speak_of("watch", {**_OTHER_NAMES, "queue_max_size": "max_queue_size"}),
        )
        with self._steering(lambda: new) as sending:
            self.__sending = sending
            try:
                sent = _host.run(sending)
            finally:
                self.__counts = dict(sending.counts())
                self.__sending = None
        self.__exit_code = sent.exit_code
        if sent.exit_code > 1:
            all_sent(sent)
        self.logger.info("%s", sent.summary)
        return self._recent()

    @property
    def progress_msg(self) -> str:
        """A text about the state: the number of files that were sent, and the last of them."""
        return f"{self._count().get('files', 0)} files sent:" + "".join(f"\n\t{path}" for path in self._recent())

    @property
    def status_msg(self) -> str:
        """A text about the state, in one line."""
        return f"{self._count().get('files', 0)} files sent"

    def _count(self) -> dict[str, Any]:
        # another thread ends the run meanwhile
        sending = self.__sending
        return self.__counts if sending is None else sending.counts()

    def _recent(self) -> list[Path]:
        return [self.dirpath / path for path in self._count().get("recent", [])]

    @classmethod
    def get_command_line_arguments(cls) -> tuple[list[str], dict[str, Any]]:
        names, defaults = super().get_command_line_arguments()
        more = [
            *("config", "topic_name", "consumer_topic_name", "consumer_group_id", "producer_topic_name"),
            *("treat_undecryptable_as_plaintext", "max_wait_per_decrypt", "max_initial_wait_per_decrypt"),
            *("update_seconds", "heartbeat_topic_name", "heartbeat_program_id", "heartbeat_interval_secs"),
            *("log_topic_name", "log_program_id", "log_interval_secs", "upload_dir", "upload_regex", "chunk_size"),
            *("queue_max_size", "upload_existing", "watchdog_lag_time", "use_polling_observer"),
        ]
        return [*names, *more], {**defaults, "n_threads": RUN_CONST.N_DEFAULT_UPLOAD_THREADS}

    @classmethod
    def get_init_args_kwargs(cls, parsed_args: Any) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = super().get_init_args_kwargs(parsed_args)
        same = [
            *("consumer_topic_name", "consumer_group_id", "producer_topic_name", "treat_undecryptable_as_plaintext"),
            *("max_wait_per_decrypt", "max_initial_wait_per_decrypt", "heartbeat_topic_name", "heartbeat_program_id"),
            *("heartbeat_interval_secs", "log_topic_name", "log_program_id", "log_interval_secs", "upload_regex"),
            *("watchdog_lag_time", "use_polling_observer"),
        ]
        kwargs |= {name: getattr(parsed_args, name) for name in same}
        return [*args, parsed_args.upload_dir, parsed_args.config], {**kwargs, "update_secs": parsed_args.update_seconds}

    @classmethod
    def run_from_command_line(cls, args: list[str] | None = None) -> None:
        """Watches the folder that the command line names, until it is stopped.

        Exits with code 1 where files were not sent, unless the program was written for OpenMSIStream.
        """
        parsed = cls.get_argument_parser().parse_args(args)
        init_args, init_kwargs = cls.get_init_args_kwargs(parsed)
        with _speech.command_line(), ended_by_errors():
            program = construct(cls, init_args, init_kwargs)
            try:
                program.upload_files_as_added(
                    parsed.topic_name, parsed.n_threads, parsed.chunk_size, parsed.queue_max_size, parsed.upload_existing
                )
            finally:
                program.close()
        if program.__exit_code and not current().unchanged:
            raise SystemExit(program.__exit_code)
