"""What the status page costs: CPU time of a program with its page open and a scrape a second, against a build before.

    python3 bench/status_cost.py --before REVISION [--after REVISION] [--files 200000] [--turns 5] [--servers HOST:PORT]

A revision is built in release mode below `.cache/status-cost` (a folder that has `datamill` and `examples/xrd_metadata` already
is taken as it is). Small files are uploaded once. In each turn both builds compute the metadata of all of them, one after the
other, each in a group and with a topic of its own; the later one shows its status to a browser's stream of events and to a
scraper. Printed are user and system CPU seconds of the programs, and the median of the quotients of the turns. Without
`--servers`, the topics are in an embedded log. `--quiet` leaves the page and the scraper out: what the same costs without them.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONTENT = "[Measurement conditions]\nSample,quartz\nNumber,{}\n[Scan points]\nAngle,Intensity\n" + "10.0,200\n" * 20


def built(revision: str) -> pathlib.Path:
    """The folder with the programs of a revision."""
    if (pathlib.Path(revision) / "datamill").exists():
        return pathlib.Path(revision).resolve()
    commit = subprocess.check_output(["git", "rev-parse", "--short", f"{revision}^{{commit}}"], cwd=ROOT, text=True).strip()
    tree = ROOT / ".cache" / "status-cost" / commit
    if not tree.exists():
        subprocess.run(["git", "worktree", "add", "--detach", tree, commit], cwd=ROOT, check=True)
    environment = {**os.environ, "CARGO_TARGET_DIR": str(tree / "target")}
    for words in (["-p", "datamill-cli"], ["-p", "datamill", "--example", "xrd_metadata"]):
        subprocess.run(["cargo", "build", "--release", *words], cwd=tree, env=environment, check=True)
    return tree / "target" / "release"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Watched:
    """An open page, and a scraper that asks once a second, until the program has ended."""

    def __init__(self, port: int) -> None:
        self._url, self._ended, self.scrapes, self.events = f"http://127.0.0.1:{port}/", threading.Event(), 0, 0
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._scrape, self._look)]
        for thread in self._threads:
            thread.start()

    def _scrape(self) -> None:
        while not self._ended.wait(1):
            try:
                with urllib.request.urlopen(self._url + "metrics", timeout=10) as answer:
                    answer.read()
                    self.scrapes += 1
            except OSError:
                continue

    def _look(self) -> None:
        while not self._ended.is_set():
            try:
                with urllib.request.urlopen(self._url, timeout=10) as page:
                    page.read()
                with urllib.request.urlopen(self._url + "events", timeout=60) as events:
                    for line in events:
                        self.events += line == b"\n"
            except OSError:
                time.sleep(0.02)

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


class Bench:
    def __init__(self, folder: pathlib.Path, args: argparse.Namespace) -> None:
        self.folder, self.files, self.is_quiet = folder, args.files, args.quiet
        self.name = f"status-cost-{os.getpid()}"
        servers = args.servers or f"sqlite:{folder / 'datamill.db'}"
        self.config = folder / "bench.config"
        self.config.write_text(f"[broker]\nbootstrap.servers = {servers}\n[consumer]\nauto.offset.reset = earliest\n")

    def datamill(self, programs: pathlib.Path, *words: str | pathlib.Path) -> None:
        subprocess.run([programs / "datamill", *words, "--config", self.config], cwd=self.folder, check=True, capture_output=True)

    def upload(self, programs: pathlib.Path) -> None:
        self.datamill(programs, "topic", "create", self.name, "--partitions", "1")
        files = self.folder / "files"
        for number in range(self.files):
            path = files / f"{number // 1000:04}" / f"scan_{number:06}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(CONTENT.format(number))
        self.datamill(programs, "upload", files, "--topic_name", self.name)

    def run(self, programs: pathlib.Path, turn: str, is_shown: bool) -> float:
        """CPU seconds of a program over all files."""
        results = f"{self.name}-{turn}"
        self.datamill(programs, "topic", "create", results, "--partitions", "1")
        output, watched = self.folder / turn, None
        words = ["--consumer_topic_name", self.name, "--producer_topic_name", results, "--consumer_group_id", results]
        words += ["--output_dir", str(output), "--config", str(self.config), "--exit-at-end"]
        if is_shown:
            port = free_port()
            words += ["--status_listen", str(port)]
            watched = None if self.is_quiet else Watched(port)
        with (self.folder / f"{turn}.log").open("wb") as log:
            process = subprocess.Popen([programs / "examples" / "xrd_metadata", *words], cwd=self.folder, stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if watched is not None:
            watched.end()
            print(f"  page written again {watched.events} times, {watched.scrapes} scrapes")
        text = (self.folder / f"{turn}.log").read_text(errors="replace")
        assert process.returncode == 0 and f"{self.files} file" in text.replace(",", ""), text[-2000:]
        self.datamill(programs, "topic", "delete", results, "--yes")
        return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="revision, or folder with its programs")
    parser.add_argument("--after", default="HEAD", help="revision, or folder with its programs")
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--servers", help="bootstrap servers of a Kafka; otherwise an embedded log")
    parser.add_argument("--quiet", action="store_true", help="serve the status, and let nobody look")
    args = parser.parse_args()
    before, after = built(args.before), built(args.after)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(pathlib.Path(folder), args)
        bench.upload(after)
        rows = []
        for turn in range(1, args.turns + 1):
            row = {"before": bench.run(before, f"before-{turn}", False), "after": bench.run(after, f"after-{turn}", True)}
            rows.append(row)
            print(f"turn {turn}: {row['before']:.2f} s before, {row['after']:.2f} s after, {row['after'] / row['before']:.3f} times")
        bench.datamill(after, "topic", "delete", bench.name, "--yes")
        quotient = statistics.median(row["after"] / row["before"] for row in rows)
        per_file = [statistics.median(row[which] for row in rows) / args.files * 1e6 for which in ("before", "after")]
        print(f"median: {per_file[0]:.1f} and {per_file[1]:.1f} µs of CPU a file, {quotient:.3f} times")
        print(json.dumps({"files": args.files, "turns": rows, "median": quotient}))


if __name__ == "__main__":
    main()
