"""Metadata of X-ray diffraction files: the header block of each text export as a dictionary.

    datamill try examples/python/xrd_metadata.py:metadata FILE…
    datamill reproduce examples/python/xrd_metadata.py:metadata --consumer_topic_name files --producer_topic_name metadata
"""

from __future__ import annotations

import datetime
from typing import Any

import datamill


def metadata(file: datamill.DownloadDataFile) -> dict[str, Any]:
    """Read the `[Measurement conditions]` block: a line `key,value` for each condition, up to `[Scan points]`."""
    lines = file.bytestring.decode("utf-8").splitlines()
    if not lines or lines[0].rstrip() != "[Measurement conditions]":
        raise ValueError("the file does not begin with `[Measurement conditions]`")
    conditions: dict[str, Any] = {}
    for number, line in enumerate(lines[1:], 2):
        if line.strip() == "[Scan points]":
            return {**conditions, "metadata extracted at": datetime.datetime.now(datetime.UTC)}
        key, comma, value = line.partition(",")
        if comma:
            conditions[key.strip()] = value.strip()
        elif line.strip():
            raise ValueError(f"line {number} is no `key,value` pair: `{line.strip()}`")
    raise ValueError("the file ends before `[Scan points]`")


if __name__ == "__main__":
    datamill.reproduce(metadata)
