#!/usr/bin/env bash
# Apache Kafka 4.1 with confluent-kafka 2.12.1 (librdkafka 2.12.1): a question to the broker (`list_topics`) fails with the same
# `_TRANSPORT` after the whole of its time, whatever is wrong: a wrong password is not an error of the login, and an unknown
# certificate authority is none of TLS. The cause is told to `error_cb` alone, which by default nobody listens to, and not in
# each case: a client without a login hears neither of the login nor of TLS from a listener that asks for them, and one that
# logs in at a listener without logins is told of a refused login, as with a wrong password.
#
# Seen:
#   wrong password: list_topics _TRANSPORT, error_cb _AUTHENTICATION
#   login, but the listener has none: list_topics _TRANSPORT, error_cb _AUTHENTICATION
#   unknown certificate authority: list_topics _TRANSPORT, error_cb _SSL
#   no login, but the listener asks for one: list_topics _TRANSPORT, error_cb neither
#   no TLS, but the listener asks for it: list_topics _TRANSPORT, error_cb neither
#   all as it should be: list_topics an answer, error_cb neither
#
# Needs Python 3.9 or later with venv, and what dev/kafka needs for a secured broker.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mktemp -d)
trap '"$here/dev/kafka" kill9 "$folder/kafka" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check confluent-kafka==2.12.1
servers=$("$here/dev/kafka" start "$folder/kafka" secured)
cat >"$folder/ask.py" <<'P'
import os

from confluent_kafka import KafkaException, Producer

open_port = int(os.environ["SERVERS"].rsplit(":", 1)[1])
login = {"sasl.mechanism": "PLAIN", "sasl.username": "user1", "sasl.password": "user1-secret"}
plain_login = {**login, "security.protocol": "SASL_PLAINTEXT"}
cases = {
    "wrong password": (2, {**plain_login, "sasl.password": "wrong"}),
    "login, but the listener has none": (0, plain_login),
    "unknown certificate authority": (3, {**login, "security.protocol": "SASL_SSL"}),
    "no login, but the listener asks for one": (2, {}),
    "no TLS, but the listener asks for it": (3, {}),
    "all as it should be": (2, plain_login),
}
for name, (listener, config) in cases.items():
    told = set()
    servers = f"127.0.0.1:{open_port + listener}"
    producer = Producer(
        {"bootstrap.servers": servers, "log_level": 0, "error_cb": lambda error: told.add(error.name()), **config}
    )
    try:
        producer.list_topics(timeout=10)
        ended = "an answer"
    except KafkaException as error:
        ended = error.args[0].name()
    producer.poll(1)
    causes = sorted(told & {"_AUTHENTICATION", "_SSL"})
    print(f"{name}: list_topics {ended}, error_cb {' '.join(causes) or 'neither'}")
P
cd "$folder"
SERVERS=$servers venv/bin/python ask.py | tee seen
sed -n 's/^#   //p' "$here/findings/$(basename "${BASH_SOURCE[0]}")" >expected
diff expected seen || { echo "not as it was seen" >&2; exit 1; }
