"""Programs that only bring files somewhere: to a folder, to a bucket. What they do with a file is written in Rust."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .data_file import DownloadDataFile, DownloadDataFileToDisk
from .stream import StreamConsumer
from .words import OTHER_NAMES


class _Delivery(StreamConsumer):
    """A program whose function is the engine's own."""

    def _compute(self, datafile: Any, is_last_attempt: bool) -> Any:
        raise NotImplementedError("the engine delivers the files by itself")


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
    _OTHER_NAMES = {**OTHER_NAMES, "config": "config_path"}

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
        self._target = str(Path(dirpath).absolute())
        super().__init__(config_path, topic_name, output_dir=dirpath, filepath_regex=filepath_regex, **kwargs)
        self.dirpath = Path(dirpath)

    def reconstruct(self) -> tuple[int, int, int, list[Path]]:
        """Downloads until the program is stopped, on the thread that calls this.

        Answers as `DataFileStreamProcessor.process_files_as_read`: files count once they are in the folder.
        """
        return self._consume()

    @classmethod
    def get_command_line_arguments(cls) -> tuple[list[str], dict[str, Any]]:
        names, defaults = super().get_command_line_arguments()
        del defaults["optional_output_dir"]
        return [*(name for name in names if name != "mode"), "output_dir"], defaults

    @classmethod
    def get_init_args_kwargs(cls, parsed_args: Any) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = super().get_init_args_kwargs(parsed_args)
        return [kwargs.pop("output_dir"), *args], kwargs


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
    _OTHER_NAMES = {**OTHER_NAMES, "config": "config_path"}

    def __init__(
        self, bucket_name: str, config_path: Path | str | None, consumer_topic_name: str, **kwargs: Any
    ) -> None:
        self._target = f"s3://{bucket_name}"
        super().__init__(config_path, consumer_topic_name, **kwargs)
        self.bucket_name = bucket_name

    def make_stream(self) -> tuple[int, int, int, list[Path]]:
        """Transfers until the program is stopped, on the thread that calls this.

        Answers as `DataFileStreamProcessor.process_files_as_read`: files count once they are in the bucket.
        """
        return self._consume()

    def process_files_as_read(self) -> tuple[int, int, int, list[Path]]:
        """The same as `make_stream`."""
        return self._consume()

    @classmethod
    def get_command_line_arguments(cls) -> tuple[list[str], dict[str, Any]]:
        names, defaults = super().get_command_line_arguments()
        return [*names, "bucket_name"], defaults

    @classmethod
    def get_init_args_kwargs(cls, parsed_args: Any) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = super().get_init_args_kwargs(parsed_args)
        return [parsed_args.bucket_name, *args], kwargs
