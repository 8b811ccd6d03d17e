"""A command for each file, by the command `datamill` of the package and by the Rust program."""

from __future__ import annotations

import json
import os
import signal

from test_command import Command, command, wait_until  # noqa: F401

TOPICS = ["--consumer_topic_name", "files", "--producer_topic_name", "results"]

# a program of numpy reserves far more memory than it uses
SUMS = """
    import sys
    import numpy
    print(int(numpy.fromfile(sys.argv[1], dtype=numpy.uint8).sum()), end="")
"""


def uploaded(command: Command, *names: str) -> None:
    for name in names:
        command.write(f"data/{name}", "\x01\x02\x03")
    assert command.run("upload", "data", "--topic_name", "files").returncode == 0


def values(command: Command) -> list[str]:
    ended = command.run("read", "results", "--exit-at-end")
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line)["value"] for line in ended.stdout.splitlines()]


def processes(mark: str) -> list[str]:
    """The ids of what has the mark in its environment."""
    found = []
    for number in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/environ", "rb") as environment:
                if mark.encode() in environment.read().split(b"\0"):
                    found.append(number)
        except OSError:
            continue
    return found


def test_a_program_of_numpy_runs_for_each_file_within_the_memory_that_it_uses(command: Command):
    uploaded(command, "a.bin", "sub/b.bin")
    command.write("sums.py", SUMS)
    python = command.options()["env"]["VIRTUAL_ENV"] + "/bin/python"
    limits = ["--worker_memory", "1G", "--exit-at-end", "--stdout"]
    ended = command.run("reproduce", *TOPICS, *limits, "--", python, "sums.py", "{path}")
    assert ended.returncode == 0, ended.stderr
    assert values(command) == ["6", "6"]
    assert (command.folder / "sums_output").is_dir()


def test_a_command_that_is_not_there_is_refused_before_anything_is_read(command: Command):
    ended = command.run("process", "--topic_name", "files", "--", "no-such-program", "{path}")
    assert ended.returncode == 2
    assert "there is no program `no-such-program` in a folder of PATH" in ended.stderr
    assert not list(command.folder.iterdir())


def test_nothing_is_left_of_a_command_when_the_program_is_killed(command: Command):
    uploaded(command, "a.bin")
    script = command.write("slow.sh", "#!/bin/sh\nsetsid sleep 600 & touch begun; sleep 600\n")
    script.chmod(0o755)
    mark = f"PROGRAMS_OF={command.folder}"
    environment = {**command.options()["env"], "PROGRAMS_OF": str(command.folder)}
    process = command.start("process", "--topic_name", "files", "--", "./slow.sh", env=environment)
    wait_until("the command has begun", (command.folder / "begun").exists, process)
    assert len(processes(mark)) >= 5
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    process.stderr.close()
    wait_until("all of it has ended", lambda: not processes(mark))


def test_a_stop_ends_a_command_that_does_not_end_by_itself(command: Command):
    uploaded(command, "a.bin")
    script = command.write("slow.sh", "#!/bin/sh\ntouch begun; sleep 600\n")
    script.chmod(0o755)
    words = ["process", "--topic_name", "files", "--shutdown_timeout", "1", "--", "./slow.sh"]
    process = command.start(*words)
    wait_until("the command has begun", (command.folder / "begun").exists, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
