"""A row of a SQLite database for each file, written once however often the function is called.

    python examples/python/to_sqlite.py --topic_name files --database files.sqlite
"""

from __future__ import annotations

import argparse
import sqlite3
import threading

import datamill

of_thread = threading.local()

parser = argparse.ArgumentParser(description="Notes each file of a topic in a SQLite database.")
parser.add_argument("--database", default="files.sqlite", help="the database (default: files.sqlite)")


def store(file: datamill.DownloadDataFile, options: argparse.Namespace) -> None:
    """Note path, size and hash. A thread keeps its connection: the function runs on the same threads all the time."""
    if not hasattr(of_thread, "connection"):
        of_thread.connection = sqlite3.connect(options.database, timeout=60)
        of_thread.connection.execute("CREATE TABLE IF NOT EXISTS files (path PRIMARY KEY, size, sha512, lines)")
    with of_thread.connection as connection:
        # after a crash the function may be called again for a file: the row is replaced, not doubled
        connection.execute(
            "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
            (str(file.relative_filepath), file.size, file.sha512, file.bytestring.count(b"\n")),
        )


if __name__ == "__main__":
    datamill.process(store, parser=parser)
