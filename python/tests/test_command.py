"""The command `datamill`: that of the package, and the Rust program, which runs functions in this interpreter."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import sysconfig
import textwrap
import time

import pytest

import datamill

COUNT = """
    def count(file):
        return {"file": str(file.relative_filepath), "bytes": file.size}
"""


class Command:
    """One of the two, in a folder."""

    def __init__(self, kind: str, path: str, folder: pathlib.Path) -> None:
        self.kind = kind
        self.path = path
        self.folder = folder

    def options(self) -> dict:
        environment = {**os.environ, "VIRTUAL_ENV": sys.prefix}
        environment.pop("OPENMSISTREAM_CONFIG_FILE_DIR", None)
        return {"cwd": self.folder, "env": environment, "stdin": subprocess.DEVNULL, "text": True}

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        words = [self.path, *map(str, words)]
        return subprocess.run(words, capture_output=True, timeout=300, check=False, **self.options())

    def start(self, *words: object, **options) -> subprocess.Popen[str]:
        words = [self.path, *map(str, words)]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **(self.options() | options))

    def write(self, name: str, text: str) -> pathlib.Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path


def script() -> str:
    return os.path.join(sysconfig.get_path("scripts"), "datamill")


@pytest.fixture(params=["package", "program"])
def command(request: pytest.FixtureRequest, program: str, tmp_path: pathlib.Path) -> Command:
    """Runs the test with both."""
    return Command(request.param, script() if request.param == "package" else program, tmp_path)


@pytest.fixture
def package(tmp_path: pathlib.Path) -> Command:
    """The command of the package."""
    return Command("package", script(), tmp_path)


def wait_until(what: str, is_so, process: subprocess.Popen | None = None) -> None:
    end = time.monotonic() + 120
    while not is_so():
        if process is not None and process.poll() is not None:
            pytest.fail(f"ended with {process.returncode} before: {what}\n{process.stderr.read()}")
        assert time.monotonic() < end, f"waited too long: {what}"
        time.sleep(0.05)


def test_the_version_says_which_of_the_two_it_is(command: Command):
    said = command.run("--version").stdout
    which = "(Rust program)" if command.kind == "program" else f"(Python package, CPython {sys.version.split()[0]})"
    assert said == f"datamill {datamill.__version__} {which}\n"


def test_the_module_is_the_command_too(python):
    assert python("-m", "datamill", "--version").stdout.startswith(f"datamill {datamill.__version__} (Python package, ")
    help = python("-m", "datamill", "reproduce", "--help").stdout
    assert "Usage: datamill reproduce " in help and "--n_consumer_threads <N>" in help


def test_the_commands_of_rust_work_in_the_package(package: Command):
    ended = package.run("demo")
    assert ended.returncode == 0, ended.stderr
    assert f"{script()} read metadata --config datamill-demo/demo.config --exit-at-end" in ended.stdout
    ended = package.run("read", "metadata", "--config", "datamill-demo/demo.config", "--exit-at-end", "--json_values")
    assert len([json.loads(line) for line in ended.stdout.splitlines()]) == 9
    ended = package.run("topic", "describe", "nonsense", "--config", "datamill-demo/demo.config")
    assert ended.returncode == 2 and ended.stderr.count("error: ") == 1 and "nonsense" in ended.stderr


def test_trying_a_function_prints_its_results_and_says_the_rest_on_stderr(command: Command):
    command.write("extract.py", COUNT)
    command.write("data/a.csv", "abc")
    command.write("data/b.csv", "")
    ended = command.run("try", "extract.py:count", "data/a.csv", "data/b.csv")
    assert ended.returncode == 0, ended.stderr
    assert [json.loads(line) for line in ended.stdout.splitlines()] == [
        {"file": "a.csv", "bytes": 3},
        {"file": "b.csv", "bytes": 0},
    ]
    assert "data/a.csv: 29 bytes" in ended.stderr and ended.stderr.endswith("2 with a result\n")


def test_a_function_that_fails_is_tried_on_the_other_files_and_its_traceback_begins_with_its_own_frames(command: Command):
    command.write(
        "extract.py",
        """
        def parse(text):
            return float(text)

        def value(file):
            return {"value": parse(file.bytestring.decode())}
        """,
    )
    command.write("a.txt", "x")
    command.write("b.txt", "1.5")
    ended = command.run("try", "extract.py:value", "a.txt", "b.txt")
    assert ended.returncode == 1
    assert json.loads(ended.stdout) == {"value": 1.5}
    frames = [line.strip() for line in ended.stderr.splitlines() if line.strip().startswith("File ")]
    assert [frame.rsplit(", in ")[-1] for frame in frames] == ["value", "parse"], ended.stderr
    assert "ValueError: could not convert string to float: 'x'" in ended.stderr
    assert ended.stderr.endswith("1 with a result, 1 failed\n")


def test_a_function_is_tried_as_the_engine_calls_it(package: Command):
    package.write(
        "extract.py",
        """
        import os, threading

        kept = []

        def look(file):
            assert threading.current_thread() is not threading.main_thread()
            path = file.path()
            assert (path.name, path.read_bytes()) == ("Scan.TIF", b"abc"), path
            assert str(path.parent) != os.path.abspath("data")
            assert bytes(memoryview(file)) == file.open().read() == file.bytestring == b"abc"
            assert (file.filename, file.subdir_str, file.n_total_chunks, file.size) == ("Scan.TIF", "", 1, 3)
            assert len(file.sha512) == 128 and abs(file.mtime - os.stat("data/Scan.TIF").st_mtime) < 1e-3
            kept.append((file, path))
            file.logger.info("a line of %s", "the function")
            return path.name

        def again(file):
            look(file)
            return str(sum(path.exists() for _, path in kept))
        """,
    )
    package.write("data/Scan.TIF", "abc")
    ended = package.run("try", "extract.py:look", "data/Scan.TIF")
    assert (ended.returncode, ended.stdout) == (0, "Scan.TIF\n"), ended.stderr
    assert "a line of the function" in ended.stderr
    ended = package.run("try", "extract.py:again", *["data/Scan.TIF"] * 3)
    assert (ended.returncode, ended.stdout) == (0, "1\n1\n1\n"), "the file of a call is gone after it"


def test_results_that_no_topic_takes_are_failures_of_a_try(package: Command):
    package.write(
        "extract.py",
        """
        def large(file):
            return {"small": 1, "spectrum": "x" * 1_500_000}

        def huge(file):
            return "x" * 68_000_000

        def odd(file):
            return object()

        def leaves(file):
            raise SystemExit(3)

        def nothing(file):
            pass

        def picture(file):
            return b"\\xff\\xd8"
        """,
    )
    package.write("a.csv", "abc")

    def tried(name: str) -> tuple[int, str, str]:
        ended = package.run("try", f"extract.py:{name}", "a.csv")
        return ended.returncode, ended.stdout, ended.stderr

    # the embedded log takes it
    code, out, said = tried("large")
    assert code == 0 and len(out) > 1_500_000 and "The embedded log takes that; a topic of Kafka takes 1 MB" in said, said
    assert "the result has 1.5 MB" in said and 'its largest entry `metadata["spectrum"]`' in said, said
    code, out, said = tried("huge")
    assert (code, out) == (1, "") and "a topic of the embedded log takes 67.1 MB: return less" in said, said
    code, _, said = tried("odd")
    assert code == 1 and "`object`" in said and "Traceback" not in said, said
    code, _, said = tried("leaves")
    assert code == 1 and "SystemExit: 3" in said
    code, out, said = tried("nothing")
    assert (code, out) == (0, "") and "datamill process" in said
    assert tried("picture")[:2] == (0, "(2 bytes that are not text)\n")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("extrct.py:count", ["there is no file `extrct.py`: did you mean `extract.py`"]),
        ("extract:count", ["did you mean `extract.py:count`?"]),
        ("extract.count", ["did you mean `extract.py:count`?"]),
        ("gone/extract.py:count", ["there is no folder `gone`"]),
        ("extract.py:cuont", ["there is no function `cuont` in `extract.py`: did you mean `count`?"]),
        ("extract.py:zzz", ["there is no function `zzz` in `extract.py`. The functions there: `Plan`, `count`, `two`"]),
        ("extract.py:LIMIT", ["`LIMIT` in `extract.py` is no function, but of type `int`"]),
        ("extract.py:two", ["`two` in `extract.py` has the parameters `(file, other)`", "write `def two(file)`"]),
        ("extract.py:co-unt", ["`co-unt`", "write FILE.py:NAME"]),
        ("extract.py", ["`extract.py` has 3 public functions and classes of its own", "`count`"]),
        ("extract.py:Plan", ["`Plan` is a class"]),
        ("syntax.py:count", ["`syntax.py` cannot be loaded", "line 3", "return {'a': 1", "SyntaxError"]),
        ("imports.py:count", ["no module `nonsense_of_nobody`", "-m pip install", "line 2", "import nonsense_of_nobody"]),
        ("raises.py:count", ["`raises.py` cannot be loaded: it raised an exception", "line 2", "ZeroDivisionError"]),
        ("starts.py:count", ["`starts.py` cannot be loaded: it ends the program", '`if __name__ == "__main__":`']),
    ],
)
def test_what_is_wrong_with_the_function_is_said_with_what_was_meant(package: Command, named: str, said: list[str]):
    package.write(
        "extract.py",
        """
        import json
        from os.path import join

        LIMIT = 3

        def count(file):
            return {}

        def two(file, other):
            return {}

        class Plan:
            pass

        def _private(file):
            return {}
        """,
    )
    package.write("syntax.py", "\ndef count(file):\n    return {'a': 1\n")
    package.write("imports.py", "\nimport nonsense_of_nobody\n\ndef count(file):\n    return {}\n")
    package.write("raises.py", "\n1 / 0\n")
    package.write("starts.py", "\nimport datamill\n\ndef count(file):\n    return {}\n\ndatamill.reproduce(count)\n")
    package.write("a.csv", "abc")
    ended = package.run("try", named, "a.csv")
    assert ended.returncode == 2 and ended.stdout == ""
    for part in ["error: ", *said]:
        assert part in ended.stderr, ended.stderr
    assert "datamill/_" not in ended.stderr, "frames of the package say nothing to the user"


def test_a_file_runs_as_a_script_does_with_what_lies_beside_it(package: Command):
    package.write("code/helper.py", "def name(file):\n    return file.filename\n")
    package.write(
        "code/json.py",
        """
        import sys
        from helper import name

        assert __name__ != "__main__" and sys.argv == [__file__]

        def only(file):
            return name(file)

        if __name__ == "__main__":
            raise AssertionError("this runs as a script alone")
        """,
    )
    package.write("a.csv", "abc")
    ended = package.run("try", "code/json.py", "a.csv")
    assert (ended.returncode, ended.stdout) == (0, "a.csv\n"), ended.stderr
    # of the same size and from the same second
    text = (package.folder / "code/json.py").read_text()
    package.write("code/json.py", text.replace("return name(file)", "return '12345678'"))
    assert package.run("try", "code/json.py", "a.csv").stdout == "12345678\n"


def test_a_python_that_is_named_runs_the_function(command: Command):
    command.write("extract.py", "import sys\n\ndef where(file):\n    return sys.executable\n")
    command.write("a.csv", "abc")
    for python in (sys.executable, sys.prefix):
        ended = command.run("try", "extract.py:where", "a.csv", "--python", python)
        assert (ended.returncode, ended.stdout) == (0, f"{sys.executable}\n"), ended.stderr
    ended = command.run("try", "extract.py:where", "a.csv", "--python", "./nothing")
    assert ended.returncode == 2 and "`./nothing` (from --python) is no program" in ended.stderr


def uploaded(command: Command, log, count: int) -> str:
    """A topic with so many files."""
    topic = log.topic("command-files")
    for number in range(count):
        command.write(f"data/file{number}.txt", "x" * number)
    ended = command.run("upload", "data", "--topic_name", topic, "--config", log.config)
    assert ended.returncode == 0, ended.stderr
    return topic


def test_what_becomes_of_nan_is_said_and_can_be_chosen(command: Command, embedded):
    command.write("extract.py", "def mean(file):\n    return {'mean': float('nan')}\n")
    topic = uploaded(command, embedded, 1)
    results = {"null": ("null", "NaN, infinite or missing values that became null: 1"), "python": ("NaN", ""), "error": (None, 'metadata["mean"]')}
    for nan, (value, said) in results.items():
        ended = command.run("try", "extract.py:mean", "data/file0.txt", "--nan", nan)
        assert ended.returncode == (value is None), ended.stderr
        assert ended.stdout == (f'{{"mean": {value}}}\n' if value else "") and said in ended.stderr, ended.stderr
    words = ("--consumer_topic_name", topic, "--producer_topic_name", "means", "--config", embedded.config)
    ended = command.run("reproduce", "extract.py:mean", "--nan=python", *words, "--exit-at-end")
    assert ended.returncode == 0, ended.stderr
    ended = command.run("read", "means", "--exit-at-end", "--config", embedded.config)
    assert json.loads(ended.stdout)["value"] == '{"mean": NaN}'


def test_a_line_on_stdin_stops_a_function_as_it_stops_a_program_of_rust(command: Command, embedded):
    topic = uploaded(command, embedded, 2)
    command.write("store.py", "import pathlib\n\ndef store(file):\n    pathlib.Path('stored_' + file.filename).touch()\n")
    words = ("process", "store.py:store", "--topic_name", topic, "--config", embedded.config)
    process = command.start(*words, stdin=subprocess.PIPE)
    wait_until("both are stored", lambda: len(list(command.folder.glob("stored_*"))) == 2, process)
    _, said = process.communicate("c\nq\n", timeout=120)
    assert process.returncode == 0, said
    assert "2 files of topic" in said, said


def test_a_run_that_ends_by_itself_leaves_stdin_to_the_loop_of_a_shell(command: Command, embedded):
    topic = uploaded(command, embedded, 2)
    command.write("store.py", "def store(file):\n    pass\n")
    command.write(
        "stores.py",
        """
        from datamill import DataFileStreamProcessor

        class Stores(DataFileStreamProcessor):
            def _process_downloaded_data_file(self, datafile, lock):
                return None
        """,
    )
    listed = command.write("list.txt", "q\nnext\n")
    reading = ("--topic_name", topic, "--config", embedded.config, "--exit-at-end")
    for words, said in (
        (("upload", "data", "--topic_name", topic, "--config", embedded.config), "sent 2 files"),
        (("process", "store.py:store", *reading), "4 files of topic"),
        (("process", "stores.py:Stores", *reading, "--consumer_group_id", "stores"), "4 files of topic"),
    ):
        with listed.open() as stdin:
            process = command.start(*words, stdin=stdin)
            printed = process.communicate(timeout=120)[1]
            assert process.returncode == 0 and said in printed, printed
            assert os.lseek(stdin.fileno(), 0, os.SEEK_CUR) == 0, "the next line is for the loop"


def test_a_class_that_lacks_its_function_is_refused_in_a_sentence(package: Command, embedded):
    package.write(
        "typo.py",
        """
        from datamill import MetadataJSONReproducer

        class Typo(MetadataJSONReproducer):
            def _get_metadata_dict_for_fil(self, datafile):
                return {}
        """,
    )
    words = ("--consumer_topic_name", "files", "--producer_topic_name", "typo", "--config", embedded.config)
    ended = package.run("reproduce", "typo.py:Typo", *words)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr, ended.stderr
    assert "`Typo` does not define `_get_metadata_dict_for_file`; is `_get_metadata_dict_for_fil` meant?" in ended.stderr


def test_a_class_is_run_by_its_name(command: Command, embedded):
    topic = uploaded(command, embedded, 3)
    command.write(
        "sizes.py",
        """
        from datamill import MetadataJSONReproducer

        class Sizes(MetadataJSONReproducer):
            def _get_metadata_dict_for_file(self, datafile):
                return {"size": len(datafile.bytestring)}
        """,
    )
    words = ("--consumer_topic_name", topic, "--producer_topic_name", "sizes", "--config", embedded.config)
    process = command.start("reproduce", "sizes.py:Sizes", *words, "--consumer_group_id", "sizes", stdin=subprocess.PIPE)
    table = command.folder / "Sizes_output/LOGS/results_produced_to_sizes.csv"
    wait_until("three results", lambda: table.exists() and table.read_text().count(".txt") == 6, process)
    _, said = process.communicate("q\n", timeout=120)
    assert process.returncode == 0, said
    ended = command.run("read", "sizes", "--exit-at-end", "--json_values", "--config", embedded.config)
    values = [json.loads(line)["value"]["size"] for line in ended.stdout.splitlines()]
    assert sorted(values) == [0, 1, 2]


def test_what_a_function_says_to_a_program_is_explained_by_a_try(package: Command):
    package.write("a.csv", "abc")
    package.write("b.csv", "abc")
    package.write(
        "says.py",
        """
        import argparse, datamill

        parser = argparse.ArgumentParser()
        parser.add_argument("--unit", default="deg")

        def rests(file):
            if file.filename == "a.csv":
                raise datamill.NotAvailable("the licence server rests")
            return {}

        def stops(file):
            raise datamill.Stop("the licence has run out")

        def opens(file):
            return open(file.filepath).read()

        def needs(file, options):
            return {"unit": options.unit}

        def lacks(file, *, unit):
            return {"unit": unit}

        def given(file, options=parser.parse_args([]), *, scale=1):
            return {"unit": options.unit}
        """,
    )
    for name, code, said in [
        ("rests", 1, ["a.csv: not available: the licence server rests. A program holds here", "1 with a result, 1 not available"]),
        ("stops", 1, ["a.csv: stop: the licence has run out. A program ends here", "2 of the files not done, since the function said stop"]),
        ("opens", 1, ["FileNotFoundError", "`file.path()` is a real file in every mode"]),
        ("needs", 2, ["run the file as a script", "`def needs(file, options=parser.parse_args([]))`"]),
        ("lacks", 2, ["write `def lacks(file)`, or give `unit` a default"]),
        ("given", 0, ["2 with a result"]),
    ]:
        ended = package.run("try", f"says.py:{name}", "a.csv", "b.csv")
        assert ended.returncode == code, ended.stderr
        assert all(part in ended.stderr for part in said), ended.stderr


def test_a_function_reproduces_every_file_of_a_topic_once(command: Command, log):
    topic, results = uploaded(command, log, 9), log.topic("command-results")
    command.write("extract.py", COUNT)
    words = ("reproduce", "--consumer_topic_name", topic, "--producer-topic-name", results, "extract.py:count")
    words += ("--config", log.config, "--consumer_group_id", log.group("command"), "--exit_at_end")
    for _ in range(2):
        ended = command.run(*words)
        assert ended.returncode == 0, ended.stderr
    assert (command.folder / "count_output/LOGS").is_dir(), "the program has the name of its function"
    ended = command.run("read", results, "--exit-at-end", "--json_values", "--config", log.config)
    values = [json.loads(line)["value"] for line in ended.stdout.splitlines()]
    assert sorted(value["bytes"] for value in values) == list(range(9))


def test_a_function_processes_every_file_of_a_topic_and_its_failures_are_told(command: Command, embedded):
    topic = uploaded(command, embedded, 4)
    command.write(
        "store.py",
        """
        import pathlib

        def store(file):
            if file.filename == "file3.txt":
                raise ValueError("no room for this one")
            pathlib.Path("stored_" + file.filename).write_bytes(file.bytestring)
        """,
    )
    words = ("--config", embedded.config, "--exit-at-end", "--max_attempts", "1")
    ended = command.run("process", "store.py:store", "--topic_name", topic, *words)
    assert ended.returncode == 1, ended.stderr
    assert sorted(path.name for path in command.folder.glob("stored_*")) == [f"stored_file{n}.txt" for n in range(3)]
    assert "ValueError: no room for this one" in ended.stderr and "in store" in ended.stderr
    ended = command.run("process", "store.py:store", "--topic_name", "files", "--mode", "ram")
    assert ended.returncode == 2 and "'ram'" in ended.stderr


def test_an_interrupt_drains_a_function_and_a_second_one_leaves_at_once(command: Command, embedded):
    topic = uploaded(command, embedded, 1)
    command.write(
        "store.py",
        """
        import pathlib, time

        def store(file):
            pathlib.Path("begun").touch()
            while not pathlib.Path("may_end").exists():
                time.sleep(0.02)
            pathlib.Path("stored").touch()
        """,
    )
    words = ("process", "store.py:store", "--topic_name", topic, "--config", embedded.config)
    begun, stored = command.folder / "begun", command.folder / "stored"
    process = command.start(*words)
    wait_until("the function begins", begun.exists, process)
    process.send_signal(signal.SIGINT)
    lines = iter(process.stderr.readline, "")
    assert any("Ctrl-C now leaves at once" in line for line in lines), "it ended before the second one"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, stored.exists()) == (130, False), said
    begun.unlink()
    process = command.start(*words)
    wait_until("the function begins again", begun.exists, process)
    process.send_signal(signal.SIGINT)
    (command.folder / "may_end").touch()
    _, said = process.communicate(timeout=120)
    assert (process.returncode, stored.exists()) == (0, True), said
    assert "Traceback" not in said, said


def test_an_interrupt_ends_a_watch_in_the_package_as_in_the_program(command: Command, embedded):
    command.write("in/a.txt", "abc")
    words = ("--topic_name", "files", "--config", embedded.config, "--upload_existing", "--watchdog_lag_time", "0.1")
    process = command.start("watch", "in", *words)
    table = command.folder / "in/LOGS/uploaded_to_files.csv"
    wait_until("the file is sent", lambda: table.exists() and "a.txt" in table.read_text(), process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "sent 1 file" in said and "KeyboardInterrupt" not in said, said


MOVES = """
    import os, pathlib

    os.makedirs("elsewhere", exist_ok=True)
    os.chdir("elsewhere")

    def size(file):
        pathlib.Path("seen_" + file.filename).touch()
        return {"size": file.size}
"""


@pytest.mark.parametrize("named", ["size", "Sizes"])
def test_a_module_that_goes_to_another_folder_takes_no_path_of_the_command_along(command: Command, embedded, named: str):
    command.write(
        "moves.py",
        MOVES
        + """
    import datamill

    class Sizes(datamill.MetadataJSONReproducer):
        def _get_metadata_dict_for_file(self, datafile):
            return size(datafile)
""",
    )
    command.write("data/a.csv", "abc")
    if named == "size":
        ended = command.run("try", "moves.py:size", "data/a.csv")
        assert (ended.returncode, ended.stdout) == (0, '{"size": 3}\n'), ended.stderr
    # with the log of this folder, and with one that a configuration names
    for number, words in enumerate(([], ["--config", embedded.config.name, "--output_dir", "out"])):
        log = words[:2]
        ended = command.run("upload", "data", "--topic_name", "files", *log)
        assert ended.returncode == 0, ended.stderr
        topics = ("--consumer_topic_name", "files", "--producer_topic_name", "sizes")
        ended = command.run("reproduce", f"moves.py:{named}", *topics, "--exit-at-end", "--consumer_group_id", "g", *words)
        assert ended.returncode == 0, ended.stderr
        assert (command.folder / (f"{named}_output", "out")[number] / "LOGS").is_dir()
        ended = command.run("read", "sizes", "--exit-at-end", "--json_values", *log)
        assert [json.loads(line)["value"] for line in ended.stdout.splitlines()] == [{"size": 3}]
    assert [path.name for path in (command.folder / "elsewhere").iterdir()] == ["seen_a.csv"]


def test_a_lambda_has_the_name_that_its_file_gives_it(package: Command, embedded):
    topic = uploaded(package, embedded, 1)
    package.write("sizes.py", "sizes = lambda file: {'size': file.size}\n")
    words = ("--consumer_topic_name", topic, "--producer_topic_name", "sizes", "--config", embedded.config)
    ended = package.run("reproduce", "sizes.py:sizes", *words, "--exit-at-end")
    assert ended.returncode == 0 and (package.folder / "sizes_output").is_dir(), ended.stderr
