"""`S3TransferStreamProcessor` against a real S3 server, on both logs."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from bucket import ACCESS_KEY, REGION, SECRET_KEY, Bucket
from conftest import named
from programs import LONG, send
from work import until

import datamill

FILES = {"scan.csv": b"1\n2\n", "run 1/\u00d6l.dat": bytes(range(256)) * 4000, "deep/er/empty": b""}


@pytest.fixture
def bucket() -> Bucket:
    """A bucket of the test's own."""
    return Bucket(named("DATAMILL_TEST_S3"))


@pytest.fixture
def config(log, bucket):
    """The configuration of the log, with the section of the server."""
    path = log.config.with_name("s3.config")
    keys = f"access_key_id = {ACCESS_KEY}\nsecret_key_id = {SECRET_KEY}\n"
    path.write_text(f"{log.config.read_text()}\n[s3]\n{keys}endpoint_url = {bucket.url}\nregion = {REGION}\n")
    return path


def test_each_file_is_an_object_and_a_second_run_transfers_none(log, bucket, config, tmp_path):
    topic = log.topic("to-s3")
    send(log, topic, tmp_path / "data", FILES)
    options = {"consumer_group_id": log.group("s3"), "output_dir": tmp_path / "out", "exit_at_end": True}
    program = datamill.S3TransferStreamProcessor(bucket.name, config, topic, **options)
    n_read, n_processed, n_files, recent = program.make_stream()
    assert n_read == n_processed >= len(FILES) and n_files == len(FILES)
    assert sorted(str(path) for path in recent) == sorted(FILES)
    program.close()
    assert bucket.objects() == {f"{topic}/{path}": content for path, content in FILES.items()}
    again = datamill.S3TransferStreamProcessor(bucket.name, config, topic, **options)
    assert again.make_stream()[2] == 0
    again.close()


def test_it_runs_in_a_thread_until_it_is_closed(log, bucket, config, tmp_path):
    topic = log.topic("to-s3")
    send(log, topic, tmp_path / "data", {"first.txt": b"1"})
    program = datamill.S3TransferStreamProcessor(
        bucket.name, config, topic, consumer_group_id=log.group("s3"), output_dir=tmp_path / "out"
    )
    answers = []
    runner = threading.Thread(target=lambda: answers.append(program.make_stream()), daemon=True)
    runner.start()
    until(lambda: bucket.keys() == [f"{topic}/first.txt"], "the first object")
    send(log, topic, tmp_path / "data", {"second.txt": b"2"})
    until(lambda: len(bucket.keys()) == 2, "the second object")
    program.close()
    runner.join(LONG)
    assert answers and answers[0][2] == 2


def test_an_unchanged_program_transfers_by_its_command_line(log, bucket, config, tmp_path):
    topic = log.topic("to-s3")
    send(log, topic, tmp_path / "data", FILES)
    (tmp_path / "program.py").write_text(
        "from openmsistream import S3TransferStreamProcessor\n"
        "if __name__ == '__main__':\n    S3TransferStreamProcessor.run_from_command_line()\n"
    )
    words = [bucket.name, "--config", config, "--topic_name", topic, "--consumer_group_id", log.group("s3")]
    command = [sys.executable, "-m", "datamill.openmsistream", "--exit-at-end", "program.py", *map(str, words)]
    ran = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=LONG, stdin=subprocess.DEVNULL, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert bucket.objects() == {f"{topic}/{path}": content for path, content in FILES.items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("secret_key_id = datamill-secret", "secret_key_id = another"), ["secret_key_id"]),
        (("[s3]", "[broken]"), ["[broken]"]),
    ],
)
def test_what_is_wrong_with_the_section_of_the_server_is_told_at_the_start(embedded, bucket, tmp_path, change, said):
    topic = embedded.topic("to-s3")
    send(embedded, topic, tmp_path / "data", {"a.txt": b"1"})
    path = tmp_path / "s3.config"
    keys = f"access_key_id = {ACCESS_KEY}\nsecret_key_id = {SECRET_KEY}\n"
    text = f"{embedded.config.read_text()}\n[s3]\n{keys}endpoint_url = {bucket.url}\nregion = {REGION}\n"
    path.write_text(text.replace(*change))
    with pytest.raises(datamill.SetUpError) as raised:
        datamill.S3TransferStreamProcessor(
            bucket.name, path, topic, output_dir=tmp_path / "out", exit_at_end=True
        ).make_stream()
    for part in said:
        assert part in str(raised.value), raised.value
    assert bucket.keys() == []


def test_a_bucket_that_is_not_there_is_named_at_the_start(log, config, tmp_path):
    topic = log.topic("to-s3")
    send(log, topic, tmp_path / "data", {"a.txt": b"1"})
    with pytest.raises(datamill.SetUpError, match="no-such-bucket-of-mine"):
        datamill.S3TransferStreamProcessor(
            "no-such-bucket-of-mine", config, topic, output_dir=tmp_path / "out", exit_at_end=True
        ).make_stream()
