#!/usr/bin/env bash
# jcamp 1.3.2 (spectra in JCAMP-DX): a file of the class NTUPLES, as NMR instruments write it, is read without an error and
# without its data.
#
# JCAMP-DX 5.00 keeps the real and the imaginary part of a spectrum as two pages of one table. `jcamp.readfile` gives empty
# `x` and `y`, and of the keys that occur once a page (`page`, `data table`) the last page's alone, as text. A program that
# takes the dictionary as metadata reports a spectrum of no points; the real part is nowhere in it.
#
# Seen:
#   x: 0 points, y: 0 points
#   page: N=2
#   the real part (10 11 12) is in the dictionary: False
#   the imaginary part (20 21 22) is in the dictionary as text: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check jcamp==1.3.2
cat >"$folder/nmr.jdx" <<'J'
##TITLE= two pages
##JCAMP-DX= 5.00
##DATA TYPE= NMR SPECTRUM
##DATA CLASS= NTUPLES
##ORIGIN= example
##OWNER= example
##NTUPLES= NMR SPECTRUM
##VAR_NAME= FREQUENCY, SPECTRUM/REAL, SPECTRUM/IMAG, PAGE NUMBER
##SYMBOL= X, R, I, N
##VAR_TYPE= INDEPENDENT, DEPENDENT, DEPENDENT, PAGE
##VAR_FORM= AFFN, AFFN, AFFN, AFFN
##VAR_DIM= 3, 3, 3, 2
##UNITS= HZ, ARBITRARY UNITS, ARBITRARY UNITS,
##FIRST= 1, 10, 20, 1
##LAST= 3, 12, 22, 2
##MIN= 1, 10, 20, 1
##MAX= 3, 12, 22, 2
##FACTOR= 1, 1, 1, 1
##PAGE= N=1
##DATA TABLE= (X++(R..R)), XYDATA
1 10 11 12
##PAGE= N=2
##DATA TABLE= (X++(I..I)), XYDATA
1 20 21 22
##END NTUPLES= NMR SPECTRUM
##END=
J
"$folder/venv/bin/python" - "$folder/nmr.jdx" <<'P' | tee "$folder/seen"
import sys

import jcamp

found = jcamp.readfile(sys.argv[1])
print(f"x: {len(found['x'])} points, y: {len(found['y'])} points")
print("page:", found["page"])
print("the real part (10 11 12) is in the dictionary:", "10 11 12" in str(found))
print("the imaginary part (20 21 22) is in the dictionary as text:", "20 21 22" in found["data table"])
P
cat >"$folder/expected" <<'S'
x: 0 points, y: 0 points
page: N=2
the real part (10 11 12) is in the dictionary: False
the imaginary part (20 21 22) is in the dictionary as text: True
S
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
