"""What the tests share: services, programs, and a log of each kind."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import uuid
from typing import Any

import pytest

from work import Work, until

ROOT = pathlib.Path(__file__).resolve().parents[2]


def named(variable: str) -> str:
    """The value of a variable that dev/test sets. A test without its service fails; it never skips."""
    value = os.environ.get(variable)
    if not value:
        pytest.fail(f"{variable} is not set: run dev/test, or set it as dev/test does", pytrace=False)
    return value


def rust_program() -> str:
    """The Rust program `datamill`: the one that $DATAMILL_TEST_PROGRAM names, or the debug build of this checkout."""
    path = os.environ.get("DATAMILL_TEST_PROGRAM") or str(ROOT / "target" / "debug" / "datamill")
    if not os.access(path, os.X_OK):
        pytest.fail(f"no program at {path}: run `cargo build -p datamill-cli`, or set DATAMILL_TEST_PROGRAM", pytrace=False)
    return path


class Log:
    """A log for one test: the embedded one in a folder, or the Kafka that all tests share."""

    def __init__(self, kind: str, folder: pathlib.Path) -> None:
        self.kind = kind
        self.config = folder / f"{kind}.config"
        servers = named("DATAMILL_TEST_KAFKA") if kind == "kafka" else f"sqlite:{folder / 'log.db'}"
        # a short session, since what a killed program held is given to the next one only when its session is over
        consumer = "auto.offset.reset = earliest\n" + ("session.timeout.ms = 3000\nheartbeat.interval.ms = 500\n" if kind == "kafka" else "")
        self.config.write_text(f"[broker]\nbootstrap.servers = {servers}\n\n[consumer]\n{consumer}")

    def topic(self, name: str, partitions: int = 4) -> str:
        """Makes a topic whose name no other test has."""
        name = f"py-{name}-{uuid.uuid4().hex[:12]}"
        if self.kind == "kafka":
            from confluent_kafka.admin import AdminClient, NewTopic

            admin = AdminClient({"bootstrap.servers": named("DATAMILL_TEST_KAFKA")})
            admin.create_topics([NewTopic(name, partitions, 1)])[name].result(60)
            # a broker may know it a moment after it was made
            until(lambda: name in admin.list_topics(timeout=60).topics, f"topic `{name}`")
        return name

    def group(self, name: str) -> str:
        """A consumer group that no other test has."""
        return f"py-{name}-{uuid.uuid4().hex[:12]}"

    def program(self, *words: str | os.PathLike[str]) -> str:
        """Runs the Rust program on this log, and gives what it prints."""
        done = self._run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def tries(self, *words: str | os.PathLike[str]) -> bool:
        """Runs the Rust program on this log, and says whether it did what was asked for."""
        return self._run(*words).returncode == 0

    def _run(self, *words: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [rust_program(), *map(os.fspath, words), "--config", self.config],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
        )

    def results(self, topic: str) -> list[Any]:
        """The values of a topic, which are JSON, as another program reads them."""
        lines = self.program("read", topic, "--exit-at-end", "--json_values").splitlines()
        return [json.loads(line)["value"] for line in lines]


@pytest.fixture(params=["embedded", "kafka"])
def log(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Log:
    """Runs the test on both logs."""
    return Log(request.param, tmp_path)


@pytest.fixture
def embedded(tmp_path: pathlib.Path) -> Log:
    """The embedded log alone."""
    return Log("embedded", tmp_path)


@pytest.fixture
def kafka(tmp_path: pathlib.Path) -> Log:
    """Kafka alone."""
    return Log("kafka", tmp_path)


@pytest.fixture
def peer() -> str:
    """The Python interpreter in whose environment the released OpenMSIStream is."""
    return named("DATAMILL_TEST_PEER")


@pytest.fixture
def program() -> str:
    """The Rust program `datamill`."""
    return rust_program()


@pytest.fixture
def python(tmp_path: pathlib.Path):
    """Runs words with this interpreter in the test's folder, and gives what came of it."""

    def run(*words: str | os.PathLike[str], timeout: float = 300, **options) -> subprocess.CompletedProcess[str]:
        options.setdefault("cwd", tmp_path)
        return subprocess.run(
            [sys.executable, *map(os.fspath, words)],
            capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False, **options,
        )

    return run


@pytest.fixture
def work(log: Log, tmp_path: pathlib.Path) -> Work:
    """Topics for files and results, on both logs."""
    return Work(log, tmp_path)


@pytest.fixture
def local(embedded: Log, tmp_path: pathlib.Path) -> Work:
    """The same on the embedded log alone, for what has nothing to do with the log."""
    return Work(embedded, tmp_path)
