#!/usr/bin/env bash
# OpenMSIStream 1.8.8: `group.id` in the section [consumer] of a configuration file is not used by a program that builds
# its object with the defaults: the object takes a group that no one has used, so each start reads the whole topic again.
# Only the argument `consumer_group_id` (on the command line `--consumer_group_id`) names a group.
#
# Seen (Apache Kafka 4.1):
#   with the configuration alone: a fresh group
#   once more: another fresh group
#   with consumer_group_id="lab": lab
#
# Needs Python 3.9 or later with venv, libsodium (Debian: libsodium23), and what dev/kafka needs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
folder=$(mktemp -d)
trap '"$here/dev/kafka" kill9 "$folder/kafka" >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check openmsistream==1.8.8 openmsitoolbox==1.2.4.post1
servers=$("$here/dev/kafka" start "$folder/kafka")
printf '[broker]\nbootstrap.servers = %s\n\n[consumer]\ngroup.id = lab\nauto.offset.reset = earliest\n' "$servers" \
    >"$folder/lab.config"
cat >"$folder/groups.py" <<'P'
import os
import pathlib

from confluent_kafka.admin import AdminClient, NewTopic
from openmsistream import DataFileStreamProcessor


class Nothing(DataFileStreamProcessor):
    def _process_downloaded_data_file(self, datafile, lock):
        return None

    @classmethod
    def run_from_command_line(cls, args=None):
        pass


def group(**options):
    made = Nothing(pathlib.Path("lab.config"), "files", output_dir=pathlib.Path("out").resolve(), **options)
    made.close()
    return made.consumer_group_id


admin = AdminClient({"bootstrap.servers": os.environ["SERVERS"]})
admin.create_topics([NewTopic("files", 1, 1)])["files"].result(60)
first, second, given = group(), group(), group(consumer_group_id="lab")
print("with the configuration alone:", "lab" if first == "lab" else "a fresh group")
print("once more:", "the same group" if second == first else "lab" if second == "lab" else "another fresh group")
print('with consumer_group_id="lab":', given, flush=True)
# a thread of the package reads stdin and would hold the end of the interpreter
os._exit(0)
P
cd "$folder"
SERVERS=$servers venv/bin/python groups.py </dev/null 2>/dev/null | tee seen
sed -n 's/^#   //p' "$here/findings/$(basename "${BASH_SOURCE[0]}")" >expected
diff expected seen || { echo "not as it was seen" >&2; exit 1; }
