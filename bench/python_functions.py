"""Functions in Python against the Rust reproducer of the benchmark, against the function alone, and against OpenMSIStream.

    python bench/python_functions.py --bench target/release/datamill-bench --servers HOST:PORT --peer PYTHON

Needs the package (a wheel of a release build); `--parts` names what is measured:

small   files of 4 KiB, text exports as in `examples/data`. In each turn the Rust reproducer, the same logic in Python, and the
        header extractor of `examples/python` run in turn over one topic, each in a group and with a topic of its own. The
        time is that from the first result to the last one by the times of their records. The floor of the extractor is the
        function with `json.dumps` in a plain loop over the same bytes.
large   files of 32 MiB whose SHA-512 is the result, by the Rust reproducer and by Python.
peer    the extractor as a class, run by OpenMSIStream (the Python of `--peer` has it) and by datamill over that topic of
        small files: results in the first 60 s after the first one.
huge    one file of 512 MiB in memory, by OpenMSIStream and by datamill: from the start of the program to the result, and
        the most anonymous memory of datamill.

Without `--servers`, the topics are in an embedded log, which OpenMSIStream cannot read: `small` and `large` alone.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import datamill

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES / "python"))
from xrd_metadata import metadata  # noqa: E402

SMALL, LARGE, HUGE = 4 << 10, 32 << 20, 512 << 20
PEER_SECONDS = 60


def size_and_lines(file):
    return {"size": file.size, "lines": file.bytestring.count(b"\n")}


def sha512(file):
    content = file.bytestring
    return {"size": len(content), "sha512": hashlib.sha512(content).hexdigest()}


class File:
    """What the extractor looks at, for the plain loop."""

    def __init__(self, content: bytes) -> None:
        self.bytestring = content


SAMPLE = (EXAMPLES / "data" / "2026-03-02_Si_standard" / "si_111_fine.csv").read_bytes()


def small(number: int) -> bytes:
    """The beginning of a sample, with a comment of its own."""
    return SAMPLE.replace(b"line profile", b"profile %07d" % number, 1)[:SMALL]


class Place:
    """Topics, options and runs of one measurement."""

    def __init__(self, args: argparse.Namespace, folder: pathlib.Path) -> None:
        self.args, self.folder = args, folder
        self.config = folder / "bench.config"
        servers = args.servers or f"sqlite:{folder}/log.db"
        self.config.write_text(f"[broker]\nbootstrap.servers = {servers}\n\n[consumer]\nauto.offset.reset = earliest\n")

    def datamill(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        words = *words, "--config", str(self.config)
        return subprocess.run([sys.executable, "-m", "datamill", *words], check=True, stderr=subprocess.DEVNULL)

    @contextlib.contextmanager
    def topic(self, partitions: int = 4) -> Iterator[str]:
        name = f"bench-python-{uuid.uuid4().hex[:8]}"
        self.datamill("topic", "create", name, "--partitions", str(partitions))
        try:
            yield name
        finally:
            if self.args.servers:
                self.datamill("topic", "delete", name, "--yes")

    def upload(self, topic: str, files: dict[str, Callable[[], bytes]]) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            for path, content in files.items():
                (pathlib.Path(name) / path).write_bytes(content())
            datamill.upload(name, topic, config=self.config)

    def options(self, source: str, results: str) -> dict[str, object]:
        return {
            "config": self.config, "consumer_topic_name": source, "producer_topic_name": results,
            "consumer_group_id": results, "output_dir": self.folder / results, "exit_at_end": True,
            "logger_stream_level": "error",
        }

    def words(self, source: str, results: str) -> list[str]:
        options = self.options(source, results)
        return ["--exit-at-end" if value is True else f"--{name}={value}" for name, value in options.items()]

    def rust(self, source: str, results: str, *words: str) -> None:
        command = [self.args.bench, "extract", *self.words(source, results), *words]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)

    def python(self, source: str, results: str, function: Callable[..., object]) -> None:
        datamill.reproduce(function, name="bench", **self.options(source, results))

    def times(self, topic: str) -> list[float]:
        return sorted(message.timestamp for message in datamill.read(topic, config=self.config))


def cpu() -> float:
    """CPU seconds of this process and of its children that ended."""
    return sum(
        used.ru_utime + used.ru_stime for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


class Table:
    """Seconds by record time and CPU seconds of each run."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[float, float]]] = {}

    def add(self, label: str, seconds: float, used: float) -> None:
        self.rows.setdefault(label, []).append((seconds, used))
        print(f"  {label:28} {seconds:7.2f} s, {used:7.2f} s of CPU", flush=True)

    def median(self, label: str) -> float:
        return statistics.median(seconds for seconds, _ in self.rows[label])

    def ratio(self, one: str, other: str) -> str:
        time, used = (
            statistics.median(a[place] / b[place] for a, b in zip(self.rows[one], self.rows[other])) for place in (0, 1)
        )
        return f"{one} / {other}: {time:.2f} of the time, {used:.2f} of the CPU time"


def in_turn(place: Place, source: str, files: int, runs: dict[str, Callable[[str], None]], table: Table) -> None:
    for label, run in runs.items():
        with place.topic() as results:
            before = cpu()
            run(results)
            used = cpu() - before
            times = place.times(results)
            assert len(times) == files, (label, len(times))
            table.add(label, times[-1] - times[0], used)


def measure_small(place: Place, source: str) -> None:
    files = place.args.files
    table = Table()
    contents = [small(number) for number in range(min(files, 20_000))]
    for _ in range(place.args.turns):
        in_turn(place, source, files, {
            "Rust": lambda results: place.rust(source, results),
            "Python": lambda results: place.python(source, results, size_and_lines),
            "extractor": lambda results: place.python(source, results, metadata),
        }, table)
        before, begin = cpu(), time.perf_counter()
        for number in range(files):
            json.dumps(metadata(File(contents[number % len(contents)])), default=str)
        table.add("loop", time.perf_counter() - begin, cpu() - before)
    for label in table.rows:
        print(f"{label:12} {files / table.median(label):9.0f} files/s")
    print(table.ratio("Python", "Rust"), table.ratio("extractor", "loop"), table.ratio("Rust", "loop"), sep="\n")


def measure_large(place: Place) -> None:
    files = place.args.large_files
    table = Table()
    with place.topic() as source:
        for number in range(files):
            place.upload(source, {f"{number}.raw": lambda: os.urandom(LARGE)})
        for _ in range(place.args.turns):
            in_turn(place, source, files, {
                "Rust, 32 MiB": lambda results: place.rust(source, results, "--hash"),
                "Python, 32 MiB": lambda results: place.python(source, results, sha512),
            }, table)
    print(table.ratio("Python, 32 MiB", "Rust, 32 MiB"))


@contextlib.contextmanager
def program(place: Place, source: str, results: str, *, peer: bool) -> Iterator[subprocess.Popen[bytes]]:
    """The extractor's class, until the block is left."""
    text, _ = (EXAMPLES / "python" / "xrd_metadata_class.py").read_text().split('if __name__ == "__main__":')
    file = place.folder / "program.py"
    folder = place.folder / f"{results}-{'peer' if peer else 'datamill'}"
    config = place.folder / "peer.config"
    config.write_text(
        f"[broker]\nbootstrap.servers = {place.args.servers}\n\n"
        "[consumer]\nauto.offset.reset = earliest\nkey.deserializer = StringDeserializer\n"
        "value.deserializer = DataFileChunkDeserializer\n\n"
        "[producer]\nkey.serializer = StringSerializer\nvalue.serializer = StringSerializer\n"
    )
    file.write_text(
        text.replace("from datamill import DownloadDataFile,", "from openmsistream import")
        + f"import pathlib\n\nXRDMetadata(pathlib.Path({str(config)!r}), {source!r}, {results!r}, "
        f"output_dir=pathlib.Path({str(folder)!r}), mode='memory', n_threads=2, consumer_group_id={results!r}"
        ").produce_processing_results_for_files_as_read()\n"
    )
    command = [place.args.peer] if peer else [sys.executable, "-m", "datamill.openmsistream"]
    with (place.folder / "program.log").open("ab") as log:
        running = subprocess.Popen([*command, str(file)], stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            yield running
        finally:
            running.kill()
            running.wait()


def measure_peer(place: Place, source: str) -> None:
    rates = {}
    for label, peer in {"OpenMSIStream": True, "datamill": False}.items():
        with place.topic() as results, program(place, source, results, peer=peer) as running:
            while not (times := place.times(results)):
                assert running.poll() is None, (place.folder / "program.log").read_text()[-2000:]
                time.sleep(0.5)
            # both are looked at until the time is over, or all is done
            until = time.monotonic() + PEER_SECONDS
            while time.monotonic() < until and len(times) < place.args.files:
                time.sleep(2)
                times = place.times(results)
            within = [moment - times[0] for moment in times if moment - times[0] <= PEER_SECONDS]
            rates[label] = len(within) / max(within[-1], 1e-9)
            print(f"{label}: {len(within)} results in {within[-1]:.1f} s, {rates[label]:.0f} a second", flush=True)
    print(f"datamill / OpenMSIStream, the same class: {rates['datamill'] / rates['OpenMSIStream']:.0f} times the rate")


def measure_huge(place: Place) -> None:
    seconds = {}
    head = SAMPLE[: SAMPLE.index(b"[Scan points]")] + b"\n[Scan points]\n"
    with place.topic(1) as source:
        place.upload(source, {"huge.csv": lambda: head.ljust(HUGE, b"1")})
        for label, peer in {"OpenMSIStream": True, "datamill": False}.items():
            with place.topic(1) as results:
                begin = time.time()
                with program(place, source, results, peer=peer) as running:
                    anonymous = Anonymous(running.pid)
                    while not (times := place.times(results)):
                        assert running.poll() is None, (place.folder / "program.log").read_text()[-2000:]
                        time.sleep(0.5)
                    seconds[label] = times[0] - begin
                    print(f"{label}, 512 MiB: {seconds[label]:.1f} s, {anonymous.most >> 20} MiB of anonymous memory", flush=True)
    print(f"OpenMSIStream / datamill, one file of 512 MiB: {seconds['OpenMSIStream'] / seconds['datamill']:.0f} times the time")


class Anonymous:
    """Watches the anonymous memory of a process."""

    def __init__(self, process: int) -> None:
        self.most = 0
        threading.Thread(target=self._watch, args=(pathlib.Path(f"/proc/{process}/status"),), daemon=True).start()

    def _watch(self, status: pathlib.Path) -> None:
        with contextlib.suppress(OSError):
            while True:
                for line in status.read_text().splitlines():
                    if line.startswith("RssAnon:"):
                        self.most = max(self.most, int(line.split()[1]) << 10)
                time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--servers")
    parser.add_argument("--peer")
    parser.add_argument("--parts", default="small,large,peer,huge")
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--large_files", type=int, default=100)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    parts = args.parts.split(",")
    if {"peer", "huge"} & {*parts} and not (args.servers and args.peer):
        parser.error("`peer` and `huge` need --servers and --peer")
    with tempfile.TemporaryDirectory() as name:
        place = Place(args, pathlib.Path(name))
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {args.files} small files")
        if {"small", "peer"} & {*parts}:
            with place.topic() as source:
                place.upload(source, {f"{number}.csv": lambda number=number: small(number) for number in range(args.files)})
                if "small" in parts:
                    measure_small(place, source)
                if "peer" in parts:
                    measure_peer(place, source)
        if "large" in parts:
            measure_large(place)
        if "huge" in parts:
            measure_huge(place)


if __name__ == "__main__":
    main()
