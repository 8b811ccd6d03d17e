#!/usr/bin/env bash
# allotropy 0.1.150 (files of instruments to Allotrope JSON): of a file with days before months, part of the measurements get
# another month, all get the time zone UTC, and an absorbance of exactly zero is not in the result. Nothing is said.
#
# Software of instruments writes dates as the computer is set up, in most countries the day first. Without `locale=` the month is
# read first where that gives a date, and the day where it does not: the 12th of November becomes the 11th of December, the
# 13th stays. A time without a zone becomes one of UTC. And the parser of NanoDrop Eight skips a value of 0.0 as if it were
# missing, so a blank has one wavelength less than its sample.
#
# Seen, a file of three measurements on the 12th, 13th and 14th of November 2026:
#   as it is: 2026-12-11T10:00:00+00:00 with 260 and 280 nm
#   as it is: 2026-11-13T10:00:00+00:00 with 260 and 280 nm
#   as it is: 2026-11-14T10:00:00+00:00 with 260 nm
#   locale and zone given: 2026-11-12T10:00:00+01:00 with 260 and 280 nm
#   locale and zone given: 2026-11-13T10:00:00+01:00 with 260 and 280 nm
#   locale and zone given: 2026-11-14T10:00:00+01:00 with 260 nm
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    allotropy==0.1.150 pandas==2.3.3 python-dateutil==4.0.0 tzdata==2026.6
printf '%b\n' 'Application: Nucleic Acid' 'Serial Number: 1' 'User Name: someone' '' \
    'Date\tSample Name\tSample ID\tA260\tA280' \
    '12/11/2026 10:00:00\tfirst\t1\t1.0\t0.5' \
    '13/11/2026 10:00:00\tsecond\t2\t0.8\t0.4' \
    '14/11/2026 10:00:00\tblank\t3\t0.01\t0.0' >"$folder/nanodrop.txt"
"$folder/venv/bin/python" - "$folder/nanodrop.txt" <<'P' 2>"$folder/told" | tee "$folder/seen"
import sys
from zoneinfo import ZoneInfo

from allotropy.parser_factory import Vendor
from allotropy.to_allotrope import allotrope_from_file


def show(name, **options):
    result = allotrope_from_file(sys.argv[1], Vendor.THERMO_FISHER_NANODROP_EIGHT, **options)
    for document in result["spectrophotometry aggregate document"]["spectrophotometry document"]:
        group = document["measurement aggregate document"]
        lengths = []
        for measurement in group["measurement document"]:
            [device] = measurement["device control aggregate document"]["device control document"]
            lengths.append(f"{device['detector wavelength setting']['value']:.0f}")
        print(f"{name}: {group['measurement time']} with {' and '.join(lengths)} nm")


show("as it is")
show("locale and zone given", locale="en_GB", default_timezone=ZoneInfo("Europe/Berlin"))
P
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
test ! -s "$folder/told" || { echo "not as it was seen: it says something" >&2; cat "$folder/told" >&2; exit 1; }
