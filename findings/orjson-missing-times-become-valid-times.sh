#!/usr/bin/env bash
# orjson 3.13.0 with numpy 2.4.6: a missing time (`NaT`) becomes a valid time, without an error: a day of 1677 if the times are
# in nanoseconds, 1 January 1970 if they are days or hours.
#
# numpy keeps `NaT` as the smallest 64-bit number. With `OPT_SERIALIZE_NUMPY`, orjson reckons with that number as with any other;
# only for seconds, milliseconds and microseconds the sum is out of range and raises an error. pandas and xarray hold times
# in nanoseconds, and `NaT` stands for a time that an instrument did not write. Whatever reads the JSON sorts and plots the
# invented one. `numpy.datetime_as_string` writes `NaT`.
#
# Seen:
#   nanoseconds         ["2026-11-30T10:00:00","1677-09-21T00:12:43.145224"]
#   a column of pandas  ["2026-11-30T10:00:00","1677-09-21T00:12:43.145224"]
#   one alone           "1677-09-21T00:12:43.145224"
#   days                ["2026-11-30T00:00:00","1970-01-01T00:00:00"]
#   seconds             TypeError
#   datetime_as_string  ["2026-11-30T10:00:00","NaT"]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check orjson==3.13.0 numpy==2.4.6 pandas==3.1.1
"$folder/venv/bin/python" - <<'P' | tee "$folder/seen"
import numpy as np
import orjson
import pandas as pd


def dumped(value):
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    except TypeError:
        return "TypeError"


times = np.array(["2026-11-30T10:00:00", "NaT"], dtype="datetime64[ns]")
column = pd.Series([pd.Timestamp("2026-11-30T10:00:00"), None]).astype("datetime64[ns]")
print("nanoseconds        ", dumped(times))
print("a column of pandas ", dumped(column.to_numpy()))
print("one alone          ", dumped(times[1]))
print("days               ", dumped(times.astype("datetime64[D]")))
print("seconds            ", dumped(times.astype("datetime64[s]")))
print("datetime_as_string ", dumped(np.datetime_as_string(times, "s").tolist()))
P
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
