"""A reader that takes nothing but a path, and looks at the suffix: here `tarfile`.

    datamill reproduce examples/python/needs_a_path.py:members --consumer_topic_name archives --producer_topic_name members
"""

from __future__ import annotations

import tarfile
from typing import Any

import datamill


def members(file: datamill.DownloadDataFile) -> dict[str, Any]:
    """List what is in an archive. `file.path()` is a real file with the original name, in every mode."""
    path = file.path()
    if "".join(path.suffixes[-2:]) not in (".tar.gz", ".tar.xz") and path.suffix not in (".tar", ".tgz"):
        raise ValueError(f"`{path.suffix}` is no suffix of an archive")
    with tarfile.open(path) as archive:
        return {"archive": file.filename, "members": {member.name: member.size for member in archive.getmembers()}}


if __name__ == "__main__":
    datamill.reproduce(members)
