"""Files onto a topic, and messages from one: `upload` and `read`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from . import _engine, _host


def upload(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    topic: str,
    *,
    config: str | os.PathLike[str] | None = None,
    upload_regex: str | None = None,
    chunk_size: int | None = None,
) -> _engine.Uploaded:
    """Send files, and folders with all that is in them, to a topic.

    Files keep their paths relative to the folder that was named; a file that is named itself is sent under its name
    alone.

    Parameters
    ----------
    paths : path or iterable of paths
        Files and folders.
    topic : str
        The topic.
    config : path, optional
        The configuration file. Without one, the log is ``datamill.db`` in the working directory.
    upload_regex : str, optional
        Only files whose path, relative to the folder, matches this regular expression from its start.
    chunk_size : int, optional
        Bytes of file content in a message, a power of two; 524,288 where it is not given.

    Returns
    -------
    Uploaded
        What was sent: everything that was wanted.

    Raises
    ------
    SetUpError
        A path, the configuration, the log or the topic is not as it must be, or a right is missing.
    RunError
        Something was not sent, or there was no file to send; the text says what.

    Examples
    --------
    >>> datamill.upload("data", "files").files  # doctest: +SKIP
    12
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    return _host.wait(
        _engine.Upload(
            paths=[os.fspath(path) for path in paths],
            topic=topic,
            config=None if config is None else os.fspath(config),
            upload_regex=upload_regex,
            chunk_size=chunk_size,
        )
    )


def read(
    topic: str,
    *,
    config: str | os.PathLike[str] | None = None,
    offset: int | None = None,
    follow: bool = False,
) -> Iterator[_engine.Message]:
    """Read the messages of a topic, those that are committed, from the embedded log as from Kafka.

    Parameters
    ----------
    topic : str
        The topic.
    config : path, optional
        The configuration file. Without one, the log is ``datamill.db`` in the working directory.
    offset : int, optional
        Where to begin in each partition; a negative number is that many messages before the end. From the first message
        on where it is not given.
    follow : bool
        Whether to wait for more at the end that the topic has now.

    Returns
    -------
    iterator of Message
        The messages, those of a partition in order.

    Raises
    ------
    SetUpError
        The configuration, the log or the topic is not there.
    RunError
        The log cannot be read any further.

    Examples
    --------
    >>> for result in datamill.read("metadata"):  # doctest: +SKIP
    ...     print(result.path, result.json())
    """
    path = None if config is None else os.fspath(config)
    return _engine.Messages(topic=topic, config=path, offset=offset, follow=follow)
