"""A topic of files and one of results, for a test: what is sent, what runs on it, and what comes of it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

import datamill

# a generous limit for what has to happen some time
LIMIT = 240


def until(happens: Callable[[], Any], what: str) -> Any:
    """Waits for a condition, and answers what it is."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if said := happens():
            return said
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {LIMIT} s")


def _named(function: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """A lambda has no name for its program."""
    is_lambda = getattr(function, "__name__", "") == "<lambda>"
    return {"name": "program", **options} if is_lambda else options


class Work:
    def __init__(self, log, folder: pathlib.Path) -> None:
        self.log = log
        self.folder = folder
        self.files = log.topic("files")
        self.results = log.topic("results")
        self.output_dir = folder / "output"

    def upload(self, files: dict[str, bytes]) -> datamill.Uploaded:
        """Sends files of these paths and contents."""
        root = self.folder / f"sent-{len(list(self.folder.glob('sent-*')))}"
        for path, content in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        return datamill.upload(root, self.files, config=self.log.config)

    def options(self, **options: Any) -> dict[str, Any]:
        """The options of every program on it."""
        return {
            "config": self.log.config,
            "output_dir": self.output_dir,
            "consumer_group_id": self.files,
            "membership": "dynamic",
            "exit_at_end": True,
            "max_attempts": 1,
            **options,
        }

    def reproduce(self, function: Callable[..., Any], **options: Any) -> datamill.Ended:
        options = _named(function, options)
        topics = {"consumer_topic_name": self.files, "producer_topic_name": self.results}
        return datamill.reproduce(function, **topics, **self.options(**options))

    def process(self, function: Callable[..., Any], **options: Any) -> datamill.Ended:
        return datamill.process(function, topic_name=self.files, **self.options(**_named(function, options)))

    def read(self) -> dict[str, datamill.Message]:
        """The results, by the path of their file. None is there twice."""
        results: dict[str, datamill.Message] = {}
        for message in datamill.read(self.results, config=self.log.config):
            assert message.path is not None and message.path not in results
            results[message.path] = message
        return results

    def words(self, kind: str = "reproducer", **options: Any) -> list[str]:
        """The command line of a program on it."""
        if kind == "reproducer":
            topics = {"consumer_topic_name": self.files, "producer_topic_name": self.results}
        else:
            topics = {"topic_name": self.files}
        words = []
        for name, value in {**topics, **self.options(**options)}.items():
            if value is True:
                words.append(f"--{name}")
            elif value is not False and value is not None:
                words.append(f"--{name}={value}")
        return words

    def program(self, text: str, name: str = "program.py") -> pathlib.Path:
        """A program in a file."""
        path = self.folder / name
        path.write_text(textwrap.dedent(text))
        return path

    def run(self, text: str, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end."""
        return subprocess.run(
            [sys.executable, str(self.program(text)), *(words or self.words(**options))],
            cwd=self.folder, capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL, check=False,
        )

    def start(self, text: str, *words: str, **options: Any) -> Started:
        """Starts a program."""
        return Started(self.program(text), list(words) or self.words(**options), self.folder)


class Started:
    """A program that runs. Its stderr goes to a file."""

    def __init__(self, path: pathlib.Path, words: list[str], folder: pathlib.Path) -> None:
        self.err = folder / f"{path.stem}.err"
        self.out = folder / f"{path.stem}.out"
        with open(self.err, "wb") as err, open(self.out, "wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(path), *words], cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def said(self, text: str) -> None:
        """Waits until it has said something."""
        until(lambda: text in self.text() or self.process.poll() is not None, f"`{text}`")
        assert text in self.text(), self.text()

    def text(self) -> str:
        return self.err.read_text(errors="replace") + self.out.read_text(errors="replace")

    def end(self) -> int:
        """Waits for its end, and answers the exit code."""
        return self.process.wait(LIMIT)
