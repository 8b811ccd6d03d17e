"""The file that a function of the user's gets."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Self

from .logger import LogOwner


class DataFile(LogOwner):
    """A data file.

    Parameters
    ----------
    filepath
        Where it is.
    """

    def __init__(self, filepath: Path | str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.filepath = Path(filepath)
        self.filename = self.filepath.name


class DownloadDataFile(DataFile):
    """A file that was rebuilt from its chunks, whole and verified.

    Attributes
    ----------
    filename : str
        Name of the file.
    filepath, full_filepath : pathlib.Path
        Where it is under the output folder, in modes `disk` and `both`. In mode `memory` there is no file; see `path()`.
    """

    _file: Any
    full_filepath: Path

    @classmethod
    def _made(cls, file: Any, output_dir: Path, on_disk: bool, other_kwargs: dict[str, Any]) -> Self:
        """The file of the engine as user code sees it."""
        public = output_dir / file.relative_filepath
        if on_disk and not (public.exists() and os.path.samefile(public, file.path())):
            # an older upload, which is tried again, does not take the place of a newer one
            public = Path(file.path())
        if cls in _OWN and not other_kwargs:
            # a constructor for each file costs more than all the rest
            made = cls.__new__(cls)
            made.filepath = public
            made.filename = file.filename
            made._LogOwner__logger = file.logger  # type: ignore[attr-defined]
        else:
            made = cls(public, logger=file.logger, **other_kwargs)
        made._file = file
        made.full_filepath = public
        return made

    @property
    def bytestring(self) -> bytes:
        """The content."""
        return self._file.bytestring  # type: ignore[no-any-return]

    @property
    def relative_filepath(self) -> Path:
        """Path relative to the folder that was uploaded."""
        return Path(self._file.relative_filepath)

    @property
    def subdir_str(self) -> str:
        """Folder of the file relative to the folder that was uploaded, with `/` between its parts; empty at the root."""
        return self._file.subdir_str  # type: ignore[no-any-return]

    @property
    def n_total_chunks(self) -> int:
        """Number of messages that the file came in."""
        return self._file.n_total_chunks  # type: ignore[no-any-return]

    @property
    def check_file_hash(self) -> bytes:
        """SHA-512 of the content."""
        return self._file.check_file_hash  # type: ignore[no-any-return]

    @property
    def sha512(self) -> Any:
        """SHA-512 of the content, as the engine's file has it."""
        return self._file.sha512

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self._file.size  # type: ignore[no-any-return]

    @property
    def mtime(self) -> float | None:
        """When the file was last changed where it was uploaded, in seconds since the epoch, if that is known."""
        return self._file.mtime  # type: ignore[no-any-return]

    def open(self) -> io.BufferedIOBase:
        """The content as a binary stream, without a copy."""
        return self._file.open()  # type: ignore[no-any-return]

    def path(self) -> Path:
        """A real file with the name and suffix of the original, in every mode. In mode `memory` it is gone after the call."""
        return Path(self._file.path())

    def getbuffer(self) -> memoryview:
        """The content without a copy; it stays alive as long as the view does. From Python 3.12 on, `memoryview(datafile)`."""
        return memoryview(self._file)

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self._file)


class DownloadDataFileToDisk(DownloadDataFile):
    """A file that is on disk, in the output folder."""


class DownloadDataFileToMemory(DownloadDataFile):
    """A file that is in memory."""


class DownloadDataFileToMemoryAndDisk(DownloadDataFileToMemory, DownloadDataFileToDisk):
    """A file that is in memory, and on disk in the output folder."""


_OWN = {DownloadDataFileToMemory, DownloadDataFileToDisk, DownloadDataFileToMemoryAndDisk}

#: The type of a file by the mode of its program.
TYPES: dict[str, type[DownloadDataFile]] = {
    "memory": DownloadDataFileToMemory,
    "disk": DownloadDataFileToDisk,
    "both": DownloadDataFileToMemoryAndDisk,
}
