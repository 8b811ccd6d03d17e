"""Whole data files in, results out, exactly one result per file."""

from ._engine import DownloadDataFile, Ended, __version__, to_json
from ._errors import DatamillError, NotAvailable, RunError, SetUpError, Stop
from ._functions import process, reproduce

__all__ = [
    "DatamillError",
    "DownloadDataFile",
    "Ended",
    "NotAvailable",
    "RunError",
    "SetUpError",
    "Stop",
    "__version__",
    "process",
    "reproduce",
    "to_json",
]
