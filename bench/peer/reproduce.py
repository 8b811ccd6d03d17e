"""Runs OpenMSIStream's reproducer with the logic of `src/extract.rs`, until it is ended.

reproduce.py CONFIG SOURCE_TOPIC RESULT_TOPIC GROUP OUTPUT_FOLDER
"""

import sys
from pathlib import Path

from openmsistream import MetadataJSONReproducer


class Extract(MetadataJSONReproducer):
    def _get_metadata_dict_for_file(self, datafile):
        content = datafile.bytestring
        return {"size": len(content), "lines": content.count(b"\n")}

    @classmethod
    def run_from_command_line(cls, args=None):
        raise NotImplementedError


config, source, results, group, output = sys.argv[1:]
reproducer = Extract(
    Path(config),
    source,
    results,
    output_dir=Path(output),
    mode="memory",
    consumer_group_id=group,
    n_threads=2,
)
reproducer.produce_processing_results_for_files_as_read()
