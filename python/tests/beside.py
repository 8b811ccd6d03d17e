"""A program of test_beside.py: others' C libraries and datamill in one process, in the order that the first word says.

Each of them is used before the engine runs, by the function while it runs, and afterwards; then the process forks.
The words: order, address, authority's certificate, topic of files, topic of results, folder.
"""

import os
import sys

order, address, authority, files, results, folder = sys.argv[1:]
if order == "first":
    import datamill
import socket
import sqlite3
import ssl

import confluent_kafka
import h5py
import numpy

if order == "last":
    import datamill

LOGIN = {
    "bootstrap.servers": address,
    "security.protocol": "SASL_SSL",
    "ssl.ca.location": authority,
    "sasl.mechanism": "PLAIN",
    "sasl.username": "user1",
    "sasl.password": "user1-secret",
}


def light(where):
    """Uses what needs no network."""
    numbers = numpy.linalg.solve(numpy.eye(50) * 2, numpy.arange(50.0))
    assert numbers.sum() == 612.5
    path = os.path.join(folder, f"{where}-{os.getpid()}.h5")
    with h5py.File(path, "w") as file:
        file.create_dataset("numbers", data=numbers, compression="gzip")
    with h5py.File(path) as file:
        assert float(file["numbers"][49]) == 24.5
    with sqlite3.connect(":memory:") as database:
        database.execute("create table t (x)")
        database.executemany("insert into t values (?)", [(float(number),) for number in numbers])
        assert database.execute("select sum(x) from t").fetchone() == (612.5,)


def tls():
    """Shakes hands with the broker by Python's own OpenSSL."""
    context = ssl.create_default_context(cafile=authority)
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), 60) as plain:
        with context.wrap_socket(plain, server_hostname=host) as encrypted:
            assert encrypted.version() == "TLSv1.3"


def client(where):
    """Sends and reads a message by the Kafka client of others, over TLS."""
    errors = []
    producer = confluent_kafka.Producer(LOGIN)
    producer.produce("others", where.encode(), on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(120) == 0 and errors == [None], errors
    consumer = confluent_kafka.Consumer({**LOGIN, "group.id": f"others-{os.getpid()}-{where}", "auto.offset.reset": "earliest"})
    consumer.subscribe(["others"])
    seen = []
    for _ in range(120):
        message = consumer.poll(1)
        if message is not None and message.error() is None:
            seen.append(message.value())
        if where.encode() in seen:
            break
    consumer.close()
    assert where.encode() in seen, seen


def everything(where):
    light(where)
    tls()
    client(where)


def sums(file):
    name = f"{order}-{file.filename}"
    light(name)
    if file.filename == "0.txt":
        everything(name)
    return {"file": file.filename, "sum": int(numpy.frombuffer(file, dtype="u1").sum())}


everything("before")
config = os.path.join(folder, "tls.config")
paths = [os.path.join(folder, f"{number}.txt") for number in range(20)]
for number, path in enumerate(paths):
    with open(path, "wb") as file:
        file.write(bytes([number]) * 1000)
datamill.upload(paths, files, config=config)
datamill.reproduce(
    sums, consumer_topic_name=files, producer_topic_name=results, config=config, exit_at_end=True,
    output_dir=os.path.join(folder, "output"), consumer_group_id=f"beside-{order}",
)
found = sorted(result.json()["sum"] for result in datamill.read(results, config=config))
assert found == [number * 1000 for number in range(20)], found
everything("after")

sys.stdout.flush()
child = os.fork()
if child == 0:
    light("child")
    assert [message.json()["sum"] for message in datamill.read(results, config=config)].count(0) == 1
    print("child done", flush=True)
    sys.exit(0)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
everything("parent")
print("parent done")
