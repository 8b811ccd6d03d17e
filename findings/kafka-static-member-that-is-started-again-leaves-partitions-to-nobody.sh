#!/usr/bin/env bash
# Apache Kafka 4.1 with confluent-kafka 2.16.1 (librdkafka), classic protocol, `cooperative-sticky`, `group.instance.id`: a static
# member that ends between giving partitions up and joining again, and is started again under its name, leaves these
# partitions to nobody, for as long as no member joins or leaves.
#
# A member that joins makes the group share out in two steps: first the others give up what it is to get, then they join
# again and it gets that. After the first step the group is stable, with partitions that nobody has. A static member that
# comes back in this state gets what the group has noted for it, and no second step follows (KIP-345 with KIP-429).
#
# Seen:
#   a alone: a has 0 1 2 3 4 5
#   b joins, a is killed in its on_revoke: gives up 3 partitions
#   a is started again, 60 s later: STABLE, a has 3 partitions, b has 0 partitions
#   b leaves and joins again, 20 s later: STABLE, a has 3 partitions, b has 3 partitions
#
# Needs Python 3.9 or later with venv, and what dev/kafka needs. Takes three minutes.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mktemp -d)
trap '"$here/dev/kafka" kill9 "$folder/kafka" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check confluent-kafka==2.16.1
servers=$("$here/dev/kafka" start "$folder/kafka")
cat >"$folder/member.py" <<'P'
import os
import sys

from confluent_kafka import Consumer

name, dies = sys.argv[1], "dies" in sys.argv
consumer = Consumer({
    "bootstrap.servers": os.environ["SERVERS"],
    "group.id": "g",
    "group.instance.id": name,
    "partition.assignment.strategy": "cooperative-sticky",
})


def revoked(consumer, partitions):
    if dies:
        print(f"gives up {len(partitions)} partitions", flush=True)
        os._exit(9)


consumer.subscribe(["files"], on_revoke=revoked)
while True:
    consumer.poll(0.1)
P
cat >"$folder/look.py" <<'P'
import os
import sys
import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

admin = AdminClient({"bootstrap.servers": os.environ["SERVERS"]})


def group():
    try:
        found = admin.describe_consumer_groups(["g"])["g"].result(60)
    except KafkaException:
        # a group that is new has no coordinator yet
        return "", {}
    return found.state.name, {m.group_instance_id: sorted(p.partition for p in m.assignment.topic_partitions) for m in found.members}


match sys.argv[1]:
    case "make":
        admin.create_topics([NewTopic("files", 6, 1)])["files"].result(60)
    case "alone":
        while (seen := group())[1].get("a") != list(range(6)):
            time.sleep(0.2)
        print("a has", *seen[1]["a"])
    case _:
        state, members = group()
        print(f"{state}, " + ", ".join(f"{name} has {len(members[name])} partitions" for name in sorted(members)))
P
cd "$folder"
export SERVERS=$servers
{
    venv/bin/python look.py make
    venv/bin/python member.py a dies >died & a=$!
    echo "a alone: $(venv/bin/python look.py alone)"
    venv/bin/python member.py b >b & b=$!
    wait "$a" || true
    echo "b joins, a is killed in its on_revoke: $(cat died)"
    venv/bin/python member.py a >a & a=$!
    sleep 60
    echo "a is started again, 60 s later: $(venv/bin/python look.py now)"
    # A static member that is to leave is taken out by its name; here its session of 45 s has to end.
    kill "$b"
    sleep 50
    venv/bin/python member.py b >b & b=$!
    sleep 20
    echo "b leaves and joins again, 20 s later: $(venv/bin/python look.py now)"
    kill "$a" "$b"
} | tee seen
sed -n 's/^#   //p' "$here/findings/$(basename "${BASH_SOURCE[0]}")" >expected
diff expected seen || { echo "not as it was seen" >&2; exit 1; }
