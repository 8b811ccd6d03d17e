"""The package beside others in one process: it brings nothing of its own into their way."""

import pathlib
import subprocess

import pytest
from conftest import ROOT, named

HERE = pathlib.Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    """A broker with a TLS listener, one of this file's own: its folder and the listener's address."""
    folder = tmp_path_factory.mktemp("secured")
    script = ROOT / "dev" / "kafka"

    def kafka(*words: str) -> str:
        done = subprocess.run([script, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return done.stdout

    host, port = kafka("start", str(folder), "secured").strip().split(":")
    try:
        kafka(
            "acl", str(folder), "--add", "--allow-principal", "User:user1", "--operation", "All",
            "--topic", "*", "--group", "*", "--transactional-id", "*", "--cluster",
        )
        from confluent_kafka.admin import AdminClient, NewTopic

        names = ["others", *(f"{topic}-{order}" for topic in ("files", "results") for order in ("first", "last"))]
        admin = AdminClient({"bootstrap.servers": f"{host}:{port}"})
        for topic in admin.create_topics([NewTopic(name, 2, 1) for name in names]).values():
            topic.result(60)
        yield folder, f"{host}:{int(port) + 3}"
    finally:
        kafka("stop", str(folder))


@pytest.mark.parametrize("order", ["first", "last"])
def test_others_and_datamill_work_in_one_process_whichever_comes_first(order, secured, tmp_path, python):
    folder, address = secured
    (tmp_path / "tls.config").write_text(
        f"[broker]\nbootstrap.servers = {address}\nsecurity.protocol = SASL_SSL\nssl.ca.location = {folder}/ca.pem\n"
        "sasl.mechanism = PLAIN\nsasl.username = user1\nsasl.password = user1-secret\n\n"
        "[consumer]\nauto.offset.reset = earliest\n"
    )
    ran = python(
        HERE / "beside.py", order, address, folder / "ca.pem", f"files-{order}", f"results-{order}", tmp_path, timeout=600
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.split("\n")[-3:] == ["child done", "parent done", ""], ran.stdout + ran.stderr


def test_the_module_takes_its_memory_from_the_allocator_of_the_process():
    from datamill import _engine

    nm = subprocess.run(["nm", "-D", _engine.__file__], capture_output=True, text=True, check=True)
    kinds = {words[-1].split("@")[0]: words[-2] for words in map(str.split, nm.stdout.splitlines())}
    for name in ("malloc", "calloc", "realloc", "free", "posix_memalign"):
        assert kinds[name] == "U", f"{name} is {kinds[name]}"


def test_importing_the_package_starts_no_thread_and_changes_no_signal(python):
    ran = python(
        "-c",
        "import os, signal, sys\n"
        "before = [signal.getsignal(number) for number in sorted(signal.valid_signals())]\n"
        "import datamill\n"
        "assert [signal.getsignal(number) for number in sorted(signal.valid_signals())] == before\n"
        "assert len(os.listdir('/proc/self/task')) == 1\n"
        "assert not {'numpy', 'asyncio', 'multiprocessing'} & set(sys.modules), sorted(sys.modules)\n",
    )
    assert ran.returncode == 0, ran.stderr


def test_services_are_named_where_they_are_missing(monkeypatch):
    monkeypatch.delenv("DATAMILL_TEST_KAFKA", raising=False)
    with pytest.raises(pytest.fail.Exception, match="DATAMILL_TEST_KAFKA is not set"):
        named("DATAMILL_TEST_KAFKA")
