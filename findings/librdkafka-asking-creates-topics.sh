#!/usr/bin/env bash
# librdkafka's AdminClient creates the topics that it is asked about, where the broker has auto.create.topics.enable.
#
# `allow.auto.create.topics` is `false` by default in a consumer and `true` in a producer. An AdminClient is a producer
# inside. So a question about a mistyped topic, `list_topics(topic=...)`, creates that topic with the broker's default of
# partitions, and the next program finds it. With `allow.auto.create.topics: false` in its properties it does not.
#
# Seen (confluent-kafka 2.16.1, Apache Kafka 4.1):
#   asked by a Consumer: typo-consumer
#   asked by an AdminClient: typo-admin
#   asked by an AdminClient that may not create: typo-not
#   topics: ['typo-admin']
#
# Needs Python 3.9 or later with venv, and what dev/kafka needs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mktemp -d)
trap '"$here/dev/kafka" kill9 "$folder/kafka" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check confluent-kafka==2.16.1
servers=$(DATAMILL_KAFKA_PROPERTIES=auto.create.topics.enable=true "$here/dev/kafka" start "$folder/kafka")
SERVERS=$servers "$folder/venv/bin/python" - <<'P' 2>/dev/null | tee "$folder/seen"
import os
import time

from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

servers = {"bootstrap.servers": os.environ["SERVERS"]}
print("asked by a Consumer: typo-consumer")
Consumer(servers | {"group.id": "g"}).list_topics(topic="typo-consumer", timeout=30)
print("asked by an AdminClient: typo-admin")
AdminClient(servers).list_topics(topic="typo-admin", timeout=30)
print("asked by an AdminClient that may not create: typo-not")
AdminClient(servers | {"allow.auto.create.topics": False}).list_topics(topic="typo-not", timeout=30)
time.sleep(2)
there = AdminClient(servers).list_topics(timeout=30).topics
print("topics:", sorted(name for name in there if not name.startswith("__")))
P
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
