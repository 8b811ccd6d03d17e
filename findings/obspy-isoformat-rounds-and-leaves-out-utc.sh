#!/usr/bin/env bash
# obspy 1.5.1 (seismology): `UTCDateTime.isoformat()` rounds to a microsecond and does not say that the time is UTC.
#
# A `UTCDateTime` counts nanoseconds since 1970 in UTC, and `trace.stats` holds one for each trace. `isoformat()`, the way
# that most converters to JSON take, writes it as Python's naive `datetime`: the nanoseconds are rounded away, and the
# text has no zone, so whoever reads it takes it for the local time of the machine. `str()` adds the `Z` and rounds as
# well. The count is in `.ns`.
#
# Seen (on a machine whose zone is America/New_York):
#   .ns          1234567890123456789
#   isoformat()  2009-02-13T23:31:30.123457
#   str()        2009-02-13T23:31:30.123457Z
#   read again   5 hours and 211 ns off
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check obspy==1.5.1
TZ=America/New_York "$folder/venv/bin/python" -W ignore - <<'P' | tee "$folder/seen"
import datetime

from obspy import UTCDateTime

time = UTCDateTime(ns=1234567890123456789)
print(".ns         ", time.ns)
print("isoformat() ", time.isoformat())
print("str()       ", time)
again = datetime.datetime.fromisoformat(time.isoformat())
off = int(again.timestamp()) * 10**9 + again.microsecond * 1000 - time.ns
print("read again  ", off // (3600 * 10**9), "hours and", off % (3600 * 10**9), "ns off")
P
cat >"$folder/expected" <<'S'
.ns          1234567890123456789
isoformat()  2009-02-13T23:31:30.123457
str()        2009-02-13T23:31:30.123457Z
read again   5 hours and 211 ns off
S
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
