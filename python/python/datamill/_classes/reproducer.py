"""Programs that compute a result from each file, and send it to another topic."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._errors import WrongAnswer
from .messages import MetadataJSONMessage, Producible
from .stream import DataFileStreamHandler

#: What a function may answer with.
Result = Producible | Mapping[str, Any] | str | bytes


class DataFileStreamReproducer(DataFileStreamHandler):
    """Runs a function of yours on each file of a topic, and sends the message that it answers with to another topic.

    Override `_get_processing_result_message_for_file`. Each upload of a file has exactly one result, or one failure.

    Parameters
    ----------
    config_file
        The configuration file. `None` is the embedded log `datamill.db` in this folder.
    consumer_topic_name
        The topic that files come from.
    producer_topic_name
        The topic that results go to.
    n_consumer_threads
        Number of threads that run the function, where `n_threads` is not given.
    n_producer_threads
        Accepted, and without effect: results need no threads.
    **kwargs
        As for `DataFileStreamProcessor`.
    """

    _KIND = "reproducer"
    _MORE_KEYWORDS = ("nan",)
    _HOOKS = {"_get_processing_result_message_for_file": ("datafile", "lock")}

    def __init__(
        self, config_file: Path | str | None, consumer_topic_name: str, producer_topic_name: str, **kwargs: Any
    ) -> None:
        n_consumer_threads = kwargs.pop("n_consumer_threads", None)
        kwargs.pop("n_producer_threads", None)
        kwargs["n_threads"] = kwargs.get("n_threads") or n_consumer_threads
        self._producer_topic = producer_topic_name
        topics = {"consumer_topic_name": consumer_topic_name, "producer_topic_name": producer_topic_name}
        super().__init__(config_file, topics=topics, **kwargs)

    @property
    def producer_topic_name(self) -> str:
        """The topic that results go to."""
        return self._producer_topic

    @property
    def n_results_produced_files(self) -> int:
        """Number of files whose results are in the topic."""
        return int(self._count("messages_produced"))

    @property
    def recent_results_produced(self) -> list[Path]:
        """Relative paths of the files for which the function has returned last, at most `N_RECENT_FILES`.

        Their results may still be on their way to the topic.
        """
        return self.recent_processed_filepaths

    def produce_processing_results_for_files_as_read(self) -> tuple[int, int, int, int, list[Path]]:
        """Runs until the program is stopped, on the thread that calls this.

        Returns
        -------
        n_msgs_read : int
            Number of messages that were read.
        n_msgs_processed : int
            Number of messages whose files are done.
        n_processed_files : int
            Number of files that the function was done with, counted when it returns.
        n_results_produced_files : int
            Number of files whose results are in the topic.
        recent_results_produced : list of pathlib.Path
            The last files for which the function has returned, at most `N_RECENT_FILES`.

        Raises
        ------
        datamill.SetUpError
            The configuration, the log or a folder is not as it must be.
        datamill.RunError
            The run could not go on. Nothing is lost: start the program again.
        """
        self._run_engine()
        counts = (self.n_msgs_read, self.n_msgs_processed, self.n_processed_files, self.n_results_produced_files)
        return *counts, self.recent_results_produced

    @abstractmethod
    def _get_processing_result_message_for_file(self, datafile: Any, lock: Any) -> Result | BaseException | None:
        """Your function.

        Parameters
        ----------
        datafile
            The file.
        lock
            `self.lock`. `with lock:` lets one thread at a time touch what they share.

        Returns
        -------
        ReproducerMessage, dict, str or bytes
            The result; a dictionary becomes JSON. `None` or an exception is a failure of the file.
        """

    def _compute(self, datafile: Any, is_last_attempt: bool) -> Any:
        # an exception that it answers with is not raised here: it would hold this frame, and with it the file
        return self._get_processing_result_message_for_file(datafile, self.lock)

    @classmethod
    def get_command_line_arguments(cls) -> tuple[list[str], dict[str, Any]]:
        names, defaults = super().get_command_line_arguments()
        return [*names, "n_consumer_threads", "n_producer_threads"], defaults

    @classmethod
    def get_init_args_kwargs(cls, parsed_args: Any) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = super().get_init_args_kwargs(parsed_args)
        kwargs |= {name: getattr(parsed_args, name) for name in ("n_consumer_threads", "n_producer_threads")}
        kwargs["n_threads"] = parsed_args.n_threads = parsed_args.n_consumer_threads
        return [*args, parsed_args.consumer_topic_name, parsed_args.producer_topic_name], kwargs


class MetadataJSONReproducer(DataFileStreamReproducer):
    """Runs a function of yours on each file of a topic, and sends the dictionary that it answers with as JSON.

    Override `_get_metadata_dict_for_file`. See `DataFileStreamReproducer` for the parameters.

    Examples
    --------
    >>> class Lines(MetadataJSONReproducer):
    ...     def _get_metadata_dict_for_file(self, datafile):
    ...         return {"lines": datafile.bytestring.count(b"\\n")}
    >>> if __name__ == "__main__":
    ...     Lines.run_from_command_line()  # doctest: +SKIP
    """

    _HOOKS = {**DataFileStreamReproducer._HOOKS, "_get_metadata_dict_for_file": ("datafile",)}

    @abstractmethod
    def _get_metadata_dict_for_file(self, datafile: Any) -> Mapping[str, Any]:
        """Your function.

        Parameters
        ----------
        datafile
            The file.

        Returns
        -------
        dict
            The metadata. An exception, and an answer that is no dictionary, is a failure of the file.
        """

    def _get_processing_result_message_for_file(self, datafile: Any, lock: Any) -> Result | BaseException | None:
        metadata: Any = self._get_metadata_dict_for_file(datafile)
        if isinstance(metadata, BaseException):
            return metadata
        if not isinstance(metadata, Mapping):
            raise WrongAnswer(f"`_get_metadata_dict_for_file` answered with `{type(metadata).__name__}`: return a dictionary")
        return MetadataJSONMessage(datafile, json_content=metadata)
