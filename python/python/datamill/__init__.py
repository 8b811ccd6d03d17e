"""Whole data files in, results out, exactly one result per file."""

from ._classes.data_file import (
    DataFile,
    DownloadDataFileToDisk,
    DownloadDataFileToMemory,
    DownloadDataFileToMemoryAndDisk,
)
from ._classes.delivery import DataFileDownloadDirectory, S3TransferStreamProcessor
from ._classes.girder import GirderUploadStreamProcessor
from ._classes.messages import ReproducerMessage
from ._classes.parser import OpenMSIStreamArgumentParser
from ._classes.processor import DataFileStreamProcessor
from ._classes.reproducer import DataFileStreamReproducer, MetadataJSONReproducer
from ._classes.upload import DataFileUploadDirectory, UploadDataFile
from ._engine import DownloadDataFile, Ended, Message, Uploaded, __version__, to_json
from ._errors import DatamillError, NotAvailable, RunError, SetUpError, Stop
from ._functions import process, reproduce
from ._topics import read, upload

__all__ = [
    "DataFile",
    "DataFileDownloadDirectory",
    "DataFileStreamProcessor",
    "DataFileStreamReproducer",
    "DataFileUploadDirectory",
    "DatamillError",
    "DownloadDataFile",
    "DownloadDataFileToDisk",
    "DownloadDataFileToMemory",
    "DownloadDataFileToMemoryAndDisk",
    "Ended",
    "GirderUploadStreamProcessor",
    "Message",
    "MetadataJSONReproducer",
    "NotAvailable",
    "OpenMSIStreamArgumentParser",
    "ReproducerMessage",
    "RunError",
    "S3TransferStreamProcessor",
    "SetUpError",
    "Stop",
    "UploadDataFile",
    "Uploaded",
    "__version__",
    "process",
    "read",
    "reproduce",
    "to_json",
    "upload",
]
