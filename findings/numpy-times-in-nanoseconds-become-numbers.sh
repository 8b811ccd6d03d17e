#!/usr/bin/env bash
# numpy 2.4.6: `item()` and `tolist()` make a date of a `datetime64` in microseconds, and a bare number of one in nanoseconds.
#
# Python's `datetime` has no nanoseconds, so numpy gives the count since 1970 instead, without an error; a `timedelta64` does
# the same. pandas and xarray hold times in nanoseconds, and files of measurements come in both. A converter to JSON that
# calls `tolist()` for all that numpy made therefore writes dates for some files and numbers of 19 digits for others, which
# readers of JSON with 64-bit floats round by up to 128 ns. `astype(str)` writes all units as ISO 8601.
#
# Seen:
#   us  tolist() 2026-11-29 10:20:30.123456   JSON "2026-11-29 10:20:30.123456"
#   ns  tolist() 1795947630123456789   JSON 1795947630123456789
#   ns  read by a program with 64-bit floats 1795947630123456768
#   ns  astype(str) 2026-11-29T10:20:30.123456789
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.4.6
"$folder/venv/bin/python" - <<'P' | tee "$folder/seen"
import json

import numpy as np


def plain(value):
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else str(value)


micro = np.datetime64("2026-11-29T10:20:30.123456", "us")
nano = np.datetime64("2026-11-29T10:20:30.123456789", "ns")
print("us  tolist()", micro.tolist(), "  JSON", json.dumps(micro, default=plain))
print("ns  tolist()", nano.tolist(), "  JSON", json.dumps(nano, default=plain))
print("ns  read by a program with 64-bit floats", int(json.loads(json.dumps(nano, default=plain), parse_int=float)))
print("ns  astype(str)", nano.astype(str))
P
cat >"$folder/expected" <<'S'
us  tolist() 2026-11-29 10:20:30.123456   JSON "2026-11-29 10:20:30.123456"
ns  tolist() 1795947630123456789   JSON 1795947630123456789
ns  read by a program with 64-bit floats 1795947630123456768
ns  astype(str) 2026-11-29T10:20:30.123456789
S
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
