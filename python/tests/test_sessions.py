"""Functions that do not end: at a stop, and in a session of somebody who types."""

from __future__ import annotations

import signal

from test_host import WAITS


def test_a_stop_whose_time_is_over_ends_a_program_with_a_function_that_hangs(local):
    # without a limit of its own, the end would come after the waits of the interpreter
    local.upload({"a": b"x"})
    with local.start(WAITS + "datamill.reproduce(function)\n", exit_at_end=False, shutdown_timeout=1) as started:
        started.said("called")
        started.process.send_signal(signal.SIGINT)
        started.said("stopping without it")
        assert started.end() == 5, started.text()
        assert "error: the function still runs for `a` and does not end" in started.text()


SESSION = """
    import sys
    # as at a prompt, and in a notebook
    sys.ps1 = ">>> "
    """


def test_a_function_that_takes_too_long_ends_the_call_in_a_session_and_not_the_session(local):
    local.upload({"hangs": b"x", "fine": b"y"})
    options = {**local.options(), "processing_timeout": 1, "max_attempts": 2}
    options = {name: str(value) if name in ("config", "output_dir") else value for name, value in options.items()}
    ran = local.run(SESSION + WAITS + f"""
    def hangs(file):
        return function(file) if file.filename == "hangs" else "done"
    topics = dict(consumer_topic_name={local.files!r}, producer_topic_name={local.results!r})
    try:
        datamill.reproduce(hangs, **topics, **{options!r})
    except datamill.RunError as error:
        print("session goes on", error.exit_code, error, flush=True)
    threading.Event().wait(12)
    pathlib.Path("go").touch()
    while any(thread.name.startswith("datamill-") for thread in threading.enumerate()):
        time.sleep(0.02)
    ended = datamill.reproduce(hangs, **topics, **{options!r})
    print("second", ended.exit_code, flush=True)
    """, "no words")
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0 and "second 0" in said, said
    assert "session goes on 5 the function did not end for `hangs` within `processing_timeout`" in said, said
    assert "Restart the kernel" in said
    # the call that took too long was an attempt, and the second one had the result
    assert {path: result.text() for path, result in local.read().items()} == {"hangs": "done", "fine": "done"}


def test_what_a_left_run_keeps_a_second_one_from_is_said(local):
    local.upload({"a": b"x"})
    options = {name: str(value) if name in ("config", "output_dir") else value for name, value in local.options().items()}
    ran = local.run(SESSION + WAITS + f"""
    import signal
    def run():
        datamill.reproduce(function, consumer_topic_name={local.files!r}, producer_topic_name={local.results!r},
                           shutdown_timeout=600, **{options!r})
    def interrupt():
        for said in ("called", "stopping: files in hand"):
            while said not in open("said").read():
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGINT)
    sys.stdout = sys.stderr = open("said", "w", buffering=1)
    threading.Thread(target=interrupt).start()
    try:
        run()
    except KeyboardInterrupt:
        print("left")
    try:
        run()
    except datamill.SetUpError as error:
        print("refused", error.exit_code, error)
    pathlib.Path("go").touch()
    """, "no words")
    said = (local.folder / "said").read_text()
    assert ran.returncode == 0 and "left" in said, said + ran.stderr
    assert "refused 2 a run before this one was left, and its function still runs for `a` in thread `datamill-" in said, said
    assert "restart the kernel" in said
