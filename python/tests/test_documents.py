"""What README, docs and examples say works as it stands there."""

from __future__ import annotations

import io
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile

import pytest

import datamill

from conftest import ROOT
from snippets import snippet, snippets

EXAMPLES = ROOT / "examples" / "python"
DATA = ROOT / "examples" / "data"
# one of the sample files is broken
SAMPLES = sorted(path.relative_to(DATA).as_posix() for path in DATA.rglob("*.csv"))
BROKEN = [path for path in SAMPLES if "broken" in path]


def send_samples(work) -> None:
    datamill.upload(DATA, work.files, config=work.log.config)


def words(command: str) -> list[str]:
    """The words of a line of a document, with this Python's `datamill`."""
    first, *rest = command.split()
    assert first == "datamill"
    return [sys.executable, "-m", "datamill", *rest]


@pytest.mark.parametrize("document", ["README.md", "docs/python.md"])
def test_the_commands_of_a_document_run_in_turn(document, tmp_path):
    for code in snippets(document, "python"):
        name = code.splitlines()[0].removeprefix("# ")
        if name.endswith(".py"):
            (tmp_path / name).write_text(code)
    shutil.copytree(DATA, tmp_path / "examples" / "data")
    (tmp_path / "scans").mkdir()
    for number in (1, 2):
        (tmp_path / f"scan_{number}.txt").write_text("first\nsecond\n")
        (tmp_path / "scans" / f"scan_{number}.txt").write_text("first\nsecond\n")
    commands = [
        line
        for block in snippets(document, "sh")
        for line in block.splitlines()
        if re.match(r"datamill (try|upload|reproduce|read) ", line) and "|" not in line
    ]
    first = next(n for n, line in enumerate(commands) if line.startswith("datamill try"))
    commands = commands[first : first + 4]
    assert [line.split()[1] for line in commands] == ["try", "upload", "reproduce", "read"]
    outs = []
    for command in commands:
        ran = subprocess.run(words(command), cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
        # of the samples, one is broken
        assert ran.returncode in ((0, 1) if "reproduce" in command else (0,)), (command, ran.stderr)
        outs.append(ran.stdout)
    assert len(outs[-1].splitlines()) == (len(SAMPLES) - len(BROKEN) if document == "README.md" else 2)
    if document == "README.md":
        shows_what_became_of_each_file(tmp_path)


def shows_what_became_of_each_file(folder):
    """The rows of the README are rows that the command prints: offsets of results depend on which thread was first."""
    command, *rows = snippet("README.md", "$ datamill reconcile").removeprefix("$ ").splitlines()
    ran = subprocess.run(words(command), cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 1, ran.stderr
    printed = [re.sub(r" 0:\d+ *$", "", line).split() for line in (ran.stdout + ran.stderr).splitlines()]
    for row in rows:
        shown, *cut = re.sub(r" 0:\d+ *$", "", row).split("…")
        if shown:
            assert any(line[: len(shown.split())] == shown.split() for line in printed), (row, ran.stdout, ran.stderr)


@pytest.mark.parametrize("document", ["README.md", "docs/python.md"])
def test_the_notebook_of_a_document_runs(document, tmp_path):
    [code] = [code for code in snippets(document, "python") if "datamill.read(" in code]
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.txt").write_text("one\n")
    datamill_upload = "" if "datamill.upload" in code else "import datamill\ndatamill.upload('scans', 'files')\n"
    ran = subprocess.run(
        [sys.executable, "-c", datamill_upload + code], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "a.txt {'size': 4" in ran.stdout


def test_the_script_of_the_documentation_runs(local):
    [code] = [code for code in snippets("docs/python.md", "python") if code.startswith("# sizes.py")]
    local.upload({"a.txt": "ä\n".encode("latin-1")})
    ran = local.run(code, *local.words(), "--encoding", "latin-1")
    assert ran.returncode == 0, ran.stderr
    assert local.read()["a.txt"].json() == {"size": 2, "lines": 1}


def run_example(work, name: str, *more: str, kind: str = "reproducer") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *work.words(kind), *more],
        cwd=work.folder, capture_output=True, text=True, timeout=240, check=False,
    )


@pytest.mark.parametrize("program", ["xrd_metadata.py", "xrd_metadata_class.py"])
def test_the_examples_of_xrd_metadata_read_the_samples(work, program):
    send_samples(work)
    ran = run_example(work, program)
    assert ran.returncode == 1 and BROKEN[0] in ran.stderr, ran.stderr
    results = work.read()
    assert sorted(results) == [path for path in SAMPLES if path not in BROKEN]
    one = results["2026-03-04_mixtures/long/quartz_alumina_50_50_overnight.csv"].json()
    assert one["Anode material"] == "Cu" and one["metadata extracted at"].startswith("20")


def test_the_example_of_a_plot_draws_the_samples(local):
    send_samples(local)
    run_example(local, "plot.py")
    results = local.read()
    assert len(results) >= len(SAMPLES) - len(BROKEN)
    assert all(result.text().startswith("<svg ") and "polyline" in result.text() for result in results.values())


def test_the_example_of_a_database_has_each_file_once_however_often_it_runs(local):
    send_samples(local)
    for _ in range(2):
        ran = run_example(local, "to_sqlite.py", "--database", "notes.sqlite", kind="processor")
        assert ran.returncode == 0, ran.stderr
        send_samples(local)
    with sqlite3.connect(local.folder / "notes.sqlite") as database:
        rows = database.execute("SELECT path FROM files ORDER BY path").fetchall()
    assert [path for (path,) in rows] == SAMPLES


def test_the_example_that_needs_a_path_reads_archives(local):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"))
    local.upload({"run/Data.tar.gz": archive.getvalue(), "run/data.zip": b"PK"})
    ran = run_example(local, "needs_a_path.py")
    assert ran.returncode == 1 and "`.zip` is no suffix of an archive" in ran.stderr, ran.stderr
    assert local.read()["run/Data.tar.gz"].json() == {"archive": "Data.tar.gz", "members": {"a.txt": 0}}
