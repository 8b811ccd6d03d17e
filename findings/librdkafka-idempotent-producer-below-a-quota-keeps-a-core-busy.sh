#!/usr/bin/env bash
# A producer of librdkafka with `enable.idempotence` keeps a processor core busy while a quota of the broker makes it wait.
#
# Below `producer_byte_rate`, an answer of the broker says for how long it reads nothing further. A producer without idempotence
# sleeps meanwhile, and so does one with a single request on its way. With idempotence and the five requests that it has by default,
# the thread of the broker looks at its queue without a pause. An instrument computer that sends all night below a quota has one
# core less for the instrument.
#
# Seen (confluent-kafka 2.16.1, Apache Kafka 4.1), processor time in the 20 s after eight messages of 500 kB, quota 55 kB/s:
#   as it is: below a twentieth of a core
#   enable.idempotence: above a quarter of a core
#   enable.idempotence, one request on its way: below a twentieth of a core
#
# Needs Python 3.9 or later with venv, and what dev/kafka needs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mktemp -d)
trap '"$here/dev/kafka" kill9 "$folder/kafka" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check confluent-kafka==2.16.1
servers=$("$here/dev/kafka" start "$folder/kafka")
"$here/dev/kafka" quota "$folder/kafka" producer_byte_rate=55000 >/dev/null 2>&1
cat >"$folder/send.py" <<'P'
import os
import sys
import time

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

name, number, *settings = sys.argv[1:]
servers = {"bootstrap.servers": os.environ["SERVERS"]}
topic = f"files-{number}"
admin = AdminClient(servers)
admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(60)
producer = Producer(servers | dict(setting.split("=") for setting in settings))
for _ in range(8):
    producer.produce(topic, os.urandom(500_000), partition=0)
began, used = time.monotonic(), time.process_time()
while time.monotonic() < began + 20:
    producer.poll(0.1)
share = (time.process_time() - used) / 20
assert len(producer) > 0, "the quota does not make it wait"
size = "below a twentieth" if share < 0.05 else "above a quarter" if share > 0.25 else "something"
print(f"{name}: {size} of a core", flush=True)
# what is still on its way is not waited for
os._exit(0)
P
send() {
    SERVERS=$servers "$folder/venv/bin/python" "$folder/send.py" "$@"
    # the broker forgets what was sent before
    sleep 30
}
{
    send "as it is" 1
    send "enable.idempotence" 2 enable.idempotence=true
    send "enable.idempotence, one request on its way" 3 enable.idempotence=true max.in.flight.requests.per.connection=1
} | tee "$folder/seen"
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
