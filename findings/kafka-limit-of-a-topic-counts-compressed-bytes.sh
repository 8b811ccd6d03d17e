#!/usr/bin/env bash
# Apache Kafka 4.1 with confluent-kafka 2.16.1 (librdkafka): the two limits of a message's size count different bytes. The
# producer's `message.max.bytes` counts them as they are; the topic's `max.message.bytes` counts the batch after the
# producer has compressed it. So raising the limit of the producer alone lets text of 20 MB into a topic that takes 1 MB,
# if the producer compresses, while noise of 2 MB is refused; and the same text is refused without compression. Whether a
# result is too large for its topic cannot be told from its size.
#
# Seen, in a topic with max.message.bytes=1048588:
#   20 MB of text, lz4: taken
#   20 MB of text, not compressed: MSG_SIZE_TOO_LARGE
#   2 MB of noise, lz4: MSG_SIZE_TOO_LARGE
#   20 MB of text, lz4, producer's own limit as it is: refused by the client, MSG_SIZE_TOO_LARGE
#   read back: 1 record of 20000000 bytes
#
# Needs Python 3.9 or later with venv, and what dev/kafka needs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mktemp -d)
trap '"$here/dev/kafka" kill9 "$folder/kafka" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check confluent-kafka==2.16.1
servers=$("$here/dev/kafka" start "$folder/kafka")
cat >"$folder/limits.py" <<'P'
import os
import random

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

servers = {"bootstrap.servers": os.environ["SERVERS"]}
topic = NewTopic("results", 1, 1, config={"max.message.bytes": "1048588"})
admin = AdminClient(servers)
admin.create_topics([topic])["results"].result(60)


def produce(value, **options):
    producer = Producer({**servers, **{name.replace("_", "."): value for name, value in options.items()}})
    told = []
    try:
        producer.produce("results", value, on_delivery=lambda error, _: told.append(error.name() if error else "taken"))
    except KafkaException as error:
        return f"refused by the client, {error.args[0].name()}"
    producer.flush(60)
    return told[0]


text = b"0.0010,267\n" * 2_000_000
text, noise = text[:20_000_000], random.Random(7).randbytes(2_000_000)
high = 100_000_000
print("20 MB of text, lz4:", produce(text, message_max_bytes=high, compression_type="lz4"))
print("20 MB of text, not compressed:", produce(text, message_max_bytes=high))
print("2 MB of noise, lz4:", produce(noise, message_max_bytes=high, compression_type="lz4"))
print("20 MB of text, lz4, producer's own limit as it is:", produce(text, compression_type="lz4"))
consumer = Consumer({**servers, "group.id": "read", "auto.offset.reset": "earliest", "enable.partition.eof": True})
consumer.subscribe(["results"])
sizes = []
while (message := consumer.poll(60)) is not None and not message.error():
    sizes.append(len(message.value()))
print(f"read back: {len(sizes)} record of {sizes[0]} bytes")
P
cd "$folder"
SERVERS=$servers venv/bin/python limits.py | tee seen
sed -n 's/^#   //p' "$here/findings/$(basename "${BASH_SOURCE[0]}")" >expected
diff expected seen || { echo "not as it was seen" >&2; exit 1; }
