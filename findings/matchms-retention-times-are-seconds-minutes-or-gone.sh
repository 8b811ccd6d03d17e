#!/usr/bin/env bash
# matchms 0.33.1 (mass spectra): `retention_time` of one and the same spectrum is 90.0 or 1.5, or not there, depending on the format
# of the file that it came in.
#
# matchms brings times to seconds where the text names a unit. Its reader of mzXML takes the minutes that pyteomics makes of
# `PT90S`; its reader of mzML puts the start of the scan into a list, in whatever unit the file has, and leaves
# `retention_time` empty. No unit is kept, so spectra of a library (MGF, MSP) never match a measurement (mzML, mzXML) by
# time, and times of several instruments cannot be told apart afterwards.
#
# Seen, each time being 90 s:
#   MGF, RTINSECONDS=90         90.0
#   MSP, 1.5 min                90.0
#   MSP, 1.5                    1.5
#   mzXML, PT90S                1.5
#   mzML, 90 second             [] and scan_start_time [90.0]
#   mzML, 1.5 minute            [] and scan_start_time [1.5]
#   mzML, add_retention_time    1.5
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check matchms==0.33.1 pyteomics==5.0.1
cat >"$folder/times.py" <<'P'
import base64
import struct
from pathlib import Path

from matchms.filtering import add_retention_time
from matchms.importing import load_from_mgf, load_from_msp, load_from_mzml, load_from_mzxml

number = base64.b64encode(struct.pack("<d", 100)).decode()
pair = base64.b64encode(struct.pack(">2f", 100, 1)).decode()


def first(load, name, text):
    Path(name).write_text(text)
    return next(iter(load(name)))


def param(accession, name, value="", unit=""):
    return f'<cvParam cvRef="MS" accession="MS:{accession}" name="{name}" value="{value}" {unit}/>'


def array(accession, name):
    kind = param("1000523", "64-bit float") + param("1000576", "no compression") + param(accession, name)
    return f'<binaryDataArray encodedLength="{len(number)}">{kind}<binary>{number}</binary></binaryDataArray>'


def mzml(value, accession, unit):
    start = param("1000016", "scan start time", value, f'unitCvRef="UO" unitAccession="UO:{accession}" unitName="{unit}"')
    ion = param("1000744", "selected ion m/z", "445.1")
    text = f"""<?xml version="1.0" encoding="utf-8"?>
<mzML xmlns="http://psi.hupo.org/ms/mzml" version="1.1.0"><run id="run"><spectrumList count="1">
<spectrum index="0" id="scan=1" defaultArrayLength="1">{param("1000511", "ms level", "2")}
<scanList count="1"><scan>{start}</scan></scanList>
<precursorList count="1"><precursor><selectedIonList count="1"><selectedIon>{ion}</selectedIon></selectedIonList></precursor>
</precursorList><binaryDataArrayList count="2">{array("1000514", "m/z array")}{array("1000515", "intensity array")}
</binaryDataArrayList></spectrum></spectrumList></run></mzML>"""
    return first(load_from_mzml, "scan.mzML", text)


mgf = "BEGIN IONS\nPEPMASS=445.1\nRTINSECONDS=90\n100.0 1.0\nEND IONS\n"
msp = "Name: one\nPrecursorMZ: 445.1\nRetentionTime: {}\nNum Peaks: 1\n100.0 1.0\n"
mzxml = f"""<?xml version="1.0"?>
<mzXML xmlns="http://sashimi.sourceforge.net/schema_revision/mzXML_3.2"><msRun scanCount="1">
<scan num="1" msLevel="2" peaksCount="1" retentionTime="PT90S"><precursorMz precursorIntensity="1">445.1</precursorMz>
<peaks precision="32" byteOrder="network" contentType="m/z-int" compressionType="none" compressedLen="0">{pair}</peaks>
</scan></msRun></mzXML>"""
seconds, minutes = mzml("90", "0000010", "second"), mzml("1.5", "0000031", "minute")
show = "{:<27} {}".format
print(show("MGF, RTINSECONDS=90", first(load_from_mgf, "one.mgf", mgf).get("retention_time")))
print(show("MSP, 1.5 min", first(load_from_msp, "one.msp", msp.format("1.5 min")).get("retention_time")))
print(show("MSP, 1.5", first(load_from_msp, "one.msp", msp.format("1.5")).get("retention_time")))
print(show("mzXML, PT90S", first(load_from_mzxml, "one.mzXML", mzxml).get("retention_time")))
for name, spectrum in ("mzML, 90 second", seconds), ("mzML, 1.5 minute", minutes):
    print(show(name, f"{spectrum.get('retention_time')} and scan_start_time {spectrum.get('scan_start_time')}"))
print(show("mzML, add_retention_time", add_retention_time(minutes).get("retention_time")))
P
cd "$folder"
venv/bin/python times.py 2>/dev/null | tee seen
cd "$OLDPWD"
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
