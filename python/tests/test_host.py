"""The interpreter is the host: signals, its end, forks, what is printed, and functions that do not end."""

from __future__ import annotations

import atexit
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import threading
import traceback

import pytest

import datamill

from work import LIMIT, until

# waits in the function until the test has made a file
WAITS = """
    import datamill, os, pathlib, sys, threading, time

    def function(file):
        print("called", file.filename, flush=True)
        while not pathlib.Path("go").exists():
            time.sleep(0.02)
        return "done"
    """


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_first_signal_drains_and_the_run_returns_its_values(work, number):
    work.upload({f"{n}": b"x" for n in range(40)})
    options = work.options(exit_at_end=False)
    program = WAITS + f"""
    import signal
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run where it is ignored, as below `nohup`
    ended = datamill.reproduce(function, consumer_topic_name={work.files!r}, producer_topic_name={work.results!r},
                               **{ {name: str(value) if name in ("config", "output_dir") else value
                                    for name, value in options.items()} })
    print("ended", ended.exit_code, ended.files, flush=True)
    """
    with work.start(program, "no words") as started:
        started.said("called")
        started.process.send_signal(number)
        started.said("stopping: files in hand are finished")
        (work.folder / "go").touch()
        assert started.end() == 0, started.text()
        assert "ended 0 " in started.text()
    done = len(work.read())
    # what was in hand is committed, the rest is for the next start
    assert 1 <= done <= 40
    assert f"ended 0 {done}" in started.text()
    assert work.reproduce(lambda file: "done").files == 40 - done


def test_a_second_signal_leaves_at_once(local):
    local.upload({"a": b"x"})
    with local.start(WAITS + "datamill.reproduce(function)\n", **{"exit_at_end": False}) as started:
        started.said("called")
        started.process.send_signal(signal.SIGINT)
        started.said("stopping: files in hand are finished")
        started.process.send_signal(signal.SIGINT)
        started.said("left at once")
        (local.folder / "go").touch()
        assert started.end() == 130, started.text()


def test_handlers_of_the_program_are_never_replaced_and_ours_are_gone_after_the_run(local):
    def own(number, frame):
        raise AssertionError

    local.upload({"a": b"x"})
    before = signal.signal(signal.SIGTERM, own)
    try:
        during = []
        local.reproduce(
            lambda file: during.append((signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))) or "done",
            name="signals",
        )
        assert during[0][0] is own
        assert during[0][1] is not signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is own
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_end_of_the_interpreter_drains_a_run_in_another_thread(work):
    for is_daemon in (False, True):
        work.upload({f"{is_daemon}-{n}": b"x" for n in range(40)})
        program = WAITS + f"""
    ended = []
    def run():
        sys.argv[1:] = words
        try:
            datamill.reproduce(function)
        except SystemExit as end:
            print("run ended", end.code, flush=True)
    words = sys.argv[1:]
    thread = threading.Thread(target=run, daemon={is_daemon})
    thread.start()
    while "called" not in open("program.out").read():
        time.sleep(0.02)
    pathlib.Path("go").touch()
    print("main ends", flush=True)
    """
        (work.folder / "go").unlink(missing_ok=True)
        with work.start(program, exit_at_end=False) as started:
            assert started.end() == 0, started.text()
            assert "main ends" in started.text()
            if not is_daemon:
                assert "run ended 0" in started.text()
    done = len(work.read())
    assert work.reproduce(lambda file: "done").files == 80 - done
    assert len(work.read()) == 80


def test_a_busy_run_at_the_end_of_the_interpreter_ends_in_order(local):
    local.upload({f"{n}": b"x" for n in range(300)})
    program = """
    import datamill, sys, threading, time
    def function(file):
        end = time.monotonic() + 0.01
        while time.monotonic() < end:
            sum(range(100))
        print("called", flush=True)
        return "done"
    threading.Thread(target=lambda: datamill.reproduce(function), daemon=True).start()
    while "called" not in open("program.out").read():
        time.sleep(0.001)
    """
    for _ in range(4):
        with local.start(program, exit_at_end=False) as started:
            assert started.end() == 0, started.text()
            assert "Fatal" not in started.text() and "FATAL" not in started.text()


def test_a_forked_process_that_comes_back_from_the_function_ends_there(work):
    work.upload({"a": b"x", "b": b"x", "c": b"x"})
    program = """
    import datamill, os, sys
    def function(file):
        child = os.fork()
        if child == 0:
            if file.filename == "b":
                sys.exit(9)
            if file.filename == "c":
                os._exit(0)
            return "from the child"
        _, status = os.waitpid(child, 0)
        return str(os.waitstatus_to_exitcode(status))
    datamill.reproduce(function)
    """
    ran = work.run(program)
    assert ran.returncode == 0, ran.stderr
    assert {path: result.text() for path, result in work.read().items()} == {"a": "70", "b": "9", "c": "0"}
    assert "was forked in the function and has come back" in ran.stderr


def test_a_forked_process_ends_by_signals_as_before_the_run(local):
    local.upload({"a": b"x"})
    ran = local.run("""
    import datamill, os, signal
    def function(file):
        child = os.fork()
        if child == 0:
            handlers = (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
            os._exit(0 if handlers == (signal.SIG_DFL, signal.default_int_handler) else 1)
        _, status = os.waitpid(child, 0)
        return str(os.waitstatus_to_exitcode(status))
    datamill.reproduce(function)
    """)
    assert ran.returncode == 0, ran.stderr
    assert local.read()["a"].text() == "0"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_works_in_the_function(local, method):
    local.upload({"a": b"abc"})
    program = f"""
    import datamill, multiprocessing
    def function(file):
        with multiprocessing.get_context({method!r}).Pool(1) as pool:
            return str(pool.apply(len, (file.bytestring,)))
    if __name__ == "__main__":
        datamill.reproduce(function)
    """
    ran = local.run(program)
    assert ran.returncode == 0, ran.stderr
    assert local.read()["a"].text() == "3"


def test_lines_go_to_the_stderr_that_is_there_and_to_a_log_file_of_each_run(local, capsys):
    def function(file):
        file.logger.info("looked at %s", file.filename)
        logging.getLogger("a.library").warning("odd thing")
        return "done"

    handlers = logging.root.handlers[:]
    logging.root.handlers.clear()
    try:
        local.upload({"a": b"x"})
        capsys.readouterr()
        local.reproduce(function, name="one", output_dir=local.folder / "one")
        first = capsys.readouterr().err
        assert "INFO  looked at a file=a" in first and "WARN  odd thing" in first
        local.upload({"b": b"x"})
        capsys.readouterr()
        local.reproduce(function, name="two", output_dir=local.folder / "two", logger_stream_level="error")
        assert capsys.readouterr().err == ""
        assert logging.root.handlers == []
    finally:
        logging.root.handlers[:] = handlers
    one, two = ((local.folder / name / "LOGS" / f"{name}.log").read_text() for name in ("one", "two"))
    assert "odd thing file=a" in one and "file=b" not in one
    assert "odd thing file=b" in two and "file=a" not in two


def test_two_runs_at_once_in_one_process_have_their_own_files_and_results(local):
    from work import Work

    other = Work(local.log, local.folder)
    other.output_dir = local.folder / "other"
    for each, name in ((local, "a"), (other, "b")):
        each.upload({name: b"x"})
    # both are in their function at the same time
    barrier = threading.Barrier(2, timeout=120)

    def function(file):
        barrier.wait()
        return "done"

    ended = []
    threads = [
        threading.Thread(target=lambda each=each, name=name: ended.append(each.reproduce(function, name=name)))
        for each, name in ((local, "first"), (other, "second"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [end.exit_code for end in ended] == [0, 0]
    assert (list(local.read()), list(other.read())) == (["a"], ["b"])


def test_of_two_runs_at_once_each_says_in_its_own_log_file_how_it_went(local):
    from work import Work

    other = Work(local.log, local.folder)
    other.output_dir = local.folder / "other"
    for each in (local, other):
        each.upload({"a": b"x"})
    begun, stopped = threading.Event(), threading.Event()

    def waits(file):
        begun.set()
        assert stopped.wait(LIMIT)
        file.logger.warning("alone now")
        return "done"

    def stops(file):
        raise datamill.Stop("the licence has run out")

    thread = threading.Thread(target=lambda: other.reproduce(waits, name="waits"))
    thread.start()
    assert begun.wait(LIMIT)
    with pytest.raises(datamill.RunError, match="the licence has run out"):
        local.reproduce(stops, name="stops")
    stopped.set()
    thread.join(LIMIT)
    one, two = (each.output_dir / "LOGS" / f"{name}.log" for each, name in ((local, "stops"), (other, "waits")))
    assert "the licence has run out" in one.read_text() and "alone now" not in one.read_text()
    assert "alone now" in two.read_text()


def test_a_function_that_hangs_and_keeps_the_interpreter_ends_the_process_too(local):
    local.upload({"hangs": b"x"})
    ran = local.run("""
    import ctypes, datamill
    def function(file):
        ctypes.PyDLL(None).sleep(100_000)
    datamill.process(function)
    """, *local.words("processor", processing_timeout=2))
    assert ran.returncode == 5, ran.stderr
    assert "keeps the interpreter and does not end for hangs" in ran.stderr


def test_files_that_wait_for_a_thread_do_not_count_as_too_long(local):
    local.upload({f"{n}": b"x" for n in range(8)})
    # the files at hand wait longer for the one thread than a call may take; none of the calls takes that long
    ran = local.run("""
    import datamill, threading
    one = threading.Semaphore(1)
    def function(file):
        assert one.acquire(blocking=False)
        threading.Event().wait(2)
        one.release()
        return "done"
    datamill.reproduce(function)
    """, **{"n_consumer_threads": 1, "processing_timeout": 12})
    assert ran.returncode == 0, ran.stderr
    assert len(local.read()) == 8


def test_counts_are_there_while_it_runs(local):
    from datamill import _engine, _host

    local.upload({"a": b"x", "b": b"x"})
    seen = []
    engine = _engine.Engine(
        kind="reproducer", name="counts", arguments=local.words(), logger=logging.getLogger("datamill.counts"),
        code=lambda file: seen.append(engine.counts()) or "done",
    )
    assert _host.run(engine, n_threads=1).files == 2
    assert [count["files"] for count in seen] == [0, 1]
    counts = until(lambda: engine.counts(), "counts")
    assert counts["messages_read"] == counts["messages_processed"] == counts["messages_produced"] == 2
    assert sorted(counts["recent"]) == ["a", "b"]


def test_counts_can_be_asked_for_while_they_are_made(local):
    # Python may clean up within a call of the module, and what goes may ask as well
    local.upload({"a": b"x"})
    ran = local.run("""
    import gc, logging, sys
    from datamill import _engine, _host

    engine = _engine.Engine(
        kind="processor", name="looks", arguments=sys.argv[1:], logger=logging.getLogger("datamill.looks"),
        code=lambda file: None,
    )
    _host.run(engine, n_threads=1)

    class Looks:
        def __init__(self):
            self.itself = self

        def __del__(self):
            engine.counts()

    gc.disable()
    kept = []
    for _ in range(50):
        Looks()
        # the next list is made anew, which cleans up, and the next dictionary is not
        kept.extend([] for _ in range(100))
        {}
        gc.enable()
        engine.counts()
        gc.disable()
    print("asked", engine.counts()["files"])
    """, *local.words("processor"))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "asked 1\n"


def test_an_engine_runs_once(local):
    from datamill import _engine, _host

    engine = _engine.Engine(
        kind="processor", name="once", arguments=local.words("processor"), logger=None, code=lambda file: None
    )
    local.upload({"a": b"x"})
    _host.run(engine)
    with pytest.raises(RuntimeError, match="started before"):
        _host.run(engine)


def test_a_ctrl_c_while_the_end_of_the_interpreter_waits_leaves_at_once(local):
    local.upload({"a": b"x"})
    program = WAITS + """
    import atexit
    threading.Thread(target=lambda: datamill.reproduce(function), daemon=True).start()
    while "called" not in open("program.out").read():
        time.sleep(0.02)
    # what is registered last is called first
    atexit.register(print, "main has ended", flush=True)
    """
    with local.start(program, exit_at_end=False) as started:
        started.said("main has ended")
        started.process.send_signal(signal.SIGINT)
        assert started.end() == 130, started.text()
        assert "left at once" in started.text()
        assert "Fatal" not in started.text() and "FATAL" not in started.text()


def test_a_run_is_kept_until_it_is_over_and_no_longer(local):
    from datamill import _engine, _host

    starts = _host._Run(
        _engine.Engine(kind="processor", name="starts", arguments=local.words("processor"), logger=None, code=print), 1
    )
    _host._runs.append(starts)
    local.upload({"a": b"x"})
    local.reproduce(lambda file: "done", name="meanwhile")
    assert _host._runs == [starts]
    starts.is_over.set()
    local.reproduce(lambda file: "done", name="afterwards")
    assert _host._runs == []


def test_a_run_that_starts_while_the_interpreter_ends_registers_all_the_same(monkeypatch):
    from datamill import _host

    def refuse(function):
        raise RuntimeError("can't register atexit after shutdown")

    registered = []
    monkeypatch.setattr(_host, "_registered", False)
    monkeypatch.setattr(threading, "_register_atexit", refuse, raising=False)
    monkeypatch.setattr(atexit, "register", registered.append)
    monkeypatch.setattr(os, "register_at_fork", lambda **hooks: registered.append(sorted(hooks)))
    _host._register_at_exit()
    assert registered == [_host._drain_all, ["after_in_child", "after_in_parent", "before"]]


def test_an_upload_that_is_left_is_stopped_and_said_at_the_end_and_not_kept_once_it_has_ended(capsys):
    from datamill import _host

    class Upload:
        stopping = has_ended = False

        def start(self):
            assert [this.engine for this in _host._runs] == [self]

        def wait(self, seconds):
            if not self.stopping:
                raise KeyboardInterrupt
            return self.has_ended

        def stop(self):
            self.stopping = True

        def end(self):
            raise datamill.RunError("sent 0 files\nnot sent: 1 not sent before the stop: `a`")

    upload = Upload()
    with pytest.raises(KeyboardInterrupt):
        _host.run(upload)
    assert upload.stopping
    # its thread goes on, and is waited for when the interpreter ends
    [left] = _host._runs
    assert left.engine is upload
    upload.has_ended = True
    _host._drain(left)
    assert "not sent: 1 not sent before the stop: `a`" in capsys.readouterr().err
    _host._forget_ended()
    assert _host._runs == []


def test_output_that_nobody_reads_does_not_hold_the_end_of_the_process(tmp_path):
    program = textwrap.dedent("""
        import contextlib, os, sys
        from datamill import _host
        os.set_blocking(1, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(1, b"x" * 4096)
        os.set_blocking(1, True)
        sys.stdout = open(1, "w", buffering=1000, closefd=False)
        sys.stdout.write("the rest")
        _host.leave(7, "the end")
        """)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.wait(LIMIT) == 7
        said = process.stderr.read().decode()
    assert said == "the end\nerror: nobody reads what was printed; the process ends without the rest\n"


@pytest.mark.parametrize("stdin", ["None", "closed", "not there"])
@pytest.mark.parametrize("form", ["function", "class"])
def test_a_program_without_stdin_runs_and_reads_from_no_other_file(local, stdin, form):
    local.upload({"a": b"x"})
    first = {
        "None": "sys.stdin = None",
        "closed": "sys.stdin.close()",
        "not there": "assert sys.stdin is None",
    }[stdin]
    program = local.program(f"""
    import datamill, os, sys, time
    {first}
    reads, writes = os.pipe()
    assert (reads == 0) == ({stdin!r} == "not there")
    os.write(writes, b"q\\n")

    def work(file):
        # who reads from what is not its stdin does so meanwhile
        time.sleep(1)
        return {{"size": file.size}}

    class Sizes(datamill.MetadataJSONReproducer):
        def _get_metadata_dict_for_file(self, datafile):
            assert self.alive
            return work(datafile)

    try:
        if {form!r} == "class":
            Sizes.run_from_command_line()
        else:
            datamill.reproduce(work)
    finally:
        assert os.read(reads, 10) == b"q\\n"
    """)
    closed = "<&-" if stdin == "not there" else "</dev/null"
    command = shlex.join([sys.executable, str(program), *local.words()])
    ran = subprocess.run(
        ["bash", "-c", f"exec {command} {closed}"], cwd=local.folder, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert local.read()["a"].json() == {"size": 1}


def test_lines_of_a_forked_process_go_to_stderr(local):
    local.upload({"a": b"x"})
    ran = local.run("""
    import datamill, logging, os
    def function(file):
        child = os.fork()
        if child == 0:
            file.logger.info("from the child")
            logging.getLogger("a.library").warning("odd thing")
            os._exit(0)
        os.waitpid(child, 0)
        file.logger.info("from the parent")
        return "done"
    datamill.reproduce(function)
    """)
    assert ran.returncode == 0, ran.stderr
    # lines of the parent may come between those of the child
    for line in ("INFO from the child", "WARNING odd thing"):
        assert line in ran.stderr.splitlines()
    assert "INFO  from the parent file=a" in ran.stderr


def test_the_debugger_opens_in_the_function_and_goes_on_line_by_line(local):
    local.upload({"a": b"x"})
    program = local.program("""
    import datamill
    def function(file):
        breakpoint()
        first = 1
        second = 2
        third = 3
        return "done"
    datamill.reproduce(function)
    """)
    with subprocess.Popen(
        [sys.executable, program, *local.words()], cwd=local.folder, text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:
        ends = threading.Timer(LIMIT, process.kill)
        ends.start()
        try:
            seen, said = [], ""
            while character := process.stdout.read(1):
                said += character
                # what is typed before the prompt is there may be a line for the program
                if said.endswith("(Pdb) "):
                    seen.append(re.findall(r"^-> (.*)$", said, re.M)[-1].strip())
                    print("c" if seen[-1] == "third = 3" else "n", file=process.stdin)
        finally:
            ends.cancel()
        assert process.wait() == 0
    assert [line for line in seen if line != "breakpoint()"] == ["first = 1", "second = 2", "third = 3"]
    assert local.read()["a"].text() == "done"


def test_a_traceback_is_formatted_only_where_it_is_printed(monkeypatch):
    from datamill import _failure

    formatted = []
    monkeypatch.setattr(traceback, "format_exception", lambda *_: formatted.append(1) or ["text"])
    _failure.forget_printed()
    for number in (1, 1, 2):
        try:
            raise ValueError(number)
        except ValueError as error:
            kind, reason = _failure.describe("a", error)
            assert kind == "failed" and reason.startswith(f"ValueError: {number} (test_host.py:")
    assert len(formatted) == 2
    _failure.forget_printed()


def test_a_try_whose_results_cannot_be_printed_fails(tmp_path, monkeypatch, capsys):
    from datamill import _try

    def refuse(value):
        raise OSError("no space is left")

    monkeypatch.setattr(_try, "_put", refuse)
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.touch()
    assert _try.Trial(lambda file: "done").run(_try.found([str(path) for path in paths])) == 1
    assert "error: 2 of the files not done, since a result could not be printed: OSError" in capsys.readouterr().err


def test_a_stderr_that_raises_stops_nothing(local, monkeypatch):
    class Broken:
        def write(self, text):
            raise RuntimeError("written to")

        flush = isatty = write

    local.upload({"a": b"x"})
    monkeypatch.setattr(sys, "stderr", Broken())
    assert local.reproduce(lambda file: "done", name="broken").exit_code == 0


def test_stderr_that_is_gone_stops_nothing(local, monkeypatch):
    local.upload({"a": b"x"})
    monkeypatch.setattr(sys, "stderr", None)
    assert local.reproduce(lambda file: "done", name="silent").exit_code == 0


def test_the_module_can_be_used_before_and_after_a_failed_start(local):
    with pytest.raises(datamill.SetUpError):
        datamill.process(print, topic_name="t", config=local.folder / "no-such.config")
    local.upload({"a": b"x"})
    assert local.reproduce(lambda file: "done", name="after").files == 1


def test_a_signal_right_after_a_fork_ends_the_child(local):
    program = """
    import datamill, os, signal
    def function(file):
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        os.kill(child, signal.SIGTERM)
        return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    datamill.reproduce(function)
    """
    local.upload({f"{n}": b"x" for n in range(20)})
    ended = local.run(program)
    assert ended.returncode == 0, ended.stderr
    assert {result.text() for result in local.read().values()} == {"-15"}


def test_two_calls_at_a_breakpoint_have_the_prompt_one_after_the_other(local):
    local.upload({"a": b"x", "b": b"x"})
    ran = local.program(f"""
    import datamill, threading
    both = threading.Barrier(2)
    def function(file):
        both.wait()
        breakpoint()
        return "done"
    datamill.reproduce(
        function, consumer_topic_name={local.files!r}, producer_topic_name={local.results!r},
        config={str(local.log.config)!r}, output_dir={str(local.output_dir)!r}, exit_at_end=True,
    )
    """)
    session = 4 * "p 'at ' + file.filename\n" + "c\n"
    ran = subprocess.run(
        [sys.executable, ran], cwd=local.folder, input=2 * session, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "".join(re.findall("'at (.)'", ran.stdout)) in ("aaaabbbb", "bbbbaaaa"), ran.stdout
    assert sorted(local.read()) == ["a", "b"]


def test_a_reader_of_the_output_that_goes_fails_no_file_and_no_program(work):
    work.upload({f"{n}": b"x" for n in range(6)})
    program = work.program("""
    import datamill, pathlib, time
    def function(file):
        print("called", flush=True)
        while not pathlib.Path("go").exists():
            time.sleep(0.02)
        print(100_000 * "x", flush=True)
        return "done"
    if __name__ == "__main__":
        datamill.reproduce(function)
    """)
    for command in ([program], ["-m", "datamill", "reproduce", f"{program}:function"]):
        (work.folder / "go").unlink(missing_ok=True)
        words = work.words(consumer_group_id=work.log.group("pipes"))
        with subprocess.Popen(
            [sys.executable, *map(str, command), *words], cwd=work.folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as process:
            for line in process.stdout:
                # two threads print at the same time
                if b"called" in line:
                    break
            process.stdout.close()
            (work.folder / "go").touch()
            assert process.wait(LIMIT) == 0
    assert len(list(datamill.read(work.results, config=work.log.config))) == 12


def test_a_forked_process_keeps_no_socket_of_the_status(local):
    local.upload({"a": b"x"})
    ran = local.run("""
    import datamill, http.client, os, socket
    def is_alive(asking):
        asking.request("GET", "/livez")
        return asking.getresponse().read() == b"alive\\n"
    def sockets_of(port):
        found = 0
        for name in os.listdir("/proc/self/fd"):
            try:
                one = socket.socket(fileno=os.dup(int(name)))
            except OSError:
                continue
            found += one.family == socket.AF_INET and one.getsockname()[1] == port
            one.close()
        return found
    def function(file):
        from datamill import _engine
        [port] = _engine.status_ports()
        asking = http.client.HTTPConnection("127.0.0.1", port)
        # the socket that listens, and the connection
        assert is_alive(asking) and sockets_of(port) == 2
        if os.fork() == 0:
            # what the function has opened itself is its own affair
            assert asking.sock.getpeername()[1] == port
            os._exit(sockets_of(port))
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0, "it has sockets of the status"
        assert is_alive(asking) and is_alive(http.client.HTTPConnection("127.0.0.1", port))
        return "done"
    datamill.reproduce(function)
    """, *local.words(), "--status_listen=0")
    assert ran.returncode == 0, ran.stderr
