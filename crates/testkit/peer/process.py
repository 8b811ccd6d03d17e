"""Runs a processor of OpenMSIStream until `q` comes on its console: process.py CONFIG TOPIC GROUP OUTPUT_FOLDER

A file whose content begins with `fail` fails, as in crates/cli/tests/interop/inspect.rs.
"""

import sys
from pathlib import Path

from openmsistream import DataFileStreamProcessor


class Inspect(DataFileStreamProcessor):
    def _process_downloaded_data_file(self, datafile, lock):
        if bytes(datafile.bytestring).startswith(b"fail"):
            return ValueError("the content begins with `fail`")
        return None

    @classmethod
    def run_from_command_line(cls, args=None):
        raise NotImplementedError


config, topic, group, output = sys.argv[1:]
processor = Inspect(Path(config), topic, output_dir=Path(output), mode="memory", consumer_group_id=group, n_threads=2)
processor.process_files_as_read()
