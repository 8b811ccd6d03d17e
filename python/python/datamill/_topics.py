"""Files onto a topic, and messages from one: `upload` and `read`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from . import _engine, _host, _speech
from ._errors import RunError, SetUpError
from ._options import words_of_keywords


def upload(
    paths: str | bytes | os.PathLike[str] | Iterable[str | bytes | os.PathLike[str]],
    topic: str,
    *,
    config: str | os.PathLike[str] | None = None,
    upload_regex: str | None = None,
    path_prefix: str | None = None,
    chunk_size: int | None = None,
    **options: Any,
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
    path_prefix : str, optional
        Folder before the paths of all files on the topic, such as ``lab1/microscope``.
    chunk_size : int, optional
        Bytes of file content in a message, a power of two; 524,288 where it is not given.
    **options
        The other options of ``datamill upload`` as keywords: ``queue_max_size=16``, ``logger_stream_level="error"``.

    Returns
    -------
    Uploaded
        What was sent: everything that was wanted.

    Raises
    ------
    SetUpError
        A path, the configuration, the log or the topic is not as it must be, or a permission is missing.
    RunError
        Something was not sent, or there was no file to send; the text says what.
    TypeError
        An option that is not there.

    Examples
    --------
    >>> datamill.upload("data", "files").files  # doctest: +SKIP
    12
    """
    if isinstance(paths, (str, bytes, os.PathLike)):
        paths = [paths]
    named = {"topic_name": topic, "config": config, "upload_regex": upload_regex, "path_prefix": path_prefix}
    words = words_of_keywords("upload", {**named, "chunk_size": chunk_size, **options}, "upload")
    files = [os.fsdecode(path) for path in paths]
    if not files:
        raise RunError("no path is named: there is nothing to send", 1)
    return all_sent(
        _host.run(
            _engine.Sending(
                kind="upload",
                name="datamill_upload",
                arguments=[*words, "--", *files],
                speak=_speech.of_keywords("upload", {"topic_name": "topic"}),
            )
        )
    )


def all_sent(sent: _engine.Uploaded, what: str = "") -> _engine.Uploaded:
    """What was sent, where that is everything that was wanted; else the error that says what was not."""
    if sent.exit_code:
        error = SetUpError if sent.exit_code == SetUpError.exit_code else RunError
        raise error(what + sent.summary, sent.exit_code)
    return sent


@_speech.names_the_nearest
def read(
    topic: str,
    *,
    config: str | os.PathLike[str] | None = None,
    offset: int | None = None,
    follow: bool = False,
    newest: bool = False,
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
        Whether to wait for more at the end that the topic has now. Where the topic is deleted meanwhile, or created
        again, the reading ends with a `RunError` that says so within some seconds.
    newest : bool
        Whether only the newest result of each file is read, of what is in the topic now: that of its latest upload, and
        of several results of one upload the last one. It does not go with `follow`.

    Returns
    -------
    iterator of Message
        The messages, those of a partition in order.

    Raises
    ------
    SetUpError
        The configuration, the log or the topic is not there.
    RunError
        The broker is away, or the log or the topic cannot be read any further.

    Examples
    --------
    >>> for result in datamill.read("metadata"):  # doctest: +SKIP
    ...     print(result.path, result.json())
    """
    if newest and follow:
        raise TypeError("read(): `newest` reads what is in the topic now, so `follow` does not go with it")
    path = None if config is None else os.fspath(config)
    speak = _speech.of_keywords("upload")
    return _engine.Messages(topic=topic, config=path, offset=offset, follow=follow, newest=newest, speak=speak)
