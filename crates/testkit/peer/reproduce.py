"""Runs OpenMSIStream's reproducer of metadata until `q` comes on its console.

reproduce.py METADATA CONFIG SOURCE_TOPIC RESULT_TOPIC GROUP OUTPUT_FOLDER [NAME=VALUE...]    further arguments of its class

METADATA is `describe`, what crates/cli/tests/interop/describe.rs computes too (a file whose content begins with `fail`
fails), or `extract`, as bench/src/extract.rs.
"""

import hashlib
import sys
from pathlib import Path

from openmsistream import MetadataJSONReproducer


class Reproducer(MetadataJSONReproducer):
    @classmethod
    def run_from_command_line(cls, args=None):
        raise NotImplementedError


class Describe(Reproducer):
    def _get_metadata_dict_for_file(self, datafile):
        content = bytes(datafile.bytestring)
        if content.startswith(b"fail"):
            raise ValueError("the content begins with `fail`")
        return {
            "name": datafile.filename,
            "size": len(content),
            "half": len(content) / 2,
            "lines": content.count(b"\n"),
            "sha512": hashlib.sha512(content).hexdigest(),
            "parts": [len(part) for part in content[:200].split(b" ")],
            "nothing": None,
            "empty": len(content) == 0,
        }


class Extract(Reproducer):
    def _get_metadata_dict_for_file(self, datafile):
        content = datafile.bytestring
        return {"size": len(content), "lines": content.count(b"\n")}


def argument(text):
    name, value = text.split("=", 1)
    return name, float(value) if name.endswith("_secs") else value


metadata, config, source, results, group, output, *others = sys.argv[1:]
reproducer = {"describe": Describe, "extract": Extract}[metadata](
    Path(config),
    source,
    results,
    output_dir=Path(output),
    mode="memory",
    consumer_group_id=group,
    n_threads=2,
    **dict(argument(text) for text in others),
)
reproducer.produce_processing_results_for_files_as_read()
