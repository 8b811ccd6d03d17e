#!/usr/bin/env bash
# confluent-kafka: `AdminClient(conf).create_topics([...])` in one line makes no topic. Nothing but the expression holds the
# client, so Python frees it while the request is on its way; the futures end with _DESTROY, and without a look at them
# the program goes on as if the topic were there. They do not keep the client alive. With the client in a variable until the
# futures are done, the topic is made.
#
# Seen (confluent-kafka 2.16.1, Apache Kafka 4.1, CPython 3.11):
#   in one line: _DESTROY
#   in a variable: made
#   topics: ['kept']
#
# Needs Python 3.9 or later with venv, and what dev/kafka needs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mktemp -d)
trap '"$here/dev/kafka" kill9 "$folder/kafka" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check confluent-kafka==2.16.1
servers=$("$here/dev/kafka" start "$folder/kafka")
cat >"$folder/create.py" <<'P'
import os
import sys

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

servers = {"bootstrap.servers": os.environ["SERVERS"]}


def said(future):
    try:
        future.result(60)
        return "made"
    except KafkaException as error:
        return error.args[0].name()


match sys.argv[1]:
    case "line":
        futures = AdminClient(servers).create_topics([NewTopic("lost", 1, 1)])
        print("in one line:", said(futures["lost"]))
    case "variable":
        admin = AdminClient(servers)
        print("in a variable:", said(admin.create_topics([NewTopic("kept", 1, 1)])["kept"]))
    case "list":
        print("topics:", sorted(AdminClient(servers).list_topics(timeout=60).topics))
P
for what in line variable list; do
    SERVERS=$servers "$folder/venv/bin/python" "$folder/create.py" "$what" 2>/dev/null
done | tee "$folder/seen"
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
