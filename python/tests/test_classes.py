"""Small programs of users' classes, on both logs: what they answer with, when they run, and what they see."""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT, named
from programs import LONG, MAIN, METADATA, PROCESSOR, read, results, send

import datamill

def run(tmp_path, program, *words, how=("-m", "datamill.openmsistream", "--exit-at-end"), text=None, **options):
    """Runs a program until all is done; gives what came of it."""
    script = tmp_path / "program.py"
    script.write_text(program)
    command = [sys.executable, *how, str(script), *map(str, words)]
    options.setdefault("stdin", subprocess.DEVNULL if text is None else None)
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LONG, input=text, check=False, **{
        name: value for name, value in options.items() if not (name == "stdin" and text is not None)
    })
    assert ran.returncode == 0, ran.stderr
    return ran


def returned(ran):
    """What the run method answered with."""
    line = next(line for line in ran.stdout.splitlines() if line.startswith("RETURNED "))
    return line.removeprefix("RETURNED ")


def test_a_reproducer_of_metadata_sends_a_result_for_each_file(log, tmp_path):
    files, metadata = log.topic("files"), log.topic("metadata")
    send(log, files, tmp_path / "data", {"a/one.csv": b"1\n2\n", "two.csv": b"3\n", "bad.csv": b"fail"})
    program = METADATA + MAIN.format(name="Lines", run="produce_processing_results_for_files_as_read")
    topics = ["--consumer_topic_name", files, "--producer_topic_name", metadata]
    ran = run(tmp_path, program, "--config", log.config, *topics, "--consumer_group_id", log.group("lines"))
    assert {path: json.loads(value) for path, value in results(log, metadata).items()} == {
        "a/one.csv": {"name": "one.csv", "path": "a/one.csv", "lines": 2},
        "two.csv": {"name": "two.csv", "path": "two.csv", "lines": 1},
    }
    assert returned(ran).startswith("(3, 3, 2, 2, [PosixPath("), ran.stdout
    assert "the content begins with `fail`" in ran.stderr
    assert "Log files and output will be in Lines_output" in ran.stderr and "closed" in ran.stderr
    assert (tmp_path / "Lines_output" / "LOGS" / "Lines.log").is_file()


def test_a_processor_fails_by_what_it_returns_or_raises_and_is_called_back_once(log, tmp_path):
    files = log.topic("files")
    ways = ("return", "raise", "exit", "other")
    send(log, files, tmp_path / "data", {**{f"{way}.txt": way.encode() for way in ways}, "good.txt": b"good"})
    program = PROCESSOR + MAIN.format(name="Store", run="process_files_as_read")
    group = log.group("store")
    ran = run(tmp_path, program, "--config", log.config, "--topic_name", files, "--consumer_group_id", group)
    assert (tmp_path / "done.txt").read_text().split() == ["good.txt"]
    assert sorted((tmp_path / "failed.txt").read_text().split()) == sorted(f"{way}.txt" for way in ways)
    assert returned(ran).endswith(", 1, [PosixPath('good.txt')])"), ran.stdout
    failures = next((tmp_path / "Store_output" / "LOGS").glob("failed_from_*.csv")).read_text()
    assert "Unrecognized return value" in failures and "SystemExit" in failures, failures
    # the next start makes one attempt more, and only for these
    run(tmp_path, program, "--config", log.config, "--topic_name", files, "--consumer_group_id", group)
    assert (tmp_path / "done.txt").read_text().split() == ["good.txt"]
    assert sorted((tmp_path / "failed.txt").read_text().split()) == sorted(2 * [f"{way}.txt" for way in ways])


def test_calls_overlap_on_threads_that_stay_and_the_state_is_read_meanwhile(log, tmp_path):
    files = log.topic("files")
    send(log, files, tmp_path / "data", {f"{number}.txt": b"x" for number in range(12)})
    barrier = threading.Barrier(3, timeout=LONG)
    local, seen, threads = threading.local(), [], set()

    class Together(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            # three at a time, or none ever passes
            barrier.wait()
            local.count = getattr(local, "count", 0) + 1
            with lock:
                seen.append(local.count)
                threads.add(threading.get_ident())

    program = Together(
        log.config, files, output_dir=tmp_path / "out", n_threads=3, consumer_group_id=log.group("together")
    )
    assert not program.alive and program.n_processed_files == 0
    assert isinstance(program.lock, type(threading.Lock()))
    answer = []
    runner = threading.Thread(target=lambda: answer.append(program.process_files_as_read()), daemon=True)
    runner.start()
    until = time.monotonic() + LONG
    while len(program.recent_processed_filepaths) < 12 and time.monotonic() < until:
        time.sleep(0.05)
    assert program.alive
    program.close()
    program.close()
    runner.join(LONG)
    assert answer and answer[0][2] == 12 and len(answer[0][3]) == 12
    assert len(threads) == 3 and threading.main_thread().ident not in threads
    # a thread keeps what is its own from call to call
    assert sum(count == 1 for count in seen) == 3 and max(seen) > 1


def test_metadata_that_is_no_dictionary_fails_its_file_in_a_sentence_without_frames(embedded, tmp_path):
    class Program(datamill.MetadataJSONReproducer):
        def _get_metadata_dict_for_file(self, datafile):
            return datafile.size

    files, metadata, out = embedded.topic("files"), embedded.topic("metadata"), tmp_path / "out"
    send(embedded, files, tmp_path / "data", {"one.txt": b"1"})
    program = Program(embedded.config, files, metadata, output_dir=out, exit_at_end=True, max_attempts=1)
    program.produce_processing_results_for_files_as_read()
    failures = next((out / "LOGS").glob("failed_from_*.csv")).read_text()
    assert ";`_get_metadata_dict_for_file` answered with `int`: return a dictionary;" in failures


def test_an_exception_that_is_returned_is_not_tied_to_its_file(embedded, tmp_path):
    files, metadata = embedded.topic("files"), embedded.topic("metadata")
    send(embedded, files, tmp_path / "data", {"one.txt": b"1", "two.txt": b"2"})
    error = ValueError("always the same")
    called_back = []

    class Store(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            return error

        def _failed_processing_callback(self, datafile, lock):
            called_back.append(datafile.filename)

    class Result(datamill.DataFileStreamReproducer):
        def _get_processing_result_message_for_file(self, datafile, lock):
            return error

    class Metadata(datamill.MetadataJSONReproducer):
        def _get_metadata_dict_for_file(self, datafile):
            return error

    out = tmp_path / "out"
    assert Store(embedded.config, files, output_dir=out, exit_at_end=True).process_files_as_read()[2] == 0
    assert sorted(called_back) == ["one.txt", "two.txt"]
    for cls in (Result, Metadata):
        program = cls(embedded.config, files, metadata, output_dir=tmp_path / cls.__name__, exit_at_end=True)
        assert program.produce_processing_results_for_files_as_read()[2:] == (0, 0, [])
        failures = next((tmp_path / cls.__name__ / "LOGS").glob("failed_from_*.csv")).read_text()
        assert failures.count("ValueError: always the same") == 2, failures
    assert error.__traceback__ is None


@pytest.mark.parametrize("way", ["return", "raise"])
def test_what_is_not_available_and_a_stop_are_no_failures_returned_or_raised(embedded, tmp_path, way):
    files = embedded.topic("files")
    send(embedded, files, tmp_path / "data", {"one.txt": b"1"})
    answers = [datamill.NotAvailable("the database rests"), datamill.Stop("the licence has run out")]
    called_back = []

    class Store(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            answer = answers.pop(0)
            if way == "raise":
                raise answer
            return answer

        def _failed_processing_callback(self, datafile, lock):
            called_back.append(datafile.filename)

    program = Store(embedded.config, files, output_dir=tmp_path / "out", exit_at_end=True, max_attempts=1)
    with pytest.raises(datamill.RunError, match="the licence has run out"):
        program.process_files_as_read()
    assert not answers and not called_back


def test_a_forked_process_that_comes_back_is_not_called_back(embedded, tmp_path):
    files = embedded.topic("files")
    send(embedded, files, tmp_path / "data", {"one.txt": b"raise", "two.txt": b"return"})
    fork = "import os; child = os.fork(); child and os.waitpid(child, 0)"
    program = PROCESSOR.replace("assert lock is self.lock", fork)
    program += MAIN.format(name="Store", run="process_files_as_read")
    run(tmp_path, program, "--config", embedded.config, "--topic_name", files, "--consumer_group_id", "g")
    assert sorted((tmp_path / "failed.txt").read_text().split()) == ["one.txt", "two.txt"]


def test_a_second_run_at_once_is_refused_and_leaves_the_first_as_it_is(embedded, tmp_path):
    files = embedded.topic("files")
    send(embedded, files, tmp_path / "data", {"one.txt": b"1"})
    began, goes_on = threading.Event(), threading.Event()

    class Waiting(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            began.set()
            assert goes_on.wait(LONG)

    program = Waiting(embedded.config, files, output_dir=tmp_path / "out")
    runner = threading.Thread(target=program.process_files_as_read, daemon=True)
    runner.start()
    assert began.wait(LONG)
    with pytest.raises(RuntimeError, match="runs already"):
        program.process_files_as_read()
    assert program.alive
    goes_on.set()
    until = time.monotonic() + LONG
    while program.n_processed_files < 1:
        assert time.monotonic() < until, "the run is not counted any more"
        time.sleep(0.05)
    program.close()
    runner.join(LONG)
    assert not runner.is_alive() and not program.alive


@pytest.mark.parametrize("way", ["shutdown", "close"])
def test_a_stop_before_a_run_is_obeyed_when_it_begins_and_a_closed_object_can_run_again(embedded, tmp_path, way):
    files = embedded.topic("files")
    send(embedded, files, tmp_path / "data", {"one.txt": b"1"})

    class Quiet(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            return None

    program = Quiet(embedded.config, files, output_dir=tmp_path / "out", exit_at_end=True)
    getattr(program, way)()
    assert program.process_files_as_read()[2:] == (0, [])
    getattr(program, way)()
    getattr(program, way)()
    if way == "shutdown":
        assert program.process_files_as_read()[2:] == (0, [])
    assert program.process_files_as_read()[2:] == (1, [pathlib.Path("one.txt")])


@pytest.mark.parametrize("way", ["shutdown", "close"])
def test_a_stop_while_a_second_run_begins_is_obeyed(embedded, tmp_path, way):
    files = embedded.topic("files")
    send(embedded, files, tmp_path / "data", {"one.txt": b"1"})
    told = threading.Event()
    stopper = None

    class Quiet(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            return None

        def _new_engine(self):
            nonlocal stopper
            engine = super()._new_engine()
            if told.is_set():
                # the run method was entered, and nothing runs yet
                stopper = threading.Thread(target=getattr(self, way), daemon=True)
                stopper.start()
                while stopper.is_alive() and not self._ControlledProcess__stopping:
                    stopper.join(0.01)
            return engine

    program = Quiet(embedded.config, files, output_dir=tmp_path / "out", consumer_group_id="again")
    first = threading.Thread(target=program.process_files_as_read, daemon=True)
    first.start()
    until = time.monotonic() + LONG
    while program.n_processed_files < 1:
        assert time.monotonic() < until, "the first run does nothing"
        time.sleep(0.05)
    program.shutdown()
    first.join(LONG)
    told.set()
    second = threading.Thread(target=program.process_files_as_read, daemon=True)
    second.start()
    second.join(LONG)
    stopper.join(LONG)
    assert not second.is_alive() and not stopper.is_alive() and not program.alive


CONSOLE = textwrap.dedent(
    """
    import threading
    from openmsistream import DataFileStreamProcessor

    class Heard(DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            print("FILE", flush=True)

        def _on_check(self):
            super()._on_check()
            print("CHECKED", self.n_processed_files >= 0, flush=True)

        def _on_shutdown(self):
            super()._on_shutdown()
            print("SHUT DOWN", threading.current_thread() is threading.main_thread(), self.alive, flush=True)

        @classmethod
        def run_from_command_line(cls, args=None):
            pass
    """
)


def test_c_and_q_are_heard_on_a_pipe_and_other_lines_are_left_to_input(log, tmp_path):
    files = log.topic("files")
    send(log, files, tmp_path / "data", {"one.txt": b"1"})
    program = CONSOLE + MAIN.format(name="Heard", run="process_files_as_read")
    program = program.replace('print("RETURNED"', 'print("ASKED", input())\n    print("RETURNED"')
    program = program.replace("    program.close()\n", '    print("ANSWER", input(), flush=True)\n    program.close()\n', 1)
    (tmp_path / "program.py").write_text(program)
    words = ["--config", str(log.config), "--topic_name", files, "--consumer_group_id", log.group("heard")]
    command = [sys.executable, "-m", "datamill.openmsistream", str(tmp_path / "program.py"), *words]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        console, said = process.stdin, process.stdout

        def wait_for(text):
            for line in said:
                if line.startswith(text):
                    return line.strip()
            raise AssertionError(f"`{text}` never came")

        console.write("before\n")
        console.flush()
        assert wait_for("ASKED") == "ASKED before"
        wait_for("FILE")
        # in one write, so that what comes behind `q` has to be left
        console.write("c\nq\nafter\n")
        console.flush()
        assert wait_for("CHECKED") == "CHECKED True"
        assert wait_for("SHUT DOWN") == "SHUT DOWN True False"
        wait_for("RETURNED")
        assert wait_for("ANSWER") == "ANSWER after"
        assert process.wait(LONG) == 0


def test_commands_in_the_queue_are_obeyed_as_typed_ones(log, tmp_path):
    files = log.topic("files")
    checked = []

    class Waiting(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            return None

        def _on_check(self):
            super()._on_check()
            checked.append(self.alive)
            self.control_command_queue.put("q")

    program = Waiting(log.config, files, output_dir=tmp_path / "out", consumer_group_id=log.group("waiting"))
    program.control_command_queue.put("c")
    assert program.process_files_as_read()[2:] == (0, [])
    assert checked == [True] and not program.alive


@pytest.mark.parametrize("mode", ["memory", "disk", "both"])
def test_the_file_is_what_it_is_in_openmsistream(embedded, tmp_path, mode):
    files, copies = embedded.topic("files"), embedded.topic("copies")
    send(embedded, files, tmp_path / "data", {"a/b/c.txt": b"content"})
    seen = {}

    class Look(datamill.DataFileStreamReproducer):
        def _get_processing_result_message_for_file(self, datafile, lock):
            names = ("bytestring", "filename", "relative_filepath", "subdir_str", "n_total_chunks", "check_file_hash", "size")
            seen.update({name: getattr(datafile, name) for name in names})
            seen["logger"] = datafile.logger is self.logger
            seen["full"] = datafile.full_filepath
            seen["there"] = datafile.full_filepath.is_file()
            seen["path"] = datafile.path().read_bytes()
            seen["stream"] = datafile.open().read()
            seen["type"] = type(datafile).__name__
            return datamill.ReproducerMessage(datafile, datafile.bytestring.upper())

    out = tmp_path / "out"
    program = Look(embedded.config, files, copies, output_dir=out, mode=mode, consumer_group_id="look", exit_at_end=True)
    assert program.produce_processing_results_for_files_as_read()[3] == 1
    types = {"memory": "ToMemory", "disk": "ToDisk", "both": "ToMemoryAndDisk"}
    assert seen == {
        "bytestring": b"content",
        "filename": "c.txt",
        "relative_filepath": pathlib.Path("a/b/c.txt"),
        "subdir_str": "a/b",
        "n_total_chunks": 1,
        "check_file_hash": hashlib.sha512(b"content").digest(),
        "size": 7,
        "logger": True,
        "full": out / "a" / "b" / "c.txt",
        "there": mode != "memory",
        "path": b"content",
        "stream": b"content",
        "type": "DownloadDataFile" + types[mode],
    }
    assert (out / "a" / "b" / "c.txt").is_file() == (mode != "memory")
    assert results(embedded, copies) == {"a/b/c.txt": "CONTENT"}


def test_a_type_of_file_of_the_programs_own_gets_its_arguments(embedded, tmp_path):
    files = embedded.topic("files")
    send(embedded, files, tmp_path / "data", {"one.txt": b"1 2"})
    seen = []

    class Words(datamill.DownloadDataFileToMemory):
        def __init__(self, *args, separator, **kwargs):
            super().__init__(*args, **kwargs)
            self.separator = separator

        def words(self):
            return self.bytestring.split(self.separator)

    class Split(datamill.DataFileStreamProcessor):
        @property
        def other_datafile_kwargs(self):
            return {"separator": b" "}

        def _process_downloaded_data_file(self, datafile, lock):
            seen.append((datafile.words(), datafile.filename, datafile.logger is self.logger))

    out = tmp_path / "out"
    Split(embedded.config, files, output_dir=out, datafile_type=Words, exit_at_end=True).process_files_as_read()
    assert seen == [([b"1", b"2"], "one.txt", True)]
    with pytest.raises(ValueError, match="DownloadDataFileToDisk"):
        Split(embedded.config, files, output_dir=out, datafile_type=Words, mode="disk")


def test_a_message_may_have_a_key_of_its_own(embedded, tmp_path):
    files, copies = embedded.topic("files"), embedded.topic("copies")
    send(embedded, files, tmp_path / "data", {"one.txt": b"1"})

    class Text(datamill.ReproducerMessage):
        @property
        def msg_key(self):
            return "own key"

        @property
        def msg_value(self):
            return "Text for " + self._datafile.filename

    class Program(datamill.DataFileStreamReproducer):
        def _get_processing_result_message_for_file(self, datafile, lock):
            return Text(datafile)

    program = Program(embedded.config, files, copies, output_dir=tmp_path / "out", exit_at_end=True)
    program.produce_processing_results_for_files_as_read()
    [result] = read(embedded, copies)
    assert (result["key"], result["value"]) == ("own key", "Text for one.txt")


def test_unchanged_programs_get_a_new_group_for_each_start_and_are_warned(embedded, tmp_path):
    files = embedded.topic("files")
    send(embedded, files, tmp_path / "data", {"one.txt": b"good"})
    program = PROCESSOR + MAIN.format(name="Store", run="process_files_as_read")
    for _ in range(2):
        ran = run(tmp_path, program, "--config", embedded.config, "--topic_name", files)
        assert "--consumer_group_id NAME" in ran.stderr
    assert (tmp_path / "done.txt").read_text().split() == ["one.txt", "one.txt"]


def test_programs_written_for_datamill_go_on_where_they_stopped(embedded, tmp_path):
    files = embedded.topic("files")
    send(embedded, files, tmp_path / "data", {"one.txt": b"good"})
    program = PROCESSOR.replace("from openmsistream", "from datamill") + "\nStore.run_from_command_line()\n"
    program = program.replace("    @classmethod\n    def run_from_command_line(cls, args=None):\n        pass\n", "")
    for _ in range(2):
        words = ["--config", embedded.config, "--topic_name", files, "--exit_at_end"]
        ran = run(tmp_path, program, *words, how=())
        assert "consumer group of its own" not in ran.stderr
    assert (tmp_path / "done.txt").read_text().split() == ["one.txt"]


def test_what_is_wrong_is_named_before_anything_is_read(embedded, tmp_path):
    class Program(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            return None

    out = tmp_path / "out"
    with pytest.raises(TypeError, match="did you mean `output_dir`"):
        Program(embedded.config, "files", output_dri=out)
    with pytest.raises(ValueError, match="mode `ram`"):
        Program(embedded.config, "files", mode="ram", output_dir=out)
    with pytest.raises(datamill.SetUpError, match="nowhere.config"):
        Program(tmp_path / "nowhere.config", "files", output_dir=out).process_files_as_read()
    script = PROCESSOR + MAIN.format(name="Store", run="process_files_as_read")
    (tmp_path / "program.py").write_text(script)
    command = [sys.executable, "-m", "datamill.openmsistream", "program.py", "--rubbish", "x", "--topic_name", "files"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LONG, check=False)
    assert ran.returncode == 2 and "there is no option `--rubbish`" in ran.stderr


def test_lines_of_the_program_go_once_to_the_console_the_log_file_and_the_topic_for_them(embedded, tmp_path):
    files = embedded.topic("files")
    send(embedded, files, tmp_path / "data", {"one.txt": b"good"})
    program = PROCESSOR.replace("        with lock, open", "        self.logger.warning('a line of mine')\n        with lock, open", 1)
    program += MAIN.format(name="Store", run="process_files_as_read")
    words = ["--config", embedded.config, "--topic_name", files, "--consumer_group_id", "g"]
    ran = run(tmp_path, program, *words)
    log = tmp_path / "Store_output" / "LOGS" / "Store.log"
    assert (ran.stderr.count("WARNING: a line of mine"), log.read_text().count("a line of mine")) == (1, 1)
    ran = run(tmp_path, program, *words[:-1], "other", "--log_topic_name", "lines")
    assert (ran.stderr.count("a line of mine"), log.read_text().count("a line of mine")) == (1, 2)
    assert sum(message["value"].count("a line of mine") for message in read(embedded, "lines")) == 1


def test_the_programs_of_the_document_run(embedded, tmp_path):
    document = (Path(__file__).parents[2] / "docs" / "python-classes.md").read_text()
    snippets = [textwrap.dedent(text) for text in re.findall(r"^ *```python\n(.*?)^ *```$", document, re.M | re.S)]
    lines, above, _ = snippets
    files, metadata = embedded.topic("files"), embedded.topic("metadata")
    send(embedded, files, tmp_path / "data", {"one.csv": b"4\n5.5\n7\n"})
    options = ["--config", embedded.config, "--exit_at_end"]
    topics = ["--consumer_topic_name", files, "--producer_topic_name", metadata]
    run(tmp_path, lines, *options, *topics, how=())
    assert json.loads(results(embedded, metadata)["one.csv"]) == {"file": "one.csv", "lines": 3}
    above += "\n\nAbove.run_from_command_line()\n"
    ran = run(tmp_path, above, *options, "--topic_name", files, "--threshold", "5", how=())
    assert "2 angles above 5.0" in ran.stderr


def test_a_hook_that_cannot_be_called_is_refused_before_anything_is_read(embedded, tmp_path):
    class TakesNoLock(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile):
            return None

    class TakesALock(datamill.MetadataJSONReproducer):
        def _get_metadata_dict_for_file(self, datafile, lock):
            return {}

    class CalledBackWithout(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            return None

        def _failed_processing_callback(self):
            pass

    class Later(datamill.DataFileStreamReproducer):
        async def _get_processing_result_message_for_file(self, datafile, lock):
            return None

    for program, topics, said in (
        (TakesNoLock, 1, "`_process_downloaded_data_file` of `TakesNoLock` has the parameters `(self, datafile)` and is "
                         "called with 2 arguments: write `def _process_downloaded_data_file(self, datafile, lock)`"),
        (TakesALock, 2, "write `def _get_metadata_dict_for_file(self, datafile)`"),
        (CalledBackWithout, 1, "write `def _failed_processing_callback(self, datafile, lock)`"),
        (Later, 2, "`_get_processing_result_message_for_file` of `Later` is asynchronous"),
    ):
        with pytest.raises(datamill.SetUpError) as refused:
            program(embedded.config, *("a", "b")[:topics], output_dir=tmp_path / "out")
        assert said in str(refused.value)


def test_what_keeps_a_program_of_a_class_from_starting_is_a_sentence_and_an_exit_code(embedded, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "from datamill import DataFileStreamProcessor\n"
        "class Store(DataFileStreamProcessor):\n"
        "    def _process_downloaded_data_file(self, datafile, lock):\n        return None\n"
        "Store.run_from_command_line()\n"
    )
    words = ["--config", embedded.config, "--topic_name", "no-such-topic", "--exit_at_end"]
    ran = subprocess.run(
        [sys.executable, script, *map(str, words)], cwd=tmp_path, capture_output=True, text=True, timeout=LONG,
        stdin=subprocess.DEVNULL, check=False,
    )
    assert ran.returncode == 2 and "Traceback" not in ran.stderr, ran.stderr
    assert "error: " in ran.stderr and "no-such-topic" in ran.stderr


def test_a_processor_has_no_option_for_nan(embedded, tmp_path):
    class Store(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            return None

    with pytest.raises(TypeError, match="has no option `nan`"):
        Store(embedded.config, "files", output_dir=tmp_path / "out", nan="null")


@pytest.mark.parametrize("mode", ["memory", "disk"])
def test_a_file_with_a_wrong_hash_comes_to_its_callback_alone_with_what_arrived(kafka, tmp_path, mode):
    from confluent_kafka import Producer

    files = kafka.topic("files")
    send(kafka, files, tmp_path / "data", {"good.txt": b"good"})
    message = (ROOT / "crates/testkit/vectors/one_chunk/001.msgpack").read_bytes()
    # behind its name, the first field is the hash of the file
    begin = message.index(b"\xc4\x40") + 2
    producer = Producer({"bootstrap.servers": named("DATAMILL_TEST_KAFKA")})
    producer.produce(files, message[:begin] + bytes(64) + message[begin + 64 :], b"one.dat_chunk_1_of_1")
    producer.flush()
    seen, processed = [], []

    class Store(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            processed.append(datafile.filename)

        def _failed_processing_callback(self, datafile, lock):
            raise AssertionError

        def _mismatched_hash_callback(self, datafile, lock):
            assert lock is self.lock
            seen.append((datafile.filename, datafile.bytestring, datafile.check_file_hash, datafile.n_total_chunks))
            raise ValueError("harms nobody")

    program = Store(
        kafka.config, files, output_dir=tmp_path / "out", consumer_group_id=kafka.group("hash"), exit_at_end=True, mode=mode
    )
    assert program.process_files_as_read()[2] == 1
    assert processed == ["good.txt"]
    [(name, content, sha512, chunks)] = seen
    assert (name, sha512, chunks) == ("one.dat", bytes(64), 1) and content in message
