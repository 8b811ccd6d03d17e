#!/usr/bin/env bash
# bytewax 0.21.1: a message that the broker refuses is lost. The run ends without an error, its position is stored, and a
# second run does not make the message again. kafka-python 3.0.12 loses it and all that the program sends later.
#
# The sink of bytewax gives each message to librdkafka and flushes, but asks for no report of delivery. What the broker refuses,
# for example for the `max.message.bytes` of its topic, is gone, as is what went in the same batch. The producer of
# kafka-python is idempotent unless it is told otherwise, and takes the refusal for its own end: each later message fails with the
# error of the first one, whatever its size and topic. `send`, `flush` and `close` raise nothing; only the future that `send`
# returned has the error, and a line of `logging`. quixstreams 3.28.1 raises an error.
#
# Seen (Apache Kafka 4.4), files of 5, 100000 and 6 bytes, each with its result in a topic with max.message.bytes=20000:
#   bytewax, first run             ended with 0, results of 5, 6 bytes
#   bytewax, second run            ended with 0, results of 5, 6 bytes
#   kafka-python                   no error raised, results of 5 bytes
#   the same, another topic        no error raised, results of no bytes
#   the same, the futures          None, MessageSizeTooLargeError, MessageSizeTooLargeError, MessageSizeTooLargeError
#   the same, not idempotent       no error raised, results of 5, 6 bytes
#   quixstreams                    KafkaProducerDeliveryError
#
# Needs Python 3.10 or later with venv, and what dev/kafka needs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mktemp -d)
trap '"$here/dev/kafka" kill9 "$folder/kafka" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
    bytewax==0.21.1 kafka-python==3.0.12 quixstreams==3.28.1 confluent-kafka==2.12.2
servers=$("$here/dev/kafka" start "$folder/kafka")
cat >"$folder/flow.py" <<'P'
import os
import sys
from datetime import timedelta

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.testing import run_main

servers = [os.environ["SERVERS"]]
flow = Dataflow("results")
files = op.input("files", flow, KafkaSource(servers, ["files"], tail=False, batch_size=1))
results = op.map("result", files, lambda file: KafkaSinkMessage(None, file.value))
op.output("results", results, KafkaSink(servers, "bytewax"))
run_main(flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(sys.argv[1]))
P
cat >"$folder/lost.py" <<'P'
import os
import random
import subprocess
import sys

from bytewax.recovery import init_db_dir
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaProducer
from quixstreams import Application

servers = os.environ["SERVERS"]
admin = AdminClient({"bootstrap.servers": servers})
small = {"max.message.bytes": "20000"}
topics = [NewTopic(name, 1, 1) for name in ("files", "other")]
topics += [NewTopic(name, 1, 1, config=small) for name in ("bytewax", "idempotent", "plain", "quix")]
for created in admin.create_topics(topics).values():
    created.result(60)
files = [b"first", random.Random(7).randbytes(100_000), b"second"]
producer = Producer({"bootstrap.servers": servers})
for content in files:
    producer.produce("files", content)
producer.flush(60)


def results(topic):
    options = {"group.id": "read", "auto.offset.reset": "earliest", "enable.partition.eof": True, "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": servers, **options})
    consumer.subscribe([topic])
    sizes = []
    while not (message := consumer.poll(60)).error():
        sizes.append(str(len(message.value())))
    consumer.close()
    return f"results of {', '.join(sizes) or 'no'} bytes"


def show(name, seen):
    print(f"{name:<30}", seen, flush=True)


os.mkdir("positions")
init_db_dir("positions", 1)
for name in "first", "second":
    ended = subprocess.run([sys.executable, "flow.py", "positions"], timeout=300)
    show(f"bytewax, {name} run", f"ended with {ended.returncode}, {results('bytewax')}")


def send(topic, **options):
    producer, sent = KafkaProducer(bootstrap_servers=servers, **options), []
    for name, content in [(topic, content) for content in files] + [("other", b"third")] * (topic == "idempotent"):
        sent.append(producer.send(name, content))
        producer.flush()
    producer.close()
    return f"no error raised, {results(topic)}", sent


seen, sent = send("idempotent")
show("kafka-python", seen)
show("the same, another topic", f"no error raised, {results('other')}")
show("the same, the futures", ", ".join(type(one.exception).__name__ if one.failed() else "None" for one in sent))
show("the same, not idempotent", send("plain", enable_idempotence=False)[0])
application = Application(servers, consumer_group="quix", auto_offset_reset="earliest", loglevel=None)
read = application.topic("files", value_deserializer="bytes", key_deserializer="bytes")
written = application.topic("quix", value_serializer="bytes", key_serializer="bytes")
application.dataframe(read).to_topic(written)
try:
    application.run(timeout=60, count=3)
    seen = "no error"
except Exception as error:
    seen = type(error).__name__
show("quixstreams", seen)
P
cd "$folder"
SERVERS=$servers venv/bin/python lost.py 2>errors | tee seen
sed -n 's/^#   //p' "$here/findings/$(basename "${BASH_SOURCE[0]}")" >expected
diff expected seen || { tail -50 errors >&2; echo "not as it was seen" >&2; exit 1; }
