"""The metadata of `xrd_metadata.py` by a class, as programs of OpenMSIStream have them.

    python examples/python/xrd_metadata_class.py --consumer_topic_name files --producer_topic_name metadata
"""

from __future__ import annotations

import datetime
from typing import Any

from datamill import DownloadDataFile, MetadataJSONReproducer


class XRDMetadata(MetadataJSONReproducer):
    """Reproduces the `[Measurement conditions]` block of each text export."""

    def _get_metadata_dict_for_file(self, datafile: DownloadDataFile) -> dict[str, Any]:
        lines = datafile.bytestring.decode("utf-8").splitlines()
        if not lines or lines[0].rstrip() != "[Measurement conditions]":
            raise ValueError("the file does not begin with `[Measurement conditions]`")
        conditions: dict[str, Any] = {}
        for number, line in enumerate(lines[1:], 2):
            if line.strip() == "[Scan points]":
                return {**conditions, "metadata extracted at": datetime.datetime.now(datetime.UTC).isoformat()}
            key, comma, value = line.partition(",")
            if comma:
                conditions[key.strip()] = value.strip()
            elif line.strip():
                raise ValueError(f"line {number} is no `key,value` pair: `{line.strip()}`")
        raise ValueError("the file ends before `[Scan points]`")


if __name__ == "__main__":
    XRDMetadata.run_from_command_line()
