#!/usr/bin/env bash
# h5py 3.16.0 (HDF5): an attribute that is declared as UTF-8 and holds Latin-1 becomes a text that no JSON reader but Python's
# takes.
#
# Instruments write units such as `°C` in Latin-1 and declare them as UTF-8. h5py decodes with `surrogateescape`: the byte
# B0 becomes U+DCB0, one half of a UTF-16 pair. `json.dumps` writes that as `\udcb0` without an error, and it is no text by
# RFC 8259: orjson refuses to read it, `print` fails, and Python's `json.loads` alone gives it back. The byte is had by
# `text.encode("utf-8", "surrogateescape")`.
#
# Seen:
#   json.dumps          {"unit": "\udcb0C"}
#   orjson.loads        JSONDecodeError
#   print               UnicodeEncodeError
#   the bytes           b'\xb0C'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check h5py==3.16.0 numpy==2.4.6 orjson==3.13.0
"$folder/venv/bin/python" - "$folder/scan.h5" <<'P' | tee "$folder/seen"
import io
import json
import sys

import h5py
import orjson

with h5py.File(sys.argv[1], "w") as file:
    file.attrs.create("unit", "°C".encode("latin-1"), dtype=h5py.string_dtype("utf-8"))
with h5py.File(sys.argv[1]) as file:
    unit = file.attrs["unit"]
text = json.dumps({"unit": unit})
print("json.dumps         ", text)


def raised(call, *words):
    try:
        return call(*words)
    except ValueError as error:
        return type(error).__name__


print("orjson.loads       ", raised(orjson.loads, text))
print("print              ", raised(io.TextIOWrapper(io.BytesIO(), "utf-8").write, unit))
print("the bytes          ", unit.encode("utf-8", "surrogateescape"))
P
cat >"$folder/expected" <<'S'
json.dumps          {"unit": "\udcb0C"}
orjson.loads        JSONDecodeError
print               UnicodeEncodeError
the bytes           b'\xb0C'
S
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
