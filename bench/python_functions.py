"""Functions in Python against the Rust reproducer of the benchmark, and against the function alone in a loop.

    python bench/python_functions.py --bench target/release/datamill-bench [--servers HOST:PORT] [--files 200000] [--turns 5]

Needs the package (a wheel of a release build). Without `--servers`, the topics are in an embedded log. In each turn the Rust reproducer, the same logic in Python, and the header
extractor of `examples/python` run in turn over one topic of files of 4 KiB, each in a group and with a topic of its own. The
time is that from the first result to the last one by the times of their records. The floor of the extractor is the
function with `json.dumps` in a plain loop over the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

import datamill

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "examples" / "python"))
from xrd_metadata import metadata  # noqa: E402

SIZE = 4096
HEADER = "[Measurement conditions]\n" + "".join(
    f"{key},{value}\n" for key, value in {
        "Sample identification": "Quartz", "Operator": "A. Osei", "Scan axis": "Gonio", "Anode material": "Cu",
        "Generator voltage": 45, "Tube current": 40, "Time per step": 0.2,
    }.items()
) + "\n[Scan points]\n"


def size_and_lines(file):
    return {"size": file.size, "lines": file.bytestring.count(b"\n")}


class File:
    """What the extractor looks at, for the plain loop."""

    def __init__(self, content: bytes) -> None:
        self.bytestring = content


def content(number: int) -> bytes:
    return (HEADER + f"{number},1\n").encode().ljust(SIZE, b"1")


def seconds(config: pathlib.Path, topic: str, files: int) -> float:
    times = [message.timestamp for message in datamill.read(topic, config=config)]
    assert len(times) == files, (topic, len(times))
    return max(times) - min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--servers")
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        measure(args, pathlib.Path(name))


def measure(args: argparse.Namespace, folder: pathlib.Path) -> None:
    config = folder / "bench.config"
    config.write_text(
        f"[broker]\nbootstrap.servers = {args.servers or f'sqlite:{folder}/log.db'}\n\n[consumer]\nauto.offset.reset = earliest\n"
    )

    def topic(name: str) -> str:
        words = ["topic", "create", name, "--partitions", "4", "--config", str(config)]
        subprocess.run([sys.executable, "-m", "datamill", *words], check=True, stderr=subprocess.DEVNULL)
        return name

    files = topic(f"bench-python-{uuid.uuid4().hex[:8]}")
    (folder / "files").mkdir()
    for number in range(args.files):
        (folder / "files" / f"{number}.csv").write_bytes(content(number))
    datamill.upload(folder / "files", files, config=config)

    def options(results: str) -> dict[str, object]:
        return {
            "config": config, "consumer_topic_name": files, "producer_topic_name": results, "consumer_group_id": results,
            "output_dir": folder / results, "exit_at_end": True, "logger_stream_level": "error",
        }

    def rust(results: str) -> None:
        words = ["--exit-at-end" if value is True else f"--{name}={value}" for name, value in options(results).items()]
        subprocess.run([args.bench, "extract", *words], check=True, stderr=subprocess.DEVNULL)

    def python(function):
        return lambda results: datamill.reproduce(function, name="bench", **options(results))

    def loop(_: str) -> float:
        contents = [content(number) for number in range(args.files)]
        begin = time.perf_counter()
        for one in contents:
            json.dumps(metadata(File(one)), default=str)
        return time.perf_counter() - begin

    rows: dict[str, list[float]] = {}
    for _ in range(args.turns):
        for label, run in {
            "Rust: size and lines": rust, "Python: size and lines": python(size_and_lines),
            "Python: header extractor": python(metadata),
        }.items():
            results = topic(f"{files}-{uuid.uuid4().hex[:8]}")
            run(results)
            rows.setdefault(label, []).append(seconds(config, results, args.files))
        rows.setdefault("the extractor in a loop", []).append(loop(""))
    print(f"{args.files} files of {SIZE} bytes, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for label, times in rows.items():
        median = statistics.median(times)
        print(f"{label:28} {median:7.2f} s  {args.files / median:9.0f}/s  ({', '.join(f'{t:.2f}' for t in times)})")
    ratio = [p / r for p, r in zip(rows["Python: size and lines"], rows["Rust: size and lines"])]
    floor = [p / r for p, r in zip(rows["Python: header extractor"], rows["the extractor in a loop"])]
    print(f"Python / Rust: {statistics.median(ratio):.2f}   extractor / loop: {statistics.median(floor):.2f}")


if __name__ == "__main__":
    main()
