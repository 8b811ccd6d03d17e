"""Programs that do something with each file and answer with nothing."""

from __future__ import annotations

import os
from abc import abstractmethod
from pathlib import Path
from typing import Any

from .._errors import NotAvailable, Stop
from .stream import StreamConsumer


class ProcessingFailed(Exception):
    """A function answered with something that is no answer of a processor."""


class DataFileStreamProcessor(StreamConsumer):
    """Runs a function of yours on each file of a topic.

    Override `_process_downloaded_data_file`. The function runs on `n_threads` threads at once, on this one object, and
    never on the main thread.

    Parameters
    ----------
    config_file
        The configuration file. `None` is the embedded log `datamill.db` in this folder.
    topic_name
        The topic that files come from.
    output_dir
        Folder for the log file, the tables, and files on disk; `{class}_output` in this folder where none is given.
    mode
        `memory`, `disk` or `both`: where the function finds a file. With `disk` and `both` it stays in `output_dir`.
    datafile_type
        Type of the files, a subclass of the mode's own type.
    n_threads
        Number of threads that run the function.
    consumer_group_id
        The consumer group. Programs of one group share the files. `create_new` is a new one for each start.
    filepath_regex
        Only files whose relative path matches this regular expression.
    update_secs
        Seconds between two lines about the state; -1 for none.
    logger, logger_name, streamlevel, filelevel, logger_file
        See `LogOwner`.
    heartbeat_topic_name, heartbeat_program_id, heartbeat_interval_secs
        Send heartbeat messages to this topic, under this name, so often.
    log_topic_name, log_program_id, log_interval_secs
        Send log lines to this topic, under this name, so often.
    **kwargs
        Options of the engine, named as on the command line: `exit_at_end=True`, `max_attempts=5`, …

    Examples
    --------
    >>> class Lines(DataFileStreamProcessor):
    ...     def _process_downloaded_data_file(self, datafile, lock):
    ...         self.logger.info("%s: %d lines", datafile.relative_filepath, datafile.bytestring.count(b"\\n"))
    >>> Lines("lab.config", "files", consumer_group_id="lines").process_files_as_read()  # doctest: +SKIP
    """

    _KIND = "processor"
    _HOOKS = {name: ("datafile", "lock") for name in ("_process_downloaded_data_file", "_failed_processing_callback")}

    def process_files_as_read(self) -> tuple[int, int, int, list[Path]]:
        """Runs until the program is stopped, on the thread that calls this.

        Returns
        -------
        n_msgs_read : int
            Number of messages that were read.
        n_msgs_processed : int
            Number of messages whose files are done.
        n_processed_files : int
            Number of files that the function was done with, counted when it returns.
        recent_processed_filepaths : list of pathlib.Path
            The last of these files, at most `N_RECENT_FILES`.

        Raises
        ------
        datamill.SetUpError
            The configuration, the log or a folder is not as it must be.
        datamill.RunError
            The run could not go on. Nothing is lost: start the program again.
        """
        return self._consume()

    @abstractmethod
    def _process_downloaded_data_file(self, datafile: Any, lock: Any) -> Exception | None:
        """Your function.

        Parameters
        ----------
        datafile
            The file.
        lock
            `self.lock`. `with lock:` lets one thread at a time touch what they share.

        Returns
        -------
        None
            The file is done. An exception that is returned or raised, and any other answer, is a failure of the file.
        """

    def _failed_processing_callback(self, datafile: Any, lock: Any) -> None:
        """Runs once for a file that has failed, after the last attempt. Override it to do something about the file."""

    def _compute(self, datafile: Any, is_last_attempt: bool) -> Any:
        process = os.getpid()
        try:
            answer: Any = self._process_downloaded_data_file(datafile, self.lock)
            if answer is not None and not isinstance(answer, BaseException):
                raise ProcessingFailed(
                    f"Unrecognized return value of type {type(answer).__name__}: return None for success, or an exception"
                )
        except (NotAvailable, Stop):
            raise
        except BaseException:
            if is_last_attempt:
                self._call_back(datafile, process)
            raise
        # an exception that is raised here would hold this frame, and with it the file
        if is_last_attempt and answer is not None and not isinstance(answer, (NotAvailable, Stop)):
            self._call_back(datafile, process)
        return answer

    def _call_back(self, datafile: Any, process: int) -> None:
        if os.getpid() != process:
            # a process that the function has forked, and that has come back from it
            return
        try:
            self._failed_processing_callback(datafile, self.lock)
        except Exception as exception:
            self.logger.error(
                f"_failed_processing_callback failed for {datafile.relative_filepath}", exc_info=exception
            )
