#!/usr/bin/env bash
# confluent-kafka 2.16.1: one message that `AIOProducer` cannot send takes along all that wait beside it, and all that are
# produced afterwards, for as long as the producer lives.
#
# `produce` puts messages aside and returns; after a second they are handed over together. A `timestamp`, which `produce`
# names as a parameter and accepts, or a value that is neither bytes nor text, is refused there. Then the whole collection
# fails and stays in place, so each later attempt meets the same message again. The errors are in the futures that `produce`
# returns, in one line of the log, and in `flush`; a program that awaits `produce` alone, and not the future, has sent
# nothing since.
#
# Seen (Apache Kafka 4.1):
#   before: NotImplementedError
#   with a timestamp: NotImplementedError
#   beside it: NotImplementedError
#   later, with flush: NotImplementedError
#   in the topic: 0 messages
#   the same without the timestamp: 4 messages
#
# Needs Python 3.9 or later with venv, and what dev/kafka needs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mktemp -d)
trap '"$here/dev/kafka" kill9 "$folder/kafka" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check confluent-kafka==2.16.1
servers=$("$here/dev/kafka" start "$folder/kafka")
SERVERS=$servers "$folder/venv/bin/python" - <<'P' 2>/dev/null | tee "$folder/seen"
import asyncio
import os

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.aio import AIOProducer

servers = {"bootstrap.servers": os.environ["SERVERS"]}
admin = AdminClient(servers)
for made in admin.create_topics([NewTopic("refused", 1, 1), NewTopic("sent", 1, 1)]).values():
    made.result(60)


async def send(topic, **options):
    producer = AIOProducer(servers)
    futures = {
        "before": await producer.produce(topic, b"1"),
        "with a timestamp": await producer.produce(topic, b"2", **options),
        "beside it": await producer.produce(topic, b"3"),
    }
    # they are handed over in the meantime
    await asyncio.wait(futures.values(), timeout=60)
    futures["later, with flush"] = await producer.produce(topic, b"4")
    try:
        await producer.flush()
        await producer.close()
    except NotImplementedError:
        pass
    for name, future in futures.items():
        if future.exception():
            print(f"{name}: {type(future.exception()).__name__}")


def count(topic):
    consumer = Consumer({**servers, "group.id": "count", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = 0
    while not consumer.poll(60).error():
        messages += 1
    consumer.close()
    return messages


asyncio.run(send("refused", timestamp=1_796_032_800_000))
print("in the topic:", count("refused"), "messages")
asyncio.run(send("sent"))
print("the same without the timestamp:", count("sent"), "messages")
P
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
