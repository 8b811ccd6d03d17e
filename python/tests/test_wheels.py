"""The wheels as a laboratory installs them: nothing else is needed, and an old program runs as it is."""

import json
import os
import subprocess
import sys
import textwrap
import time

import pytest
from conftest import ROOT

PROGRAM = textwrap.dedent(
    """
    from openmsistream import MetadataJSONReproducer

    class Lines(MetadataJSONReproducer):
        def _get_metadata_dict_for_file(self, datafile):
            return {"name": datafile.filename, "lines": datafile.bytestring.count(b"\\n")}

    if __name__ == "__main__":
        Lines.run_from_command_line()
    """
)


def test_a_laboratory_installs_the_wheels_and_its_program_runs_unchanged(embedded, tmp_path):
    wheels = os.path.join(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "wheels")
    if not os.path.isdir(wheels):
        pytest.fail(f"no wheels in {wheels}: run dev/wheel", pytrace=False)
    programs = tmp_path / "lab" / "bin"

    there = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}

    def run(*words):
        ran = subprocess.run(
            list(map(os.fspath, words)), cwd=tmp_path, env=there, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    run(sys.executable, "-m", "venv", tmp_path / "lab")
    run(programs / "python", "-m", "pip", "install", "--quiet", "--no-index", "--find-links", wheels, "datamill-openmsistream")
    listed = json.loads(run(programs / "python", "-m", "pip", "list", "--format", "json"))
    assert {"datamill", "datamill-openmsistream"} == {row["name"] for row in listed} - {"pip", "setuptools"}

    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "data").mkdir()
    for number in range(3):
        (tmp_path / "data" / f"{number}.csv").write_text("line\n" * number)
    for words in (("topic", "create", "metadata"), ("upload", "data", "--topic_name", "files")):
        run(programs / "datamill", *words, "--config", embedded.config)

    def results():
        read = run(programs / "datamill", "read", "metadata", "--exit-at-end", "--json_values", "--config", embedded.config)
        values = [json.loads(line)["value"] for line in read.splitlines()]
        return sorted((value["name"], value["lines"]) for value in values)

    words = [
        programs / "python", "program.py", "--config", embedded.config, "--consumer_topic_name", "files",
        "--producer_topic_name", "metadata", "--consumer_group_id", "lines", "--output_dir", "output",
    ]
    said = tmp_path / "said"
    with said.open("w") as out:
        program = subprocess.Popen(words, cwd=tmp_path, env=there, stdin=subprocess.PIPE, stdout=out, stderr=out, text=True)
        try:
            end = time.monotonic() + 300
            while len(results()) < 3:
                assert program.poll() is None and time.monotonic() < end, said.read_text()
                time.sleep(0.1)
            program.communicate("q\n", timeout=300)
        finally:
            program.kill()
    assert program.returncode == 0, said.read_text()
    assert results() == [("0.csv", 0), ("1.csv", 1), ("2.csv", 2)]
