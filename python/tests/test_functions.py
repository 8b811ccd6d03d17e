"""A function as a program: what it gets, what it may answer, and what comes of that."""

from __future__ import annotations

import csv
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import threading

import pytest

import datamill

FILES = {"a.txt": b"one\ntwo\n", "deep/er/b.txt": b"", "deep/c.bin": bytes(range(256)) * 5000}


def failures(work) -> dict[str, str]:
    [table] = (work.output_dir / "LOGS").glob("failed_from_*.csv")
    with open(table, newline="", encoding="utf-8") as file:
        return {row["rel_filepath"]: row["reason"] for row in csv.DictReader(file, delimiter=";")}


def test_each_file_has_one_result_and_a_second_run_adds_none(work):
    work.upload(FILES)
    ended = work.reproduce(lambda file: {"size": file.size}, name="sizes")
    assert (ended.exit_code, ended.files, ended.failed) == (0, len(FILES), 0)
    assert {path: result.json() for path, result in work.read().items()} == {
        path: {"size": len(content)} for path, content in FILES.items()
    }
    assert work.reproduce(lambda file: {"size": file.size}, name="sizes").files == 0
    assert len(work.read()) == len(FILES)


def test_a_result_is_a_dictionary_a_text_bytes_or_a_message(local):
    class Message:
        msg_key = "key of my own"
        msg_value = b"\xff\x00"
        msg_headers = [("unit", "deg"), ("raw", b"\x80")]

    answers = {"dict": {"ä": 1}, "text": "täxt", "bytes": b"\x00\xff", "array": bytearray(b"ab"), "message": Message()}
    local.upload({name: b"x" for name in answers})
    assert local.reproduce(lambda file: answers[file.filename], name="kinds").exit_code == 0
    results = local.read()
    assert results["dict"].json() == {"ä": 1}
    assert results["text"].text() == "täxt"
    assert (results["bytes"].value, results["array"].value) == (b"\x00\xff", b"ab")
    assert results["text"].key == b"_text_chunk_processing_result"
    message = results["message"]
    assert (message.key, message.value) == (b"key of my own", b"\xff\x00")
    assert ("unit", b"deg") in message.headers and ("raw", b"\x80") in message.headers


def test_what_is_no_result_fails_its_file_with_the_reason(work):
    def answer(file):
        match file.filename:
            case "raises":
                raise ValueError("no header")
            case "exits":
                raise SystemExit(3)
            case "none":
                return None
            case "number":
                return 7
            case "returned":
                return KeyError("anode")
            case "caused":
                try:
                    {}["anode"]
                except KeyError as error:
                    raise RuntimeError("no metadata") from error
            case "half":
                return "\ud800"
            case "deep":
                return re.compile("(")
            case "opened":
                return open(file).read()
            case "read":
                return file.read()
            case "typo":
                return file.bytstring
            case _:
                return "good"

    names = ["raises", "exits", "none", "number", "returned", "caused", "half", "deep", "opened", "read", "typo"]
    work.upload({name: b"x" for name in [*names, "good"]})
    ended = work.reproduce(answer)
    assert (ended.exit_code, ended.files, ended.failed) == (1, 1, len(names))
    assert sorted(path for path, _ in ended.failed_files) == sorted(names)
    assert list(work.read()) == ["good"]
    reasons = failures(work)
    assert reasons["raises"].startswith("ValueError: no header (test_functions.py:")
    assert "in answer)" in reasons["raises"]
    assert reasons["exits"].startswith("SystemExit: 3")
    assert reasons["none"].startswith("the function answered with `None`: answer with the result")
    assert "`int`: answer with a dictionary, a text, bytes" in reasons["number"]
    assert reasons["returned"] == "KeyError: 'anode'"
    assert reasons["caused"].startswith("RuntimeError: no metadata, after KeyError: 'anode' (")
    assert "UnicodeEncodeError" in reasons["half"]
    assert re.fullmatch(r".* \(test_functions\.py:\d+ in answer\)", reasons["deep"]), reasons["deep"]
    advised = [name for name, reason in reasons.items() if "; `file.open()` is a stream with the content, `file.path()` the" in reason]
    assert sorted(advised) == ["opened", "read"], reasons


def test_a_processor_answers_with_nothing_and_all_else_is_a_failure(work):
    def act(file):
        match file.filename:
            case "false":
                return False
            case "returned":
                return ValueError("not stored")
            case "raises":
                raise OSError("not there")

    work.upload({name: b"x" for name in ["false", "returned", "raises", "fine"]})
    ended = work.process(act)
    assert (ended.exit_code, ended.files, ended.failed) == (1, 1, 3)
    reasons = failures(work)
    assert reasons["false"].startswith("the function answered with `bool`: a processor answers with nothing")
    assert reasons["returned"] == "ValueError: not stored"
    assert reasons["raises"].startswith("OSError: not there (")


def test_a_failure_prints_its_traceback_once_with_the_frames_of_the_user_alone(local, capsys):
    def inner():
        raise ValueError("no header")

    def outer(file):
        inner()

    local.upload({"a.txt": b"x"})
    local.reproduce(outer, max_attempts=2)
    said = capsys.readouterr().err
    assert said.count("Traceback (most recent call last)") == 1
    assert "in outer" in said and "in inner" in said
    assert "/datamill/_" not in said.split("Traceback")[1].split("ValueError")[0]


def test_an_attempt_that_fails_is_followed_by_another(local):
    attempts = []

    def flaky(file):
        attempts.append((file._attempt, file._is_last_attempt))
        if len(attempts) < 3:
            raise OSError("later")
        return "done"

    local.upload({"a.txt": b"x"})
    assert local.reproduce(flaky, max_attempts=3).exit_code == 0
    assert attempts == [(1, False), (2, False), (3, True)]


def test_what_is_not_available_holds_the_program_and_no_file_fails(local):
    calls = []

    def function(file):
        calls.append(file.filename)
        if len(calls) == 1:
            raise datamill.NotAvailable("the database rests")
        return "done"

    local.upload({"a.txt": b"x"})
    ended = local.reproduce(function)
    assert (ended.exit_code, ended.files, len(calls)) == (0, 1, 2)


def test_a_function_can_stop_the_program(local):
    def function(file):
        raise datamill.Stop("the licence has run out")

    local.upload({"a.txt": b"x"})
    with pytest.raises(datamill.RunError, match="the licence has run out") as raised:
        local.reproduce(function)
    assert raised.value.exit_code == 3


def test_the_function_runs_on_threads_of_python_that_stay_the_same(local):
    kept = threading.local()
    seen = set()

    def function(file):
        kept.count = getattr(kept, "count", 0) + 1
        seen.add((threading.current_thread().name, threading.get_ident()))
        counts.append(kept.count)
        return "done"

    counts: list[int] = []
    local.upload({f"{n}.txt": b"x" for n in range(50)})
    local.reproduce(function, n_consumer_threads=2)
    assert threading.get_ident() not in {ident for _, ident in seen}
    assert {name for name, _ in seen} <= {"datamill-1", "datamill-2"} and len(seen) <= 2
    # a value of the thread is there at its next file
    assert max(counts) >= 25


def test_calls_overlap_on_as_many_threads_as_are_asked_for(local):
    barrier = threading.Barrier(3, timeout=120)

    def function(file):
        barrier.wait()
        return "done"

    local.upload({f"{n}.txt": b"x" for n in range(3)})
    assert local.reproduce(function, n_consumer_threads=3).files == 3


def test_a_run_can_be_in_a_thread_of_the_users_own(local):
    local.upload({"a.txt": b"x"})
    ended = []
    thread = threading.Thread(target=lambda: ended.append(local.reproduce(lambda file: "done", name="own")))
    thread.start()
    thread.join()
    assert ended[0].exit_code == 0


def test_an_option_that_is_not_there_is_named_with_the_nearest_one(local):
    with pytest.raises(TypeError, match="no option `topic_nam`: did you mean `topic_name`"):
        datamill.process(print, topic_nam="files")
    with pytest.raises(TypeError, match="`exit_at_end` is True or False"):
        datamill.process(print, topic_name="files", exit_at_end=1)
    with pytest.raises(datamill.SetUpError, match="not provided: `producer_topic_name`$") as raised:
        datamill.reproduce(print, consumer_topic_name="files", config=local.log.config)
    assert raised.value.exit_code == 2


def test_a_topic_that_is_not_there_is_named(work):
    with pytest.raises(datamill.SetUpError, match="no-such-topic"):
        datamill.process(print, **work.options(topic_name="no-such-topic"))


COUNTS = """
    import argparse, datamill

    def lines(file, options=None):
        return {"lines": file.bytestring.count(options.mark.encode() if options else b"\\n")}

    parser = argparse.ArgumentParser(description="Counts marks.")
    parser.add_argument("--mark", default="\\n")
    """


def test_a_broker_that_is_away_at_the_start_breaks_a_run_off_and_can_be_tried_again(tmp_path):
    config = tmp_path / "away.config"
    config.write_text("[broker]\nbootstrap.servers = 127.0.0.1:1\n")
    (tmp_path / "a.txt").write_text("x")
    runs = [
        lambda: datamill.process(print, topic_name="files", config=config, output_dir=tmp_path / "out"),
        lambda: datamill.upload(tmp_path / "a.txt", topic="files", config=config),
        lambda: list(datamill.read("files", config=config)),
    ]
    for run in runs:
        with pytest.raises(datamill.RunError, match="does not answer.* Nothing is lost: start it again") as raised:
            run()
        assert raised.value.exit_code == 3


def test_without_keywords_the_command_line_of_the_program_is_read(work):
    work.upload({"a.txt": b"1\n2\n"})
    ran = work.run(COUNTS + "datamill.reproduce(lines)\n")
    assert ran.returncode == 0, ran.stderr
    assert work.read()["a.txt"].json() == {"lines": 2}
    assert "1 file of topic" in ran.stderr and ran.stdout == ""


def test_a_parser_of_the_users_own_reads_its_options_beside_those_of_datamill(local):
    local.upload({"a.txt": b"1;2;3\n"})
    program = COUNTS + "datamill.reproduce(lines, parser=parser)\n"
    ran = local.run(program, *local.words(), "--mark", ";")
    assert ran.returncode == 0, ran.stderr
    assert local.read()["a.txt"].json() == {"lines": 2}
    ran = local.run(program, "--help")
    assert ran.returncode == 0 and "Counts marks." in ran.stdout
    assert "--mark" in ran.stdout and "--consumer_topic_name" in ran.stdout


def test_a_command_line_ends_with_the_exit_code_of_the_programs(local):
    program = "import datamill\ndatamill.process(lambda file: 1 / 0, name='fails')\n"
    local.upload({"a.txt": b"x"})
    ran = local.run(program, *local.words("processor"))
    assert ran.returncode == 1 and "ZeroDivisionError" in ran.stderr, ran.stderr
    ran = local.run(program, "--topic_name")
    assert ran.returncode == 2 and ran.stderr.startswith("error: a value is required"), ran.stderr
    ran = local.run(program, "--help")
    assert ran.returncode == 0 and "--topic_name" in ran.stdout
    ran = local.run(program, "--topic_name=no-such-topic", "--exit-at-end", f"--config={local.log.config}")
    assert ran.returncode == 2 and "error: " in ran.stderr and "no-such-topic" in ran.stderr, ran.stderr


def test_json_is_what_the_json_module_reads(local):
    value = {"a": [1, 2.5, None, True], "b": {"c": "ä"}}
    local.upload({"a.txt": b"x"})
    local.reproduce(lambda file: value, name="value")
    [result] = local.read().values()
    assert json.loads(result.text()) == result.json() == value


def test_dictionaries_become_json_by_the_rules_of_to_json(local):
    class Own:
        pass

    local.upload({name: b"x" for name in ("nan", "own", "unknown")})
    values = {"nan": {"angle": float("nan"), "raw": b"\xff"}, "own": {"object": Own()}, "unknown": {"at": [object()]}}
    ended = local.reproduce(
        lambda file: values[file.filename], name="json",
        default=lambda value: "own" if isinstance(value, Own) else (_ for _ in ()).throw(TypeError("no rule")),
    )
    assert (ended.files, ended.failed) == (2, 1)
    results = local.read()
    assert results["nan"].json() == {"angle": None, "raw": {"base64": "/w=="}}
    assert results["own"].json() == {"object": "own"}
    local.upload({"nan": b"y"})
    assert "nan" in dict(local.reproduce(lambda file: values["nan"], name="json", nan="error", retry_failed="no").failed_files)
    with pytest.raises(datamill.SetUpError, match="invalid value 'none' for `nan`"):
        local.reproduce(print, nan="none")


def test_a_program_with_a_command_line_hears_what_is_typed_and_one_with_keywords_does_not(local):
    local.upload({"a.txt": b"x"})
    program = local.program("""
    import datamill
    datamill.process(lambda file: None, name="hears")
    """)
    words = local.words("processor", exit_at_end=False)
    ran = subprocess.run(
        [sys.executable, str(program), *words], cwd=local.folder, input="c\nq\nleft for others\n",
        capture_output=True, text=True, timeout=240, check=False,
    )
    assert ran.returncode == 0, ran.stderr
    ran = subprocess.run(
        [sys.executable, "-c", f"""
import datamill
datamill.process(lambda file: None, name="deaf", topic_name={local.files!r}, exit_at_end=True, config={str(local.log.config)!r})
print(input())
"""],
        cwd=local.folder, input="q\n", capture_output=True, text=True, timeout=240, check=False,
    )
    assert ran.returncode == 0 and ran.stdout == "q\n", ran.stderr


def test_a_function_may_change_the_folder_of_the_process(local, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    local.upload({"good": b"x", "bad": b"x"})

    def function(file):
        os.chdir(elsewhere)
        file.path().read_bytes()
        return {"good": 1}[file.filename] and "done"

    local.output_dir = pathlib.Path("output")
    ended = local.reproduce(function, name="moves")
    local.output_dir = tmp_path / "output"
    assert (ended.exit_code, ended.files, ended.failed) == (1, 1, 1)
    [table] = (local.output_dir / "LOGS").glob("results_produced_to_*.csv")
    assert "good" in table.read_text()
    assert list(failures(local)) == ["bad"]
    assert list(elsewhere.iterdir()) == []


def test_a_cell_of_a_notebook_shows_what_was_done(local):
    class Printer:
        shown = ""

        def text(self, text):
            self.shown += text

    local.upload({"a": b"x"})
    printer = Printer()
    ended = local.reproduce(lambda file: "done", name="cell")
    ended._repr_pretty_(printer, False)
    assert printer.shown == ended.summary and "1 file" in printer.shown


def test_a_notebook_has_no_command_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    with pytest.raises(TypeError, match="a notebook has none"):
        datamill.process(lambda file: None)


def test_what_a_message_raises_is_the_reason_and_no_result_goes_without_its_headers(local):
    class Value:
        @property
        def msg_value(self):
            raise ZeroDivisionError("no sample")

    class Headers:
        msg_key = None
        msg_value = "done"

        @property
        def msg_headers(self):
            raise KeyError("unit")

    class Bare:
        msg_key = None
        msg_value = "done"
        msg_headers = None

    answers = {"value": Value(), "headers": Headers(), "bare": Bare()}
    local.upload({name: b"x" for name in answers})
    ended = local.reproduce(lambda file: answers[file.filename], name="messages")
    assert list(local.read()) == ["bare"]
    reasons = dict(ended.failed_files)
    assert "ZeroDivisionError: no sample" in reasons["value"] and "KeyError: 'unit'" in reasons["headers"]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda: {}, r"`<lambda>` has the parameters `\(\)` and is called with one argument: write `lambda file: …`"),
        (lambda file, lock: {}, r"the parameters `\(file, lock\)` and is called with one argument"),
        (functools.partial(lambda file, *, unit: {}), r"the parameters `\(file, \*, unit\)`"),
    ],
)
def test_a_function_that_cannot_be_called_with_a_file_is_refused_before_anything_is_read(local, function, said):
    local.upload({"a": b"x"})
    for run in (local.reproduce, local.process):
        with pytest.raises(datamill.SetUpError, match=said):
            run(function, name="refused")
    assert not local.output_dir.exists()


def test_functions_that_do_not_run_when_they_are_called_are_refused(local):
    async def later(file):
        return "done"

    def yields(file):
        yield "done"

    for function, said in ((later, "`later` is asynchronous"), (yields, "`yields` has a `yield`")):
        with pytest.raises(datamill.SetUpError, match=said):
            local.reproduce(function)


def test_what_a_decorator_takes_counts_and_not_what_is_within(local):
    def with_unit(function):
        @functools.wraps(function)
        def called(*args):
            return function(*args, "deg")

        return called

    @with_unit
    def angle(file, unit):
        return unit

    local.upload({"a": b"x"})
    assert local.reproduce(angle).files == 1
    assert local.read()["a"].text() == "deg"


def test_a_lambda_needs_a_name_for_its_program(local):
    for run, options in ((datamill.reproduce, {"consumer_topic_name": "a"}), (datamill.process, {"topic_name": "a"})):
        with pytest.raises(datamill.SetUpError, match='a lambda gives the program no name: say `name="…"`'):
            run(lambda file: None, **options)
    ran = local.run("import datamill\ndatamill.process(lambda file: None)\n", *local.words("processor"))
    assert ran.returncode == 2 and ran.stderr.startswith("error: a lambda gives the program no name"), ran.stderr


def test_a_mistake_in_the_options_of_a_parser_is_told_in_a_sentence_with_the_nearest_option(local):
    program = COUNTS + "datamill.reproduce(lines, parser=parser)\n"
    for words, said in (
        (("--topic_nmae", "files"), "error: there is no option `--topic_nmae`: did you mean `--topic_name`?"),
        (("--marc=;",), "error: there is no option `--marc`: did you mean `--mark`?"),
        (("--topic_name",), "error: argument --topic_name: expected one argument."),
        (("files",), "error: nothing is known of `files`."),
    ):
        ran = local.run(program, *words)
        assert ran.returncode == 2, ran.stderr
        assert ran.stderr == f"{said} `program.py --help` lists the options\n"


def test_a_message_that_is_not_what_it_is_asked_for_as_says_what_it_is(local):
    values = {"text": "no json", "bytes": b"\xff"}
    local.upload({name: b"x" for name in values})
    local.reproduce(lambda file: values[file.filename])
    results = local.read()
    for ask, said in (
        (results["text"].json, "has 7 bytes that are not JSON: `value` has all"),
        (results["bytes"].json, "has 1 byte that is not JSON"),
        (results["bytes"].text, "has 1 byte that is not text"),
    ):
        with pytest.raises(ValueError, match=said):
            ask()
    chunk = next(datamill.read(local.files, config=local.log.config))
    for ask in (chunk.json, chunk.text):
        with pytest.raises(ValueError, match="is chunk 1 of 1 of the file `(text|bytes)`, and not (JSON|text)") as refused:
            ask()
        assert "`datamill.reproduce` and `datamill.process`" in str(refused.value)
        assert f"`datamill get {local.files} " in str(refused.value)


def test_a_table_as_a_result_is_refused_with_what_to_return(local):
    import pandas

    answers = {"frame": pandas.DataFrame({"a": [1, 2]}), "series": pandas.Series([1, 2])}
    local.upload({name: b"x" for name in answers})
    reasons = dict(local.reproduce(lambda file: answers[file.filename]).failed_files)
    assert 'return its `.to_dict("list")`' in reasons["frame"]
    assert "return its `.to_dict()`" in reasons["series"]


@pytest.mark.parametrize("way", ["open", "own"])
def test_a_file_that_is_not_on_disk_is_explained(local, way):
    def function(file):
        if way == "open":
            return open(file.filepath).read()
        return open("nowhere/else.txt").read()

    local.upload({"deep/a.txt": b"x"})
    [(_, reason)] = local.reproduce(function).failed_files
    assert ("in mode `memory` there is no file at `file.filepath`" in reason) == (way == "open"), reason
