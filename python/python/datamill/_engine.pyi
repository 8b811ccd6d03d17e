"""The engine, written in Rust. Private: use the names of `datamill`."""

import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, final

__version__: str

@final
class DownloadDataFile:
    """A data file that was rebuilt from its chunks: whole, and with the SHA-512 that its uploader took.

    ``memoryview(file)`` is the content without a copy, and keeps it alive, also after the call.
    """

    @property
    def bytestring(self) -> bytes:
        """The content, copied once."""
    @property
    def filename(self) -> str:
        """Name of the file, without its folder."""
    @property
    def relative_filepath(self) -> Path:
        """Path of the file relative to the folder that was uploaded."""
    @property
    def subdir_str(self) -> str:
        """Folder of the file relative to the folder that was uploaded; ``""`` at the root."""
    @property
    def full_filepath(self) -> Path:
        """Path of the file under the output folder. In mode ``memory`` there is no file: see `path`."""
    @property
    def filepath(self) -> Path:
        """The same as `full_filepath`."""
    @property
    def n_total_chunks(self) -> int:
        """Number of messages that the file came in."""
    @property
    def check_file_hash(self) -> bytes:
        """SHA-512 of the content."""
    @property
    def sha512(self) -> str:
        """SHA-512 of the content, as hexadecimal digits."""
    @property
    def size(self) -> int:
        """Size in bytes."""
    @property
    def mtime(self) -> float | None:
        """When the file was last changed where it was uploaded, in seconds since 1970, if its uploader said so."""
    @property
    def logger(self) -> logging.Logger:
        """The program's logger."""
    @property
    def _attempt(self) -> int: ...
    @property
    def _is_last_attempt(self) -> bool: ...
    def open(self) -> io.BufferedReader:
        """Open a binary stream over the content, which does not copy it and can seek."""
    def path(self) -> Path:
        """Put the file on disk, with its name and suffix in a folder of its own, and say where.

        It is gone after the call. Do not change it.
        """
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Ended:
    """What a run has done."""

    @property
    def exit_code(self) -> int:
        """0 where every file is done, 1 where some failed or are incomplete."""
    @property
    def summary(self) -> str:
        """The same in words."""
    @property
    def files(self) -> int:
        """Files that the function was done with."""
    @property
    def failed(self) -> int:
        """Files that failed."""
    @property
    def failed_files(self) -> list[tuple[str, str]]:
        """Path and reason of the files for which the function failed, the first 1,000 of them."""
    @property
    def incomplete_files(self) -> list[str]:
        """Paths of the files whose chunks had not all come at the end of the topic."""
    @property
    def left_out_messages(self) -> int:
        """Messages that hold no chunk of a file."""
    @property
    def size(self) -> int:
        """Bytes of the files that the function was done with."""
    @property
    def seconds(self) -> float:
        """How long it ran."""
    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """What a cell of a notebook shows."""

@final
class Engine:
    def __new__(
        cls,
        *,
        kind: str,
        name: str,
        arguments: Sequence[str],
        code: Callable[[DownloadDataFile], Any],
        logger: Any,
        public_names: bool = False,
        target: str | None = None,
        default: Callable[[Any], Any] | None = None,
        speak: Callable[[str], str] | None = None,
        folder: str | None = None,
        mismatched: Callable[[DownloadDataFile], Any] | None = None,
        version: str | None = None,
        worker: Callable[[dict[str, Any], bool], tuple[list[str], list[str]]] | None = None,
    ) -> Engine: ...
    @property
    def is_isolated(self) -> bool: ...
    @property
    def n_threads(self) -> int: ...
    @property
    def output_dir(self) -> Path: ...
    @property
    def ends_by_itself(self) -> bool: ...
    @property
    def stopping(self) -> bool: ...
    @property
    def hanging(self) -> list[str]: ...
    @property
    def working(self) -> list[tuple[str, str]]: ...
    def told(self) -> None: ...
    def spare(self) -> None: ...
    def speak(self, text: str) -> str: ...
    def start(self) -> None: ...
    def work(self, thread: str) -> None: ...
    def wait(self, seconds: float) -> bool: ...
    def stop(self, keep_place: bool = False) -> None: ...
    def check(self) -> None: ...
    def counts(self) -> dict[str, Any]: ...
    def end(self) -> Ended: ...

@final
class RustCommand:
    def run(self) -> int: ...

@final
class FunctionCommand:
    @property
    def what(self) -> str: ...
    @property
    def function(self) -> str: ...
    @property
    def options(self) -> list[str]: ...
    @property
    def own(self) -> list[str]: ...
    @property
    def refusal(self) -> str | None: ...
    @property
    def files(self) -> list[str]: ...
    @property
    def python(self) -> str | None: ...
    def run_elsewhere(self) -> int: ...

def parse_command(
    program: str, edition: str, keeper: Sequence[str], words: Sequence[str]
) -> int | RustCommand | FunctionCommand: ...
def keep() -> int: ...
def keep_warm(prepare: Callable[[], None], fork: Callable[[list[int], dict[str, str]], int]) -> int: ...
def serve(
    code: Callable[[DownloadDataFile], Any],
    logger: Any,
    *,
    name: str,
    has_results: bool,
    nan: str,
    output_dir: Path | str,
    stays_on_disk: bool,
    has_words: bool,
    default: Callable[[Any], Any] | None = None,
) -> None: ...
def try_file(
    function: Callable[[DownloadDataFile], Any], logger: logging.Logger, path: str, nan: str, output_dir: str
) -> tuple[bytes, int] | None: ...
# bytes of the largest record that the embedded log takes
EMBEDDED_TAKES: int

def largest_entry(result: bytes) -> tuple[str, int] | None: ...

@final
class Sending:
    def __new__(
        cls,
        *,
        kind: Literal["upload", "watch"],
        name: str,
        arguments: Sequence[str],
        root: Path | None = None,
        filename_append: str = "",
        speak: Callable[[str], str] | None = None,
    ) -> Sending: ...
    @property
    def ends_by_itself(self) -> bool: ...
    @property
    def stopping(self) -> bool: ...
    def start(self) -> None: ...
    def wait(self, seconds: float) -> bool: ...
    def stop(self, keep_place: bool = False) -> None: ...
    def check(self) -> None: ...
    def speak(self, text: str) -> str: ...
    def counts(self) -> dict[str, Any]: ...
    def end(self) -> Uploaded: ...

@final
class Uploaded:
    """What was sent."""

    @property
    def exit_code(self) -> int:
        """0 where all that was wanted was sent."""
    @property
    def summary(self) -> str:
        """In words."""
    @property
    def files(self) -> int:
        """Files that are in the topic, whole."""
    @property
    def messages(self) -> int:
        """Messages that they are in."""
    @property
    def size(self) -> int:
        """Their bytes."""
    @property
    def seconds(self) -> float:
        """How long it took."""

@final
class Message:
    """A message of a topic."""

    @property
    def path(self) -> str | None:
        """Path of the file that it was computed from, relative to the folder that was uploaded."""
    @property
    def value(self) -> bytes | None:
        """What it holds."""
    @property
    def key(self) -> bytes | None:
        """Its key."""
    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """Its headers. Those named ``datamill.…`` say where the file came from."""
    @property
    def topic(self) -> str:
        """The topic."""
    @property
    def partition(self) -> int:
        """The partition."""
    @property
    def offset(self) -> int:
        """Its place in the partition."""
    @property
    def timestamp(self) -> float | None:
        """Its time, in seconds since 1970."""
    def text(self) -> str | None:
        """The value as text.

        Raises
        ------
        ValueError
            The value is not text, as in a topic of files; the error says what it is.
        """
    def json(self) -> Any:
        """The value, read as JSON.

        Raises
        ------
        ValueError
            The value is not JSON, as in a topic of files; the error says what it is.
        """

@final
class Messages:
    def __new__(
        cls,
        *,
        topic: str,
        config: str | None = None,
        offset: int | None = None,
        follow: bool = False,
        newest: bool = False,
        speak: Callable[[str], str] | None = None,
    ) -> Messages: ...
    def __iter__(self) -> Messages: ...
    def __next__(self) -> Message: ...

def options(kind: str) -> list[dict[str, Any]]: ...
def leave_within(seconds: float, code: int, text: str) -> None: ...
def printing(begins: bool, colours: bool) -> None: ...
def take_lines() -> list[tuple[str, bool]]: ...
def status_ports() -> list[int]: ...
def print_text(text: str) -> None: ...
def log(level: int, text: str) -> None: ...
def to_json(
    dictionary: Any,
    nan: Literal["null", "error", "python"] = "null",
    default: Callable[[Any], Any] | None = None,
) -> str: ...
def to_json_counted(
    dictionary: Any,
    nan: Literal["null", "error", "python"] = "null",
    default: Callable[[Any], Any] | None = None,
) -> tuple[str, int]: ...
