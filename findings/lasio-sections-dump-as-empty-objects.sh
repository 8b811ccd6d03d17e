#!/usr/bin/env bash
# lasio 0.32 (readers of well logs, LAS files): a section written as JSON loses every mnemonic, unit and value, without an error.
#
# A section (`las.well`, `las.header["Well"]`) answers `keys()` and `dict(section)` like a dictionary, but is a list of
# items, and each item is a subclass of `dict` that keeps its fields as attributes. So `json.dumps` sees a list of empty
# dictionaries, writes `[{}, {}, …]` and succeeds. `{item.mnemonic: item.value for item in section}` has the values;
# `dict(section)` has the keys, and again empty objects as values.
#
# Seen:
#   json.dumps(las.well)                 [{}, {}, {}, {}, {}]
#   json.dumps(dict(las.well))           {"STRT": {}, "STOP": {}, "STEP": {}, "NULL": {}, "WELL": {}}
#   mnemonic and value by hand           {"STRT": 1.0, "STOP": 2.0, "STEP": 1.0, "NULL": -999.25, "WELL": "A-1"}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check lasio==0.32
cat >"$folder/well.las" <<'L'
~Version
VERS. 2.0 : CWLS log ASCII standard
WRAP. NO  : one line for each depth
~Well
STRT.M 1.0     : first depth
STOP.M 2.0     : last depth
STEP.M 1.0     : step
NULL.  -999.25 : no value
WELL.  A-1     : well
~Curve
DEPT.M  : depth
GR.GAPI : gamma ray
~ASCII
1.0 45.5
2.0 46.5
L
"$folder/venv/bin/python" - "$folder/well.las" <<'P' | tee "$folder/seen"
import json
import sys

import lasio

well = lasio.read(sys.argv[1]).well
print(json.dumps(well))
print(json.dumps(dict(well)))
print(json.dumps({item.mnemonic: item.value for item in well}))
P
cat >"$folder/expected" <<'S'
[{}, {}, {}, {}, {}]
{"STRT": {}, "STOP": {}, "STEP": {}, "NULL": {}, "WELL": {}}
{"STRT": 1.0, "STOP": 2.0, "STEP": 1.0, "NULL": -999.25, "WELL": "A-1"}
S
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
