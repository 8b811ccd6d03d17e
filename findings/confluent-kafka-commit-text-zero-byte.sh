#!/usr/bin/env bash
# confluent-kafka 2.16.1 (Python) puts a zero byte behind the text that it commits beside a position.
#
# The `metadata` of a committed offset is a text of the application's own; programs keep their progress there, and scripts
# copy it when they move a group. A text that confluent-kafka committed comes back with one more character, "\x00", in
# every client that reads it by its length (kafka-python 2.3.3 here; librdkafka itself from C and Rust). confluent-kafka
# reads it up to the zero byte, so a round trip within it shows nothing. Whoever compares or parses the text has to drop
# trailing zero bytes.
#
# Seen:
#   committed by confluent-kafka 2.16.1: 'position 1'
#   read by confluent-kafka 2.16.1:      'position 1'
#   read by kafka-python 2.3.3:          'position 1\x00'
#   committed by kafka-python 2.3.3 and read by it: 'position 1'
#
# Needs Python 3.9 or later with venv; no broker (librdkafka's mock cluster is one).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check confluent-kafka==2.16.1 kafka-python==2.3.3
"$folder/venv/bin/python" - <<'P' 2>/dev/null | tee "$folder/seen"
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka import KafkaConsumer, OffsetAndMetadata
from kafka import TopicPartition as Place

mock = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
broker = next(iter(mock.list_topics(timeout=30).brokers.values()))
servers = f"{broker.host}:{broker.port}"
mock.produce("topic", b"a record")
mock.flush(30)

text = "position 1"
print("committed by confluent-kafka 2.16.1:", repr(text))
theirs = Consumer({"bootstrap.servers": servers, "group.id": "one"})
theirs.commit(offsets=[TopicPartition("topic", 0, 1, text)], asynchronous=False)
read = theirs.committed([TopicPartition("topic", 0)], timeout=30)[0].metadata
print("read by confluent-kafka 2.16.1:     ", repr(read))
other = KafkaConsumer(bootstrap_servers=servers, group_id="one", enable_auto_commit=False)
print("read by kafka-python 2.3.3:         ", repr(other.committed(Place("topic", 0), metadata=True).metadata))
alone = KafkaConsumer(bootstrap_servers=servers, group_id="two", enable_auto_commit=False)
alone.commit({Place("topic", 0): OffsetAndMetadata(1, text, -1)})
print("committed by kafka-python 2.3.3 and read by it:", repr(alone.committed(Place("topic", 0), metadata=True).metadata))
P
cat >"$folder/expected" <<'S'
committed by confluent-kafka 2.16.1: 'position 1'
read by confluent-kafka 2.16.1:      'position 1'
read by kafka-python 2.3.3:          'position 1\x00'
committed by kafka-python 2.3.3 and read by it: 'position 1'
S
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
