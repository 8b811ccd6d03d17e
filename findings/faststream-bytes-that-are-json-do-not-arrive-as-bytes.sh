#!/usr/bin/env bash
# FastStream 0.7.8 with aiokafka 0.14.0: a subscriber whose parameter is declared as `bytes` does not get the bytes of a message
# that happens to be JSON. A JSON text comes without its quotes, and an object or a number does not come at all.
#
# A message without the header `content-type`, as other clients send it, is first tried as JSON, whatever the function asks
# for, and the outcome is then checked against `bytes`. The error goes to the log alone; the position is committed all the same,
# and the message is never given again. A program that takes files from a topic works with each image and each table, and
# loses the file of results in JSON. With `decoder=` a function that returns `message.body`, all come as they are.
#
# Seen (Apache Kafka 4.1):
#   sent:                [b'a,b\n1,2\n', b'"2611"', b'{"points": 3}', b'267', b'the last']
#   got:                 [b'a,b\n1,2\n', b'2611', b'the last']
#   committed:           5 of 5
#   got with a decoder:  [b'a,b\n1,2\n', b'"2611"', b'{"points": 3}', b'267', b'the last']
#
# Needs Python 3.10 or later with venv, and what dev/kafka needs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mktemp -d)
trap '"$here/dev/kafka" kill9 "$folder/kafka" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    faststream==0.7.8 aiokafka==0.14.0 confluent-kafka==2.16.1 pydantic==2.14.4 fast-depends==3.0.9
servers=$("$here/dev/kafka" start "$folder/kafka")
cat >"$folder/take.py" <<'P'
import asyncio
import os

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from faststream.kafka import KafkaBroker

servers = os.environ["SERVERS"]
admin = AdminClient({"bootstrap.servers": servers})
admin.create_topics([NewTopic("files", 1, 1)])["files"].result(60)
sent = [b"a,b\n1,2\n", b'"2611"', b'{"points": 3}', b"267", b"the last"]
producer = Producer({"bootstrap.servers": servers})
for content in sent:
    producer.produce("files", content)
producer.flush(60)


async def take(group, **options):
    broker, got, ended = KafkaBroker(servers, logger=None), [], asyncio.Event()

    @broker.subscriber("files", group_id=group, auto_offset_reset="earliest", **options)
    async def file(content: bytes):
        got.append(content)
        if content == sent[-1]:
            ended.set()

    await broker.start()
    await asyncio.wait_for(ended.wait(), 120)
    # positions are committed each five seconds
    await asyncio.sleep(7)
    await broker.stop()
    return got


async def as_it_is(message):
    return message.body


print("sent:               ", sent)
print("got:                ", asyncio.run(take("plain")))
asked = Consumer({"bootstrap.servers": servers, "group.id": "plain"})
print("committed:          ", asked.committed([TopicPartition("files", 0)], timeout=60)[0].offset, "of", len(sent))
print("got with a decoder: ", asyncio.run(take("decoder", decoder=as_it_is)))
P
cd "$folder"
SERVERS=$servers venv/bin/python take.py 2>/dev/null | tee seen
sed -n 's/^#   //p' "$here/findings/$(basename "${BASH_SOURCE[0]}")" >expected
diff expected seen || { echo "not as it was seen" >&2; exit 1; }
