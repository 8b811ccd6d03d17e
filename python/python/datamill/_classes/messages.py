"""Messages that a program makes from a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any


class Producible(ABC):
    """Something that becomes a message of a topic."""

    @property
    @abstractmethod
    def msg_key(self) -> Any:
        """The key of the message: text or bytes."""

    @property
    @abstractmethod
    def msg_value(self) -> Any:
        """The value of the message: text or bytes."""

    @property
    def callback_kwargs(self) -> dict[str, Any]:
        """What identifies the message for its program."""
        return {}

    def get_log_msg(self, print_every: int | None = None) -> str | None:
        """A line about the message for the log, or `None`."""
        return None


class ReproducerMessage(Producible):
    """The result of a file.

    Give the value, or override the property `msg_value` in a class of your own.

    Parameters
    ----------
    datafile
        The file that the result is made from.
    msg_value
        The value: text, bytes, or a dictionary that becomes JSON.

    Examples
    --------
    >>> message = ReproducerMessage(datafile, b"...")        # doctest: +SKIP
    >>> message.msg_key                                      # doctest: +SKIP
    'folder_scan.csv_chunk_processing_result'
    """

    def __init__(self, datafile: Any, msg_value: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._datafile = datafile
        self._value = msg_value

    @property
    def msg_key(self) -> Any:
        """The key that results of this file have: `{subdirectory}_{filename}_chunk_processing_result`."""
        subdir = str(self._datafile.subdir_str).replace("/", "_")
        return f"{subdir}_{self._datafile.filename}_chunk_processing_result"

    @property
    def msg_value(self) -> Any:
        """The value of the message."""
        if self._value is None:
            raise ValueError(
                f"{type(self).__name__} has no value: give it as the second argument, or override the property `msg_value`"
            )
        return self._value

    @property
    def callback_kwargs(self) -> dict[str, Any]:
        """Name, relative path and number of chunks of the file."""
        return {
            "filename": self._datafile.filename,
            "rel_filepath": self._datafile.relative_filepath,
            "n_total_chunks": self._datafile.n_total_chunks,
        }

    def get_log_msg(self, print_every: int | None = None) -> str | None:
        return f"Producing the result of {self._datafile.relative_filepath}"


class MetadataJSONMessage(ReproducerMessage):
    """Metadata as the result of a file.

    Parameters
    ----------
    datafile
        The file.
    json_content
        The JSON text, or a dictionary that becomes JSON.
    """

    def __init__(self, datafile: Any, *args: Any, json_content: Any = None, **kwargs: Any) -> None:
        super().__init__(datafile, json_content, *args, **kwargs)
