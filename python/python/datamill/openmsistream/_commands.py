"""The commands of OpenMSIStream that need no code of a user's, for the distribution `datamill-openmsistream`."""

from __future__ import annotations

import sys

from .. import openmsistream
from .._classes import defaults
from .._errors import DatamillError


def _run(name: str) -> None:
    defaults.be_unchanged()
    try:
        getattr(openmsistream, name).run_from_command_line()
    except DatamillError as error:
        print(f"error: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        sys.exit(error.exit_code)


def upload_data_file() -> None:
    """Sends one file."""
    _run("UploadDataFile")


def data_file_upload_directory() -> None:
    """Sends the files of a folder as they are finished."""
    _run("DataFileUploadDirectory")


def data_file_download_directory() -> None:
    """Keeps a folder like a topic."""
    _run("DataFileDownloadDirectory")


def s3_transfer_stream_processor() -> None:
    """Puts each file of a topic into a bucket."""
    _run("S3TransferStreamProcessor")


def girder_upload_stream_processor() -> None:
    """Puts each file of a topic on a Girder server."""
    _run("GirderUploadStreamProcessor")
