"""The import names of OpenMSIStream: in a process, in its children, and in the distribution of these names."""

import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

COMPAT = Path(__file__).parents[1] / "compat"


def run(folder, *words, path=(), text=None):
    """Runs this interpreter in a folder, with more folders to import from."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True, timeout=240, input=text
    )


CHILDREN = textwrap.dedent(
    """
    import multiprocessing, sys
    import openmsistream
    from helper import answer

    class OfMain:
        value = openmsistream.__version__

    def child(queue):
        import openmsistream.data_file_io
        queue.put((OfMain.value, answer(), __name__, sys.argv))

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        queue = context.Queue()
        process = context.Process(target=child, args=(queue,))
        process.start()
        print(queue.get(timeout=200))
        process.join()
    """
)


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_children_of_multiprocessing_have_the_names_too(tmp_path, method):
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "program.py").write_text(CHILDREN)
    (folder / "helper.py").write_text("from openmsitoolbox import Runnable\ndef answer():\n    return Runnable.__name__\n")
    ran = run(tmp_path, "-m", "datamill.openmsistream", "programs/program.py", method)
    assert ran.returncode == 0, ran.stderr
    name = "__main__" if method == "fork" else "__mp_main__"
    assert ran.stdout.strip() == f"('1.8.8', 'Runnable', '{name}', ['programs/program.py', '{method}'])"


def test_a_program_sees_itself_as_when_python_runs_it(tmp_path):
    (tmp_path / "program.py").write_text(
        "import sys, openmsistream\n"
        "print(__name__, __file__, sys.argv, sys.path[0], sys.modules['__main__'].__file__ == __file__)\n"
        "def broken():\n    raise ValueError('mine')\n"
        "broken()\n"
    )
    ran = run(tmp_path, "-m", "datamill.openmsistream", "program.py", "a", "--b")
    assert ran.stdout.strip() == f"__main__ {tmp_path / 'program.py'} ['program.py', 'a', '--b'] {tmp_path} True"
    assert ran.returncode == 1 and "ValueError: mine" in ran.stderr
    frames = [line for line in ran.stderr.splitlines() if line.lstrip().startswith("File ")]
    assert len(frames) == 2 and all("program.py" in frame for frame in frames), ran.stderr


def test_a_mistake_in_the_command_is_named(tmp_path):
    ran = run(tmp_path, "-m", "datamill.openmsistream", "nothing.py")
    assert ran.returncode == 2 and "there is no program `nothing.py`" in ran.stderr
    ran = run(tmp_path, "-m", "datamill.openmsistream")
    assert ran.returncode == 2 and ran.stderr.startswith("error: a program is missing")
    (tmp_path / "program.py").touch()
    for words, said in (
        (("--max_atempts=3", "program.py"), "datamill has no option `--max_atempts=3`: did you mean `--max_attempts`"),
        (("--max-attempts", "3", "program.py"), "needs its value in the same word, in front of the program: `--max-attempts=3`"),
        (("--max_att=3", "program.py", "--own"), None),
        (("--exit-at-end", "--nan=null", "program.py"), None),
    ):
        ran = run(tmp_path, "-m", "datamill.openmsistream", *words)
        assert ran.returncode == (0 if said is None else 2), ran.stderr
        assert said is None or (said in ran.stderr and ran.stderr.count("\n") == 1), ran.stderr
    ran = run(tmp_path, "-m", "datamill.openmsistream", "--help")
    assert ran.returncode == 0 and "PROGRAM.py" in ran.stdout


PROGRAM = """
import openmsistream, openmsitoolbox.logging
from openmsistream.data_file_io.entity.data_file import DataFile
from openmsistream import DataFileStreamProcessor
print(openmsistream.__version__, DataFileStreamProcessor.__module__, openmsitoolbox.logging.OpenMSILogger.__name__)
print(DataFileStreamProcessor.get_argument_parser().parse_args([]).consumer_group_id)
"""


def test_the_distribution_of_the_names_serves_them(tmp_path):
    ran = run(tmp_path, "-c", PROGRAM, path=[COMPAT])
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["1.8.8", "datamill._classes.processor", "OpenMSILogger", "create_new"]


@pytest.mark.parametrize("name", ["openmsistream", "openmsitoolbox"])
def test_the_distribution_of_the_names_refuses_to_stand_beside_the_real_one(tmp_path, name):
    info = tmp_path / "site" / f"{name}-1.8.8.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.8.8\n")
    for module in ("openmsistream", "openmsitoolbox"):
        ran = run(tmp_path, "-c", f"import {module}", path=[COMPAT, tmp_path / "site"])
        assert ran.returncode == 1
        assert f"both `datamill-openmsistream` and `{name}` are installed" in ran.stderr
        assert "pip uninstall -y openmsistream openmsitoolbox" in ran.stderr
    # run by datamill, a program has datamill's names all the same
    (tmp_path / "program.py").write_text("import openmsistream; print(openmsistream.__doc__)")
    ran = run(tmp_path, "-m", "datamill.openmsistream", "program.py", path=[tmp_path / "site"])
    assert "on datamill's engine" in ran.stdout, ran.stderr


def test_the_commands_of_the_distribution_are_there(tmp_path):
    commands = tomllib.loads((COMPAT / "pyproject.toml").read_text())["project"]["scripts"]
    (tmp_path / "one.txt").write_text("1")
    for name, place in commands.items():
        module, function = place.split(":")
        code = f"import sys; sys.argv[0] = '{name}'; from {module} import {function} as run; run()"
        ran = run(tmp_path, "-c", code, "--help")
        assert ran.returncode == 0 and f"usage: {name}" in ran.stdout, ran.stderr
    module, function = commands["UploadDataFile"].split(":")
    ran = run(tmp_path, "-c", f"from {module} import {function} as run; run()", "one.txt", "--topic_name", "files")
    assert ran.returncode == 0 and "sent 1 file" in ran.stderr, ran.stderr
    ran = run(tmp_path, "-c", f"from {module} import {function} as run; run()", "one.txt", "--chunk_size", "2147483648")
    assert ran.returncode == 2 and ran.stderr.splitlines()[-1].startswith("error: ") and "Traceback" not in ran.stderr


def test_paths_in_front_of_a_program_are_those_of_the_folder_in_which_they_were_typed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "program.py").write_text(
        "import os\nos.chdir('elsewhere')\nimport openmsistream\n"
        "from datamill._classes.defaults import current\nprint(current().words)\n"
    )
    ran = run(tmp_path, "-m", "datamill.openmsistream", "--take_over=old", "--max_attempts=3", "program.py")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == str((f"--take_over={tmp_path / 'old'}", "--max_attempts=3"))
