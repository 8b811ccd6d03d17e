"""OpenMSIStream's names on datamill's engine.

`python -m datamill.openmsistream program.py ARGUMENTS` runs a program that imports `openmsistream` and `openmsitoolbox`,
unchanged.
"""

from .._classes.data_file import (
    DataFile,
    DownloadDataFile,
    DownloadDataFileToDisk,
    DownloadDataFileToMemory,
    DownloadDataFileToMemoryAndDisk,
)
from .._classes.delivery import DataFileDownloadDirectory, S3TransferStreamProcessor
from .._classes.girder import GirderUploadStreamProcessor
from .._classes.messages import ReproducerMessage
from .._classes.processor import DataFileStreamProcessor
from .._classes.reproducer import DataFileStreamReproducer, MetadataJSONReproducer
from .._classes.upload import DataFileUploadDirectory, UploadDataFile

__all__ = [
    "DataFile",
    "DataFileDownloadDirectory",
    "DataFileStreamProcessor",
    "DataFileStreamReproducer",
    "DataFileUploadDirectory",
    "DownloadDataFile",
    "DownloadDataFileToDisk",
    "DownloadDataFileToMemory",
    "DownloadDataFileToMemoryAndDisk",
    "GirderUploadStreamProcessor",
    "MetadataJSONReproducer",
    "ReproducerMessage",
    "S3TransferStreamProcessor",
    "UploadDataFile",
]
