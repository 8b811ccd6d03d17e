"""Which modules `openmsistream` and `openmsitoolbox` have, and where their names are here.

Only names are in this table that do what they say.
"""

from __future__ import annotations

from collections.abc import Iterator

#: The releases whose names these are.
VERSIONS = {"openmsistream": "1.8.8", "openmsitoolbox": "1.2.4"}

_ARGUMENTS = {name: "arguments" for name in ("HasArguments", "HasArgumentParser", "Runnable")}
_CALLBACKS = {
    name: "parser_types"
    for name in (
        "config_path",
        "create_dir",
        "detect_bucket_name",
        "existing_dir",
        "existing_file",
        "int_power_of_two",
        "logger_string_to_level",
        "positive_float",
        "positive_int",
    )
}
_FILES = {
    name: "data_file"
    for name in (
        "DataFile",
        "DownloadDataFile",
        "DownloadDataFileToDisk",
        "DownloadDataFileToMemory",
        "DownloadDataFileToMemoryAndDisk",
    )
}
_MAIN = {
    "DataFileDownloadDirectory": "delivery",
    "DataFileStreamProcessor": "processor",
    "DataFileStreamReproducer": "reproducer",
    "DataFileUploadDirectory": "upload",
    "GirderUploadStreamProcessor": "girder",
    "MetadataJSONReproducer": "reproducer",
    "S3TransferStreamProcessor": "delivery",
    "UploadDataFile": "upload",
}

#: Module of OpenMSIStream -> name -> module of `datamill._classes`.
MODULES: dict[str, dict[str, str]] = {
    "openmsistream": _MAIN,
    "openmsistream.data_file_io": {**_FILES, "ReproducerMessage": "messages"},
    "openmsistream.data_file_io.actor": {},
    "openmsistream.data_file_io.actor.data_file_download_directory": {"DataFileDownloadDirectory": "delivery"},
    "openmsistream.data_file_io.actor.data_file_stream_handler": {"DataFileStreamHandler": "stream"},
    "openmsistream.data_file_io.actor.data_file_stream_processor": {"DataFileStreamProcessor": "processor"},
    "openmsistream.data_file_io.actor.data_file_stream_reproducer": {"DataFileStreamReproducer": "reproducer"},
    "openmsistream.data_file_io.actor.data_file_upload_directory": {"DataFileUploadDirectory": "upload"},
    "openmsistream.data_file_io.entity": {},
    "openmsistream.data_file_io.entity.data_file": {"DataFile": "data_file"},
    "openmsistream.data_file_io.entity.download_data_file": {
        name: "data_file" for name in _FILES if name.startswith("Download")
    },
    "openmsistream.data_file_io.entity.reproducer_message": {"ReproducerMessage": "messages"},
    "openmsistream.data_file_io.entity.upload_data_file": {"UploadDataFile": "upload"},
    "openmsistream.girder": {},
    "openmsistream.girder.girder_upload_stream_processor": {"GirderUploadStreamProcessor": "girder"},
    "openmsistream.kafka_wrapper": {"Producible": "messages"},
    "openmsistream.kafka_wrapper.producible": {"Producible": "messages"},
    "openmsistream.metadata_extraction": {"MetadataJSONReproducer": "reproducer"},
    "openmsistream.metadata_extraction.metadata_json_message": {"MetadataJSONMessage": "messages"},
    "openmsistream.metadata_extraction.metadata_json_reproducer": {"MetadataJSONReproducer": "reproducer"},
    "openmsistream.s3_buckets": {},
    "openmsistream.s3_buckets.s3_transfer_stream_processor": {"S3TransferStreamProcessor": "delivery"},
    "openmsistream.utilities": {"OpenMSIStreamArgumentParser": "parser"},
    "openmsistream.utilities.argument_parsing": {**_CALLBACKS, "OpenMSIStreamArgumentParser": "parser"},
    "openmsistream.utilities.config": {"RUN_CONST": "run_const", "RunConstants": "run_const"},
    "openmsistream.version": {},
    "openmsitoolbox": {"LogOwner": "logger", "OpenMSIArgumentParser": "parser", "Runnable": "arguments"},
    "openmsitoolbox.argument_parsing": {},
    "openmsitoolbox.argument_parsing.has_argument_parser": {"HasArgumentParser": "arguments"},
    "openmsitoolbox.argument_parsing.has_arguments": {"HasArguments": "arguments"},
    "openmsitoolbox.argument_parsing.openmsi_argument_parser": {"OpenMSIArgumentParser": "parser"},
    "openmsitoolbox.argument_parsing.parser_callbacks": _CALLBACKS,
    "openmsitoolbox.logging": {"OpenMSILogger": "logger"},
    "openmsitoolbox.logging.formatter": {"OpenMSIFormatter": "logger"},
    "openmsitoolbox.logging.log_owner": {"LogOwner": "logger"},
    "openmsitoolbox.logging.openmsi_logger": {"OpenMSILogger": "logger"},
    "openmsitoolbox.runnable": {},
    "openmsitoolbox.runnable.runnable": {"Runnable": "arguments"},
    "openmsitoolbox.utilities": {},
    "openmsitoolbox.utilities.exception_tracking_thread": {"ExceptionTrackingThread": "threads"},
    "openmsitoolbox.version": {},
}


def packages() -> Iterator[str]:
    """Modules that have modules in them."""
    return (name for name in MODULES if any(other.startswith(f"{name}.") for other in MODULES))
