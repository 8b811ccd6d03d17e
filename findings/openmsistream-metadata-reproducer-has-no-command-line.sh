#!/usr/bin/env bash
# OpenMSIStream 1.8.8: a subclass of MetadataJSONReproducer cannot be started by `run_from_command_line`, the way that its
# own example and paper show. It ends with a TypeError before it looks for a broker, whatever the arguments are: the topic
# names reach the constructor both by position and by name. Programs that build the object themselves and call
# `produce_processing_results_for_files_as_read` run.
#
# Seen:
#   TypeError: MetadataJSONReproducer.__init__() got multiple values for argument 'consumer_topic_name'
#
# Needs Python 3.9 or later with venv, and libsodium (Debian: libsodium23); no broker.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check openmsistream==1.8.8 openmsitoolbox==1.2.4.post1
cat >"$folder/lab.config" <<'C'
[broker]
bootstrap.servers = 127.0.0.1:9092

[consumer]
group.id = extract

[producer]
retries = 3
C
cat >"$folder/extract.py" <<'P'
from openmsistream import MetadataJSONReproducer


class Extract(MetadataJSONReproducer):
    def _get_metadata_dict_for_file(self, datafile):
        return {"size": len(datafile.bytestring)}


if __name__ == "__main__":
    Extract.run_from_command_line()
P
cd "$folder"
venv/bin/python extract.py --config lab.config --consumer_topic_name files --producer_topic_name metadata --output_dir out \
    >said 2>&1 && { echo "not as it was seen: it started" >&2; exit 1; }
tail -n 1 said | tee seen
echo "TypeError: MetadataJSONReproducer.__init__() got multiple values for argument 'consumer_topic_name'" >expected
diff expected seen || { echo "not as it was seen" >&2; exit 1; }
