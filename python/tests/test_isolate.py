"""Functions and classes in processes of their own: `--isolate` and `isolate=True`."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
from typing import Any

import pytest

import datamill
from work import LIMIT, Work, until

FUNCTION = """
    import ctypes, os, time
    import datamill
    LOADED, state = os.getpid(), {"calls": 0}
    def describe(file):
        state["calls"] += 1
        match file.filename:
            case "crashes": ctypes.string_at(0)
            case "leaves": os._exit(9)
            case "hangs": time.sleep(600)
            case "raises": raise ValueError("no header")
            case "waits":
                if not os.path.exists("come"):
                    open("come", "w").close()
                    raise datamill.NotAvailable("the licence server is away")
        print("worked on", file.filename)
        return {
            "id": os.getpid(), "parent": os.getppid(), "loaded": LOADED, "calls": state["calls"], "size": file.size,
            "text": file.bytestring.decode()[:9], "on disk": file.path().read_text()[:9], "name": file.path().name,
        }
"""


def command(work: Work, function: str, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `datamill reproduce` on a function or class of a file."""
    return subprocess.run(
        [sys.executable, "-m", "datamill", "reproduce", function, *work.words(**options), *words],
        cwd=work.folder, capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL, check=False,
    )


def results(work: Work) -> dict[str, Any]:
    return {path: json.loads(message.value) for path, message in work.read().items()}


@pytest.mark.parametrize("warm", [False, True])
def test_a_function_runs_in_processes_and_one_bad_file_costs_that_file_alone(local: Work, warm: bool) -> None:
    good = {f"good {number}": f"content {number}" for number in range(20)}
    bad = ["crashes", "leaves", "hangs", "raises"]
    local.upload({name: content.encode() for name, content in {**good, **dict.fromkeys([*bad, "waits"], "x")}.items()})
    local.program(FUNCTION, "describe.py")
    words = ["--isolate", *(["--warm"] if warm else [])]
    ended = command(local, "describe.py:describe", *words, processing_timeout=5)
    assert ended.returncode == 1, ended.stderr
    found = results(local)
    assert found.keys() == {*good, "waits"}
    for name, content in good.items():
        assert (found[name]["text"], found[name]["on disk"], found[name]["name"]) == (content[:9], content[:9], name)
    # warm workers are forked where the file was loaded
    assert all((each["loaded"] == each["parent"]) == warm for each in found.values())
    assert all(each["id"] != each["loaded"] for each in found.values()) == warm
    for reason in (
        "the worker was ended by SIGSEGV",
        "the worker ended with exit code 9",
        "the worker did not answer within 5 s",
        "ValueError: no header (describe.py:11 in describe)",
        "Traceback (most recent call last)",
        "the licence server is away",
    ):
        assert reason in ended.stderr, ended.stderr
    assert "worked on good 1 stream=stdout file=" in ended.stderr


@pytest.mark.parametrize("warm", [False, True])
def test_a_process_that_ends_itself_in_order_costs_no_file_an_attempt(local: Work, warm: bool) -> None:
    local.upload({f"{number}": b"x" for number in range(40)})
    local.program("""
        import os
        calls = 0
        def count(file):
            global calls
            calls += 1
            if calls > 10:
                os._exit(0)
            return {"id": os.getpid(), "attempt": file._attempt}
    """, "count.py")
    ended = command(local, "count.py:count", "--isolate", *(["--warm"] if warm else []), max_attempts=1, n_threads=1)
    assert ended.returncode == 0, ended.stderr
    found = results(local).values()
    ids = [each["id"] for each in found]
    assert len(ids) == 40 and {ids.count(id) for id in ids} == {10}
    assert {each["attempt"] for each in found} == {1}


@pytest.mark.parametrize("warm", [False, True])
def test_a_function_that_closes_what_it_prints_to_costs_no_other_file(local: Work, warm: bool) -> None:
    local.upload({f"{number}": b"x" for number in range(6)})
    local.program("""
        import os, subprocess, sys
        def close(file):
            subprocess.run(["true"], check=True)
            print("before", file.filename, flush=True)
            [lambda: os.closerange(0, 3), sys.stdout.close, sys.stderr.close][int(file.filename) % 3]()
            return {"id": os.getpid()}
    """, "close.py")
    ended = command(local, "close.py:close", "--isolate", *(["--warm"] if warm else []), max_attempts=1, n_threads=1)
    assert ended.returncode == 0, ended.stderr
    assert len({each["id"] for each in results(local).values()}) == 1
    for number in range(6):
        assert f"before {number}" in ended.stderr, ended.stderr


def test_keywords_isolate_a_function_of_a_file_and_say_what_failed(local: Work) -> None:
    local.upload({"a": b"1", "raises": b"2"})
    local.program(FUNCTION, "describe.py")
    options = {"consumer_topic_name": local.files, "producer_topic_name": local.results, **local.options()}
    ended = local.run("""
        import json, sys
        import datamill, describe
        if __name__ == "__main__":
            ended = datamill.reproduce(describe.describe, isolate=True, worker_memory="1G", **json.loads(sys.argv[1]))
            print(ended.files, ended.failed, ended.failed_files)
    """, json.dumps(options, default=str))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "1 1 [('raises', 'ValueError: no header (describe.py:11 in describe)')]\n", ended.stderr


def test_a_script_isolates_its_own_function_with_its_own_options(local: Work) -> None:
    local.upload({"a": b"1"})
    ended = local.run("""
        import argparse, os
        import datamill
        parser = argparse.ArgumentParser()
        parser.add_argument("--greeting")
        def greet(file, options):
            return {"greeting": options.greeting, "id": os.getpid()}
        if __name__ == "__main__":
            print(os.getpid())
            datamill.reproduce(greet, parser=parser)
    """, *local.words(), "--greeting", "hello", "--isolate")
    assert ended.returncode == 0, ended.stderr
    [found] = results(local).values()
    assert found["greeting"] == "hello" and str(found["id"]) != ended.stdout.strip()


@pytest.mark.parametrize("warm", [False, True])
def test_a_class_has_an_object_in_each_process(local: Work, warm: bool) -> None:
    local.upload({str(number): b"x" for number in range(10)})
    local.program("""
        import os
        from datamill import DataFileStreamReproducer
        class Counts(DataFileStreamReproducer):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                self.made_in, self.calls = os.getpid(), 0
            def _get_processing_result_message_for_file(self, datafile, lock):
                self.calls += 1
                return {"id": os.getpid(), "made in": self.made_in, "calls": self.calls}
    """, "counts.py")
    ended = command(local, "counts.py:Counts", "--isolate", *(["--warm"] if warm else []))
    assert ended.returncode == 0, ended.stderr
    found = list(results(local).values())
    assert len(found) == 10 and all(each["id"] == each["made in"] for each in found)
    for id in {each["id"] for each in found}:
        calls = sorted(each["calls"] for each in found if each["id"] == id)
        assert calls == list(range(1, len(calls) + 1))


def test_results_are_what_they_are_without_isolation(local: Work) -> None:
    local.upload({name: b"x" for name in ("bytes", "nan", "message", "nothing")})
    local.program("""
        class Message:
            msg_key, msg_value, msg_headers = b"\\xff", b"\\xfe", [("h", b"\\xfd"), ("t", "text")]
        def each(file):
            return {"bytes": b"\\x00\\xff", "nan": {"value": float("nan")}, "message": Message()}.get(file.filename)
    """, "each.py")
    ended = command(local, "each.py:each", "--isolate")
    assert ended.returncode == 1, ended.stderr
    found = local.read()
    assert found.keys() == {"bytes", "nan", "message"}
    assert (found["bytes"].value, found["nan"].value) == (b"\x00\xff", b'{"value": null}')
    assert (found["message"].key, found["message"].value) == (b"\xff", b"\xfe")
    assert {("h", b"\xfd"), ("t", b"text")} <= set(found["message"].headers)
    assert "1 NaN, infinite or missing values" in ended.stderr
    assert "the function answered with `None`" in ended.stderr


def test_what_another_process_cannot_load_is_refused(local: Work) -> None:
    with pytest.raises(datamill.SetUpError, match="let it stand at the top level of a file"):
        local.process(lambda file: None, isolate=True)


def test_a_file_that_cannot_be_loaded_again_ends_the_program_with_its_traceback(local: Work) -> None:
    local.upload({"a": b"1"})
    local.program("""
        import os
        if os.path.exists("loaded"): raise RuntimeError("the second time")
        open("loaded", "w").close()
        def each(file): return "x"
    """, "each.py")
    ended = command(local, "each.py:each", "--isolate")
    assert ended.returncode != 0 and "RuntimeError: the second time" in ended.stderr, ended.stderr


def test_a_warm_file_that_cannot_be_loaded_ends_the_program_with_its_traceback(local: Work) -> None:
    local.upload({"a": b"1"})
    local.program("""
        import os
        print("printed while it is loaded")
        if os.path.exists("loaded"): raise RuntimeError("the second time")
        open("loaded", "w").close()
        def each(file): return "x"
    """, "each.py")
    ended = command(local, "each.py:each", "--isolate", "--warm")
    assert ended.returncode != 0 and "RuntimeError: the second time" in ended.stderr, ended.stderr


@pytest.mark.parametrize("warm", [False, True])
def test_numpy_starts_within_what_it_uses_and_what_eats_memory_is_ended_with_limit_and_peak(local: Work, warm: bool) -> None:
    local.upload({"sums": b"\x01\x02", "eats": b"x"})
    local.program("""
        import time
        import numpy
        def each(file):
            if file.filename == "eats":
                eaten = numpy.ones(300_000_000, dtype="u1")
                time.sleep(600)
            return {"sum": int(numpy.frombuffer(file, dtype="u1").sum())}
    """, "each.py")
    ended = command(local, "each.py:each", "--isolate", *(["--warm"] if warm else []), worker_memory="250M")
    assert ended.returncode == 1, ended.stderr
    assert results(local) == {"sums": {"sum": 3}}
    assert "more than --worker_memory (250.0 MiB)" in ended.stderr, ended.stderr


@pytest.mark.parametrize("warm", [False, True])
def test_a_stop_ends_the_processes_and_a_kill_leaves_none(local: Work, warm: bool) -> None:
    local.upload({"a": b"1"})
    text = """
        import os, time, sys
        import datamill
        def each(file):
            if not os.path.exists("go"):
                with open(f"begun-{os.getpid()}", "w"): pass
                time.sleep(600)
            return "done"
        if __name__ == "__main__":
            datamill.reproduce(each)
    """
    options = {"isolate": True, "warm": warm, "shutdown_timeout": 1, "exit_at_end": False}
    for number, code in (signal.SIGTERM, 0), (signal.SIGKILL, -9):
        with local.start(text, **options) as program:
            [begun] = until(lambda: list(local.folder.glob("begun-*")), "a call")
            program.process.send_signal(number)
            assert program.end() == code, program.text()
        process = pathlib.Path("/proc", begun.name.removeprefix("begun-"))
        until(lambda: not process.exists(), "the end of the process")
        begun.unlink()
    (local.folder / "go").touch()
    assert local.run(text, isolate=True, warm=warm).returncode == 0
    assert [message.value for message in local.read().values()] == [b"done"]


def test_limits_need_processes(local: Work) -> None:
    local.program(FUNCTION, "describe.py")
    ended = command(local, "describe.py:describe", "--worker_memory", "1G")
    assert ended.returncode == 2 and "--isolate" in ended.stderr, ended.stderr
