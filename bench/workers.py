"""Workers that stay and isolated functions, beside the same functions in threads of the program.

    python bench/workers.py --servers HOST:PORT [--files 20000] [--turns 5]

Needs the package (a wheel of a release build). In each turn the runs go over one topic in turn, each in a group and with a topic
of its own; the time is that from the first result to the last one by the times of their records. Without `--servers` the topics
are in an embedded log. `datamill-bench port` measures the port alone.

small   files of 4 KiB, whose size is the result: a function in two threads, `--worker` with a worker in Python without the package,
        and `--isolate`, each with two workers.
slow    a function in pure Python that takes 5 ms: in two threads, and in two processes (`--isolate`).
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import tempfile
import textwrap

from python_functions import SMALL, Place, Table, in_turn, small

FUNCTIONS = """
    import time

    def size(file):
        return {"size": file.size}

    def slow(file):
        until = time.thread_time() + 0.005
        while time.thread_time() < until:
            pass
        return {"size": file.size}
"""

WORKER = """
    import json, os, struct
    source = open(int(os.environ["DATAMILL_INPUT"]), "rb")
    target = open(int(os.environ["DATAMILL_OUTPUT"]), "wb", buffering=0)
    def say(header, payload=b""):
        text = json.dumps(header).encode()
        target.write(struct.pack(">I", len(text)) + text + payload)
    say({"type": "hello", "version": 1})
    while length := source.read(4):
        file = json.loads(source.read(*struct.unpack(">I", length)))
        content = open(file["path"], "rb").read() if "path" in file else source.read(file["bytes"])
        result = json.dumps({"size": len(content)}).encode()
        say({"type": "result", "id": file["id"], "bytes": len(result)}, result)
"""


def reproduce(place: Place, source: str, results: str, *words: str) -> None:
    command = [sys.executable, "-m", "datamill", "reproduce", *place.words(source, results), "--n_threads=2", *words]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, cwd=place.folder)


def measure(place: Place, files: int, turns: int, runs: dict[str, list[str]]) -> None:
    table = Table()
    with place.topic() as source:
        place.upload(source, {f"{number}.csv": lambda number=number: small(number) for number in range(files)})
        for _ in range(turns):
            each = {
                label: lambda results, words=words: reproduce(place, source, results, *words) for label, words in runs.items()
            }
            in_turn(place, source, files, each, table)
    first, *others = runs
    for label in others:
        print(table.ratio(label, first))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers")
    parser.add_argument("--parts", default="small,slow")
    parser.add_argument("--files", type=int, default=200_000, help=f"files of {SMALL} bytes")
    parser.add_argument("--slow_files", type=int, default=1_000)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(args, pathlib.Path(folder))
        (place.folder / "functions.py").write_text(textwrap.dedent(FUNCTIONS))
        (place.folder / "worker.py").write_text(textwrap.dedent(WORKER))
        if "small" in args.parts:
            measure(place, args.files, args.turns, {
                "threads": ["functions.py:size"],
                "worker": ["--worker", "--", sys.executable, "worker.py"],
                "isolated": ["functions.py:size", "--isolate"],
            })
        if "slow" in args.parts:
            measure(place, args.slow_files, args.turns, {
                "threads": ["functions.py:slow"], "isolated": ["functions.py:slow", "--isolate"],
            })


if __name__ == "__main__":
    main()
