"""Programs that only bring files somewhere: to a folder, to a bucket. What they do with a file is written in Rust."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .data_file import DownloadDataFile, DownloadDataFileToDisk
from .stream import DataFileStreamHandler


class _Delivery(DataFileStreamHandler):
    """A program whose function is the engine's own."""

    def _compute(self, datafile: Any, is_last_attempt: bool) -> Any:
        raise NotImplementedError("the engine delivers the files by itself")

    def _deliver(self) -> tuple[int, int, int, list[Path]]:
        self._run_engine()
        return self.n_msgs_read, self.n_msgs_processed, self.n_processed_files, self.recent_processed_filepaths

    @classmethod
    def get_command_line_arguments(cls) -> tuple[list[str], dict[str, Any]]:
        names, defaults = super().get_command_line_arguments()
        return names, {**defaults, "n_threads": cls.DEF_N_THREADS}


class DataFileDownloadDirectory(_Delivery):
    """Keeps a folder like a topic: each file under its path, whole and verified.

    Parameters
    ----------
    dirpath
        The folder. The log file and the tables are in `LOGS` in there.
    config_path
        The configuration file. `None` is the embedded log `datamill.db` in this folder.
    topic_name
        The topic.
    datafile_type
        Accepted where it is OpenMSIStream's default.
    filepath_regex
        Only files whose relative path matches this regular expression.
    **kwargs
        As for `DataFileStreamProcessor`, but for `mode` and `datafile_type`.
    """

    _KIND = "download"

    def __init__(
        self,
        dirpath: Path | str,
        config_path: Path | str | None,
        topic_name: str,
        datafile_type: type[DownloadDataFile] = DownloadDataFileToDisk,
        filepath_regex: re.Pattern[str] | str | None = None,
        **kwargs: Any,
    ) -> None:
        if datafile_type is not DownloadDataFileToDisk:
            raise ValueError("a download has no files of other types: write a DataFileStreamProcessor for these")
        kwargs.pop("producer_topic_name", None)
        self._target = str(Path(dirpath).absolute())
        topics = {"topic_name": topic_name}
        super().__init__(config_path, topics=topics, output_dir=dirpath, filepath_regex=filepath_regex, **kwargs)
        self.dirpath = Path(dirpath)

    def reconstruct(self) -> tuple[int, int, int, list[Path]]:
        """Downloads until the program is stopped, on the thread that calls this.

        Returns
        -------
        n_msgs_read : int
            Number of messages that were read.
        n_msgs_processed : int
            Number of messages whose files are done.
        n_processed_files : int
            Number of files that are in the folder.
        recent_processed_filepaths : list of pathlib.Path
            The last of these files, at most `N_RECENT_FILES`.
        """
        return self._deliver()

    @classmethod
    def get_command_line_arguments(cls) -> tuple[list[str], dict[str, Any]]:
        names, defaults = super().get_command_line_arguments()
        del defaults["optional_output_dir"]
        return [*(name for name in names if name != "mode"), "output_dir"], defaults

    @classmethod
    def get_init_args_kwargs(cls, parsed_args: Any) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = super().get_init_args_kwargs(parsed_args)
        kwargs["producer_topic_name"] = parsed_args.producer_topic_name
        return [kwargs.pop("output_dir"), *args, parsed_args.consumer_topic_name], kwargs


class S3TransferStreamProcessor(_Delivery):
    """Puts each file of a topic into a bucket, as the object `{topic}/{subdirectory}/{filename}`.

    The section `[s3]` of the configuration has `access_key_id`, `secret_key_id`, `endpoint_url` and `region`.

    Parameters
    ----------
    bucket_name
        The bucket.
    config_path
        The configuration file.
    consumer_topic_name
        The topic.
    **kwargs
        As for `DataFileStreamProcessor`.
    """

    _KIND = "transfer"

    def __init__(
        self, bucket_name: str, config_path: Path | str | None, consumer_topic_name: str, **kwargs: Any
    ) -> None:
        kwargs.pop("producer_topic_name", None)
        self._target = f"s3://{bucket_name}"
        super().__init__(config_path, topics={"topic_name": consumer_topic_name}, **kwargs)
        self.bucket_name = bucket_name

    def make_stream(self) -> tuple[int, int, int, list[Path]]:
        """Transfers until the program is stopped, on the thread that calls this; see `process_files_as_read`."""
        return self._deliver()

    def process_files_as_read(self) -> tuple[int, int, int, list[Path]]:
        """Transfers until the program is stopped, on the thread that calls this.

        Returns
        -------
        n_msgs_read : int
            Number of messages that were read.
        n_msgs_processed : int
            Number of messages whose files are done.
        n_processed_files : int
            Number of files that are in the bucket.
        recent_processed_filepaths : list of pathlib.Path
            The last of these files, at most `N_RECENT_FILES`.
        """
        return self._deliver()

    @classmethod
    def get_command_line_arguments(cls) -> tuple[list[str], dict[str, Any]]:
        names, defaults = super().get_command_line_arguments()
        return [*names, "bucket_name"], defaults

    @classmethod
    def get_init_args_kwargs(cls, parsed_args: Any) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = super().get_init_args_kwargs(parsed_args)
        kwargs["producer_topic_name"] = parsed_args.producer_topic_name
        return [parsed_args.bucket_name, *args, parsed_args.consumer_topic_name], kwargs
