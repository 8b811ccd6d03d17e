"""Each block of code in the documents runs as it stands there."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from conftest import ROOT
from programs import LONG, METADATA
from snippets import DOCUMENTS, blocks, snippet

import datamill

#: Blocks that other tests run, by their first words.
ELSEWHERE = {
    "cargo run --release -- demo": "crates/cli/tests/cli: the demonstration; dev/test itself",
    "use datamill::prelude::*;": "crates/datamill/src/lib.rs: it is compiled with its documentation",
    "cargo build --release --examples --bins": "crates/cli/tests/cli/readme.rs",
    "# extract.py": "test_documents.py: the commands of a document",
    "datamill try extract.py:metadata": "test_documents.py: the commands of a document",
    "$ datamill reconcile": "test_documents.py: the commands of a document",
    "import datamill\n": "test_documents.py: the notebook of a document",
    "# sizes.py": "test_documents.py: the script of the documentation",
    "the result was refused:": "test_to_json_results.py: a result that the topic does not take",
    "xrd_metadata --config": "crates/cli/tests/interop/take_over.rs",
    "taking the group over": "crates/cli/tests/interop/take_over.rs",
    " instrument PC": "a drawing",
}


def test_each_block_of_the_documents_has_a_test():
    here = pathlib.Path(__file__).read_text("utf-8")
    for document in DOCUMENTS:
        for _, code in blocks(document):
            begins = [begin for begin in ELSEWHERE if code.startswith(begin)]
            begins += [begin for begin in re.findall(rf'snippet\("{re.escape(document)}", "(.+?)"\)', here) if code.startswith(begin)]
            assert begins, f"{document}: no test runs the block that begins with `{code.splitlines()[0]}`"


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Place:
    return Place(tmp_path)


class Place:
    """A folder in which the commands of a document run, with a configuration for the embedded log."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.write("lab.config", "[broker]\nbootstrap.servers = sqlite:lab.db\n")

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def words(self, command: str) -> list[str]:
        """The words of a line, with this Python and its `datamill`."""
        first, *rest = shlex.split(command.replace("\\\n", " "))
        return {"datamill": [sys.executable, "-m", "datamill"], "python": [sys.executable]}[first] + rest

    def run(self, command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            self.words(command), cwd=self.folder, capture_output=True, text=True, timeout=LONG, stdin=subprocess.DEVNULL, check=False
        )
        assert ran.returncode == code, f"{command}\n{ran.stderr}{ran.stdout}"
        return ran

    def values(self, topic: str, more: str = "") -> list[object]:
        """What the messages of a topic hold."""
        lines = self.run(f"datamill read {topic} --exit-at-end --json_values {more}").stdout.splitlines()
        return [json.loads(line)["value"] for line in lines]

    def has(self, topic: str, name: str) -> bool:
        """Whether the topic has a file of this name already."""
        words = self.words(f"datamill read {topic} --exit-at-end --config lab.config")
        return name in subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=LONG, check=False).stdout

    def start(self, *words: str) -> Running:
        return Running(self.folder, *words)


class Running:
    """A program that stops at `q`."""

    def __init__(self, folder: pathlib.Path, *words: str) -> None:
        self.said = folder / "said.txt"
        with self.said.open("w") as said:
            self.process = subprocess.Popen([*words], cwd=folder, stdin=subprocess.PIPE, stdout=said, stderr=said, text=True)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LONG
        while not condition():
            assert self.process.poll() is None and time.monotonic() < end, self.said.read_text()
            time.sleep(0.1)

    def quit(self) -> None:
        """Types `q`, for the program of a script that runs at the moment."""
        assert self.process.stdin is not None
        print("q", file=self.process.stdin, flush=True)

    def end(self) -> str:
        assert self.process.wait(LONG) == 0, self.said.read_text()
        return self.said.read_text()


def test_the_values_of_results_can_be_used_at_once(place):
    [command] = snippet("README.md", "datamill read metadata --exit-at-end --json_values |").splitlines()
    command, pipe, use = command.partition(" | ")
    assert use == "jq -c '.value'"
    place.write("data/a.txt", "one\n")
    place.write("f.py", "def metadata(file): return {'size': file.size}\n")
    place.run("datamill upload data --topic_name files")
    place.run("datamill reproduce f.py:metadata --consumer_topic_name files --producer_topic_name metadata --exit-at-end")
    [line] = place.run(command).stdout.splitlines()
    assert json.loads(line)["value"] == {"size": 4}


def test_a_folder_is_watched_until_q(place):
    [command] = snippet("README.md", "datamill watch").splitlines()
    (place.folder / "instrument").mkdir()
    command = command.replace("/data/instrument", "instrument")
    with place.start(*place.words(f"{command} --config lab.config")) as watch:
        # what is there at the first start counts as sent
        watch.until(lambda: "is watched for the first time" in watch.said.read_text())
        place.write("instrument/a.txt", "one\n")
        watch.until(lambda: place.has("files", "a.txt"))
        watch.quit()
        watch.end()


def test_the_configuration_of_the_readme_is_understood(place):
    text = snippet("README.md", "[broker]")
    place.write("kafka.config", text.replace("kafka.example.org:9092", "127.0.0.1:1"))
    assert "127.0.0.1:1" in (place.folder / "kafka.config").read_text()
    command = place.words("datamill topic list --config kafka.config")

    def said(**more: str) -> str:
        there = {name: value for name, value in os.environ.items() if name != "KAFKA_PASSWORD"} | more
        ran = subprocess.run(command, cwd=place.folder, env=there, capture_output=True, text=True, timeout=LONG, check=False)
        assert ran.returncode != 0
        return ran.stderr

    # the name of a variable for a secret may be the secret itself: it is not repeated
    assert "key `sasl.password`" in (missing := said()) and "KAFKA_PASSWORD" not in missing
    assert "broker `127.0.0.1:1` does not answer" in said(KAFKA_PASSWORD="secret")


def test_the_wheel_is_installed_as_the_documents_say(place):
    wheels = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute() / "wheels"
    if not wheels.is_dir():
        pytest.fail(f"no wheels in {wheels}: run dev/wheel", pytrace=False)
    (place.folder / "target").mkdir()
    (place.folder / "target" / "wheels").symlink_to(wheels)
    script = snippet("docs/python.md", "python3 -m venv venv") + snippet("README.md", "pip install target/wheels/datamill-*.whl")
    script += "datamill --version\n"
    ran = subprocess.run(["sh", "-ec", script], cwd=place.folder, capture_output=True, text=True, timeout=LONG, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Python package" in ran.stdout.splitlines()[-1], ran.stdout


def test_the_dictionary_of_the_documentation_is_written_as_it_says():
    exec(compile(snippet("docs/python.md", "import datetime"), "docs/python.md", "exec"), {})


def test_an_object_without_a_rule_has_the_error_of_the_documentation():
    item = type("Item", (), {"__module__": "instrument", "value": 1})()
    with pytest.raises(TypeError) as error:
        datamill.to_json({"Well": [item]})
    assert f"TypeError: {error.value}\n" == snippet("docs/python.md", "TypeError: ")


def test_the_first_class_of_the_documentation_runs_as_it_says(place):
    place.write("lines.py", snippet("docs/python-classes.md", "from datamill import MetadataJSONReproducer"))
    place.write("data/a.txt", "one\ntwo\n")
    place.run("datamill upload data --topic_name files --config lab.config")
    ran = place.run(snippet("docs/python-classes.md", "python lines.py"))
    assert "reading a.txt" in ran.stderr
    assert place.values("metadata", "--config lab.config") == [{"file": "a.txt", "lines": 2}]


def test_a_class_with_an_option_of_its_own_takes_it_from_the_command_line(place):
    code = snippet("docs/python-classes.md", "from datamill import DataFileStreamProcessor")
    place.write("above.py", f"{code}\n\nif __name__ == '__main__':\n    Above.run_from_command_line()\n")
    place.write("data/a.txt", "10.5\n20.5\n30\n")
    place.run("datamill upload data --topic_name files --config lab.config")
    for words, found in (("", "3 angles above 5.0"), ("--threshold 20", "2 angles above 20.0")):
        group = f"--consumer_group_id g{len(words)} --output_dir o{len(words)}"
        ran = place.run(f"python above.py --topic_name files --config lab.config --exit_at_end {group} {words}")
        assert found in ran.stderr, ran.stderr


def test_programs_that_bring_files_somewhere_run_until_q_one_after_the_other(place):
    place.write("scan.csv", "1,2\n")
    place.write("instrument/b.csv", "3,4\n")
    with place.start(sys.executable, "-c", snippet("docs/python-classes.md", "from pathlib import Path")) as programs:
        programs.until(lambda: place.has("files", "b.csv"))
        programs.quit()
        mirror = place.folder / "mirror"
        programs.until(lambda: (mirror / "scan.csv").exists() and (mirror / "b.csv").exists())
        programs.quit()
        programs.end()
    assert (mirror / "scan.csv").read_text() == "1,2\n" and (mirror / "b.csv").read_text() == "3,4\n"


def test_the_trial_beside_an_old_program_has_results_of_its_own(place):
    program = place.folder / "xrd_metadata.py"
    shutil.copy(ROOT / "examples" / "python" / "xrd_metadata.py", program)
    place.run(f"datamill upload {ROOT / 'examples' / 'data'} --topic_name files --config lab.config")
    trial = snippet("docs/migrating-from-openmsistream.md", "datamill topic create metadata_trial")
    commands = trial.replace("\\\n", " ").replace("xrd_metadata --config", "python xrd_metadata.py --config").splitlines()
    assert len(commands) == 3
    place.run(commands[0])
    # one of the samples is broken
    place.run(commands[1], code=1)
    assert len(place.run(commands[2]).stdout.splitlines()) > 5


def test_an_old_program_takes_options_of_datamill_in_front(place):
    [command] = re.findall(r"`(python -m datamill.openmsistream --max_attempts=3 --exit-at-end program.py) ARGUMENTS`",
                           (ROOT / "docs" / "migrating-from-openmsistream.md").read_text("utf-8"))  # fmt: skip
    end = 'if __name__ == "__main__":\n    Lines.run_from_command_line()\n'
    place.write("program.py", METADATA.replace("content = ", 'print("called", flush=True)\n        content = ') + end)
    place.write("data/a.txt", "fail\n")
    place.write("data/b.txt", "one\n")
    place.run("datamill upload data --topic_name files --config lab.config")
    topics = "--config lab.config --consumer_topic_name files --producer_topic_name metadata --consumer_group_id lines"
    ran = place.run(f"{command} {topics}")
    assert ran.stdout.count("called") == 4, ran.stdout + ran.stderr
    assert place.values("metadata", "--config lab.config") == [{"name": "b.txt", "path": "b.txt", "lines": 1}]


def test_a_function_runs_in_processes_of_its_own(place: Place) -> None:
    place.write("extract.py", snippet("docs/python.md", "# extract.py"))
    place.write("scans/a.txt", "first\nsecond\n")
    place.run("datamill upload scans --topic_name files")
    command = snippet("docs/python.md", "datamill reproduce extract.py:metadata --consumer_topic_name files --producer_topic_name metadata --isolate")
    place.run(f"{command.strip()} --exit-at-end")
    [line] = place.run("datamill read metadata --exit-at-end --json_values").stdout.splitlines()
    assert json.loads(line)["value"] == {"lines": 2, "first": "first"}
