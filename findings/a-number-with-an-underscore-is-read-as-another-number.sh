#!/usr/bin/env bash
# lasio 0.32, pyteomics 5.0.1, starfile 0.5.13, numpy 2.4.6 and astropy 8.0.2 read a name such as `2611_30` (sample 30 of the
# 26th of November) as the number 261130, without a word.
#
# Readers of formats without types try a value as a number first, by Python's `int()` or `float()`, and these skip an
# underscore between digits, as in Python's source text. No instrument means that. Samples 2611_30 and 261_130 become one and the
# same, and the name that the laboratory knows is in no result. It depends on where the value stands: starfile keeps the name in a
# table and changes it in a block without one, astropy's fast reader keeps it and the slow one, which takes over for several
# formats, does not. pandas and pyarrow keep it.
#
# Seen, the name being 2611_30:
#   lasio, well of a LAS file           261130
#   pyteomics, userParam of an mzML     261130.0
#   starfile, a block                   261130
#   starfile, a table                   '2611_30'
#   numpy.genfromtxt                    261130
#   astropy, fast reader                '2611_30'
#   astropy, slow reader                261130
#   astropy, table in reStructuredText  261130
#   pandas.read_csv                     '2611_30'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    lasio==0.32 pyteomics==5.0.1 lxml==6.1.3 psims==1.4.0 starfile==0.5.13 numpy==2.4.6 astropy==8.0.2 pandas==3.1.1
cat >"$folder/well.las" <<'L'
~Version
VERS. 2.0 : CWLS log ASCII standard
WRAP. NO  : one line for each depth
~Well
STRT.M 1.0     : first depth
STOP.M 2.0     : last depth
STEP.M 1.0     : step
NULL.  -999.25 : no value
WELL.  2611_30 : well
~Curve
DEPT.M  : depth
GR.GAPI : gamma ray
~ASCII
1.0 45.5
2.0 46.5
L
cat >"$folder/scan.mzML" <<'M'
<?xml version="1.0" encoding="utf-8"?>
<mzML xmlns="http://psi.hupo.org/ms/mzml" version="1.1.0">
  <run id="run">
    <spectrumList count="1">
      <spectrum index="0" id="scan=1" defaultArrayLength="0">
        <userParam name="sample" value="2611_30" type="xsd:string"/>
      </spectrum>
    </spectrumList>
  </run>
</mzML>
M
printf 'data_one\n\n_rlnMicrographName 2611_30\n_rlnVoltage 300.0\n' >"$folder/block.star"
printf 'data_two\n\nloop_\n_rlnMicrographName #1\n_rlnVoltage #2\n2611_30 300.0\n2612_01 300.0\n' >"$folder/table.star"
cat >"$folder/read.py" <<'P'
import io

import lasio
import numpy as np
import pandas as pd
import starfile
from astropy.io import ascii
from pyteomics import mzml

table = "sample value\n2611_30 1.5\n2612_01 2.5\n"
line = "======= =====\n"
drawn = line + "sample  value\n" + line + "2611_30 1.5\n2612_01 2.5\n" + line
with mzml.MzML("scan.mzML", use_index=False) as file:
    spectrum = next(file)
found = {
    "lasio, well of a LAS file": lasio.read("well.las").well.WELL.value,
    "pyteomics, userParam of an mzML": spectrum["sample"],
    "starfile, a block": starfile.read("block.star")["rlnMicrographName"],
    "starfile, a table": starfile.read("table.star")["rlnMicrographName"].iloc[0],
    "numpy.genfromtxt": np.genfromtxt(io.StringIO(table), dtype=None, names=True, encoding="utf-8")["sample"][0],
    "astropy, fast reader": ascii.read(table, format="basic", fast_reader="force")["sample"][0],
    "astropy, slow reader": ascii.read(table, format="basic", fast_reader=False)["sample"][0],
    "astropy, table in reStructuredText": ascii.read(drawn, format="rst")["sample"][0],
    "pandas.read_csv": pd.read_csv(io.StringIO(table), sep=" ")["sample"].iloc[0],
}
for name, value in found.items():
    print(f"{name:<35}", repr(str(value)) if isinstance(value, str) else value)
P
cd "$folder"
venv/bin/python read.py | tee seen
cd "$OLDPWD"
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
