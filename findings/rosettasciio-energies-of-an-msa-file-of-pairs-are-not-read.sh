#!/usr/bin/env bash
# RosettaSciIO 0.15.0 (the readers of HyperSpy): of a spectrum in EMSA/MAS (.msa) with the data type XY, the X values are not read.
# A peak at 108 eV comes out at 103 eV.
#
# A file of the type XY has an energy or a wavelength beside each value, as a spectrometer writes whose channels are not even.
# The reader takes the second number of each line alone, and makes the axis of `OFFSET` and `XPERCHAN`, which such files have
# as well; without them it takes 0 and 1. No warning says that the axis was made. The X values are nowhere in what it returns.
#
# Seen, X values of 100, 101, 103 and 108 eV:
#   values                  [5.0, 6.0, 7.0, 90.0]
#   X values by the axis    [100.0, 101.0, 102.0, 103.0]
#   the peak                103.0 eV
#   108 in the metadata     False
#   warnings                0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
    rosettasciio==0.15.0 numpy==2.4.6
cat >"$folder/spectrum.msa" <<'M'
#FORMAT      : EMSA/MAS Spectral Data File
#VERSION     : 1.0
#TITLE       : four channels
#DATE        : 30-NOV-2026
#TIME        : 10:00
#OWNER       : example
#NPOINTS     : 4.
#NCOLUMNS    : 1.
#XUNITS      : eV
#YUNITS      : counts
#DATATYPE    : XY
#XPERCHAN    : 1.
#OFFSET      : 100.
#SPECTRUM    : Spectral Data Starts Here
100.0, 5.
101.0, 6.
103.0, 7.
108.0, 90.
#ENDOFDATA   :
M
"$folder/venv/bin/python" - "$folder/spectrum.msa" <<'P' | tee "$folder/seen"
import logging
import sys
import warnings

from rsciio.msa import file_reader

lines = []
handler = logging.Handler(logging.WARNING)
handler.emit = lines.append
logging.getLogger().addHandler(handler)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    (found,) = file_reader(sys.argv[1])
(axis,) = found["axes"]
places = [axis["offset"] + axis["scale"] * number for number in range(axis["size"])]
print("values                 ", found["data"].tolist())
print("X values by the axis   ", places)
print("the peak               ", places[found["data"].argmax()], axis["units"])
print("108 in the metadata    ", "108" in str(found))
print("warnings               ", len(said) + len(lines))
P
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
