#!/usr/bin/env bash
# Apache Kafka 4.1: one message whose time is more than an hour ahead makes the broker refuse all messages that the client sent
# beside it, right ones too. With confluent-kafka 2.16.1 and aiokafka 0.14.0 nothing says which one it was.
#
# Since Kafka 4.0 `message.timestamp.after.max.ms` of a topic is an hour and no longer unlimited, and a batch is taken whole or
# not at all. A program that forwards files of several instruments with the time of each file therefore loses those of
# the instruments whose clocks are right, if one clock holds local time where UTC is meant. The broker does name the
# message; kafka-python 3.0.12 passes that on. Which messages share a batch depends on the load, so the same files go
# through on a quiet day.
#
# Seen, the second of three messages being two hours ahead:
#   confluent-kafka: right INVALID_TIMESTAMP, ahead INVALID_TIMESTAMP, right INVALID_TIMESTAMP
#   aiokafka:        right InvalidTimestampError, ahead InvalidTimestampError, right InvalidTimestampError
#   kafka-python:    right KafkaError, ahead InvalidTimestampError, right KafkaError
#   confluent-kafka, one at a time: right taken, ahead INVALID_TIMESTAMP, right taken
#   in the topic: 2 messages
#
# Needs Python 3.9 or later with venv, and what dev/kafka needs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mktemp -d)
trap '"$here/dev/kafka" kill9 "$folder/kafka" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    confluent-kafka==2.16.1 aiokafka==0.14.0 kafka-python==3.0.12
servers=$("$here/dev/kafka" start "$folder/kafka")
cat >"$folder/send.py" <<'P'
import asyncio
import os
import time

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError as AioError
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaProducer
from kafka.errors import KafkaError

servers = os.environ["SERVERS"]
admin = AdminClient({"bootstrap.servers": servers})
admin.create_topics([NewTopic("files", 1, 1)])["files"].result(60)
now = int(time.time() * 1000)
times = {"first": now, "second": now + 2 * 3_600_000, "third": now}
# so long do the clients wait for company
together = 2000


def show(name, ended):
    words = ["ahead" if which == "second" else "right" for which in times]
    print(name, ", ".join(f"{word} {what}" for word, what in zip(words, ended, strict=True)))


def confluent(one_at_a_time):
    producer, ended = Producer({"bootstrap.servers": servers, "linger.ms": together}), []
    for name, at in times.items():
        producer.produce(
            "files",
            name,
            timestamp=at,
            on_delivery=lambda error, _: ended.append(error.name() if error else "taken"),
        )
        if one_at_a_time:
            producer.flush(60)
    producer.flush(60)
    return ended


async def aio():
    producer, ended = AIOKafkaProducer(bootstrap_servers=servers, linger_ms=together), []
    await producer.start()
    sent = [await producer.send("files", name.encode(), timestamp_ms=at) for name, at in times.items()]
    for future in sent:
        try:
            await future
            ended.append("taken")
        except AioError as error:
            ended.append(type(error).__name__)
    await producer.stop()
    return ended


def kafka_python():
    producer, ended = KafkaProducer(bootstrap_servers=servers, linger_ms=together), []
    sent = [producer.send("files", name.encode(), timestamp_ms=at) for name, at in times.items()]
    for future in sent:
        try:
            future.get(60)
            ended.append("taken")
        except KafkaError as error:
            ended.append(type(error).__name__)
    producer.close()
    return ended


show("confluent-kafka:", confluent(False))
show("aiokafka:       ", asyncio.run(aio()))
show("kafka-python:   ", kafka_python())
show("confluent-kafka, one at a time:", confluent(True))
consumer = Consumer(
    {"bootstrap.servers": servers, "group.id": "count", "auto.offset.reset": "earliest", "enable.partition.eof": True}
)
consumer.subscribe(["files"])
messages = 0
while not consumer.poll(60).error():
    messages += 1
print("in the topic:", messages, "messages")
P
cd "$folder"
SERVERS=$servers venv/bin/python send.py 2>/dev/null | tee seen
cd "$OLDPWD"
sed -n 's/^#   //p' "$here/findings/$(basename "${BASH_SOURCE[0]}")" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
