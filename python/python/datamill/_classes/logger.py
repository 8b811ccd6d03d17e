"""The logger of OpenMSIStream's programs: short methods, one format, a stream and a file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from .. import _host
from .arguments import HasArguments, unknown_keyword
from .constructor import is_set_by_constructors, not_constructed

_Level = int | str


class OpenMSIFormatter(logging.Formatter):
    """Writes `[NAME YYYY-MM-DD HH:MM:SS] text`. A line break at the start of a text stays before the bracket."""

    def __init__(self) -> None:
        super().__init__("[%(name)s %(asctime)s] %(message)s", "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if not text.startswith("\n"):
            return super().format(record)
        inner = logging.makeLogRecord({**record.__dict__, "msg": text.lstrip("\n"), "args": ()})
        return "\n" * (len(text) - len(inner.msg)) + super().format(inner)


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to `sys.stderr` as it is when a line comes, so that notebooks and test runners see it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _Lines(logging.Logger):
    """A logger that hands its lines to the handlers of the root logger too, but not to what prints them already."""

    def callHandlers(self, record: logging.LogRecord) -> None:
        others = [handler for handler in logging.getLogger().handlers if not _host.prints(handler)]
        for handler in (*self.handlers, *others):
            if record.levelno >= handler.level:
                handler.handle(record)


class OpenMSILogger:
    """A logger with OpenMSIStream's methods. It is not a `logging.Logger`, but hands its lines to the root logger too.

    Parameters
    ----------
    logger_name
        The name in front of each line.
    streamlevel
        The lowest level that is printed to stderr.
    logger_filepath
        The log file, if there is one. It is appended to.
    filelevel
        The lowest level that goes to the log file.
    conf_global_logger
        Accepted, and without effect: the root logger stays as the program has set it up.
    """

    FORMATTER = OpenMSIFormatter()
    level = logging.NOTSET

    def __init__(
        self,
        logger_name: str | None = None,
        streamlevel: _Level = logging.INFO,
        logger_filepath: Path | str | None = None,
        filelevel: _Level = logging.WARNING,
        conf_global_logger: bool = True,
    ) -> None:
        # A logger of its own, not the one of that name: two objects of one class do not write each other's lines.
        self._logger = _Lines(logger_name or type(self).__name__)
        self._stream: logging.Handler = _StandardError()
        self._stream.setFormatter(self.FORMATTER)
        self._stream.setLevel(streamlevel)
        self._logger.addHandler(self._stream)
        self._files: list[logging.FileHandler] = []
        self._set_lowest()
        if logger_filepath is not None:
            self.add_file_handler(logger_filepath, filelevel)

    def add_file_handler(self, filepath: Path | str, level: _Level = logging.INFO) -> None:
        """Writes lines of this level and above to a file as well."""
        path = Path(filepath)
        if any(Path(handler.baseFilename) == path.absolute() for handler in self._files):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, delay=True, encoding="utf-8")
        handler.setFormatter(self.FORMATTER)
        handler.setLevel(level)
        self._files.append(handler)
        self._logger.addHandler(handler)
        self._set_lowest()

    def set_level(self, level: _Level) -> None:
        """Drops all lines below this level."""
        self._logger.setLevel(level)

    def set_stream_level(self, level: _Level) -> None:
        """Prints lines of this level and above."""
        self._stream.setLevel(level)
        self._set_lowest()

    def get_stream_level(self) -> int:
        """The lowest level that is printed."""
        return self._stream.level

    def set_file_level(self, level: _Level) -> None:
        """Writes lines of this level and above to the log file."""
        for handler in self._files:
            handler.setLevel(level)
        self._set_lowest()

    def _set_lowest(self) -> None:
        self._logger.setLevel(min(handler.level for handler in self._logger.handlers))

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs a line for developers."""
        self._logger.debug(msg, *args, stacklevel=2, **kwargs)

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs a line."""
        self._logger.info(msg, *args, stacklevel=2, **kwargs)

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs a line with `WARNING: ` in front."""
        self._logger.warning(_with_level(msg, "WARNING: "), *args, stacklevel=2, **kwargs)

    def error(
        self,
        msg: object,
        *,
        exc_type: type[BaseException] | None = None,
        reraise: bool = False,
        **kwargs: Any,
    ) -> None:
        """Logs a line with `ERROR: ` in front.

        Parameters
        ----------
        msg
            The text.
        exc_type
            Raise an exception of this type, with the text, afterwards.
        reraise
            Raise the exception of `exc_info` afterwards, or the one that is being handled.
        **kwargs
            As for `logging.Logger.error`; `exc_info=exception` adds its traceback.
        """
        self._logger.error("%s", _with_level(msg, "ERROR: "), stacklevel=2, **kwargs)
        if exc_type is not None:
            raise exc_type(str(msg))
        if reraise:
            exception = kwargs.get("exc_info")
            exception = exception if isinstance(exception, BaseException) else sys.exc_info()[1]
            if exception is not None:
                raise exception

    @contextmanager
    def through_engine(self) -> Iterator[None]:
        """Hands the lines to the engine meanwhile, which prints them and sends them to the topic for log lines."""
        handlers, self._logger.handlers = self._logger.handlers, [_host.handler()]
        try:
            yield
        finally:
            self._logger.handlers = handlers

    def close(self) -> None:
        """Closes the log file. The next line opens it again."""
        for handler in self._files:
            handler.close()


def _with_level(msg: object, level: str) -> str:
    text = str(msg)
    return text if level.strip(": ") in text.split(":", 1)[0].upper() else level + text


class LogOwner(HasArguments):
    """Something that has a logger.

    Parameters
    ----------
    *args
        For the next class.
    logger
        The logger to use. Without one, a logger is made from the other parameters.
    logger_name
        Its name; the class's own where none is given.
    streamlevel
        The lowest level that is printed.
    logger_file
        The log file, or a folder for it.
    filelevel
        The lowest level that goes to the log file.
    **other_kwargs
        For the next class.
    """

    def __init__(
        self,
        *args: Any,
        logger: OpenMSILogger | None = None,
        logger_name: str | None = None,
        streamlevel: _Level = logging.INFO,
        logger_file: Path | str | None = None,
        filelevel: _Level = logging.WARNING,
        **other_kwargs: Any,
    ) -> None:
        if logger is None:
            name = logger_name or type(self).__name__
            path = None if logger_file is None else Path(logger_file)
            if path is not None and path.is_dir():
                path = path / f"{name}.log"
            logger = OpenMSILogger(name, streamlevel, path, filelevel)
        self.__logger = logger
        if other_kwargs and getattr(super().__init__, "__objclass__", None) is object:
            raise unknown_keyword(type(self), next(iter(other_kwargs)))
        super().__init__(*args, **other_kwargs)

    def __getattr__(self, name: str) -> Any:
        # it is called only for what is not there
        if "_LogOwner__logger" not in vars(self) and not name.startswith("__") and is_set_by_constructors(type(self), name):
            raise not_constructed(type(self), name)
        raise AttributeError(f"`{type(self).__name__}` object has no attribute `{name}`", name=name, obj=self)

    @property
    def logger(self) -> OpenMSILogger:
        """The logger."""
        return self.__logger

    @logger.setter
    def logger(self, logger: OpenMSILogger) -> None:
        self.__logger = logger

    @classmethod
    def get_command_line_arguments(cls) -> tuple[list[str], dict[str, Any]]:
        names, defaults = super().get_command_line_arguments()
        return [*names, "logger_stream_level", "logger_file_path", "logger_file_level"], defaults

    @classmethod
    def get_init_args_kwargs(cls, parsed_args: Any) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = super().get_init_args_kwargs(parsed_args)
        return args, {
            **kwargs,
            "streamlevel": parsed_args.logger_stream_level,
            "logger_file": parsed_args.logger_file_path,
            "filelevel": parsed_args.logger_file_level,
        }
