#!/usr/bin/env bash
# matchms 0.33.1 (mass spectra): a colon in the note of one peak of an MSP file loses that spectrum and all that follow it,
# without an error or a warning.
#
# MSP files carry a quoted note behind a peak, and notes of lipids name the chain as carbons and double bonds, `FA 18:1`.
# `load_from_msp` takes a line with a colon for a field, so the count of peaks is never reached and the spectrum is never given
# out; the next ones are read into the same one. A library of thousands of lipids gives the spectra before the first such note.
#
# Seen:
#   notes without a colon: ['first', 'lipid', 'third', 'fourth']
#   one note "FA 18:1": ['first']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check matchms==0.33.1
cd "$folder"
library() {
    printf 'Name: first\nPrecursorMZ: 100.1\nNum Peaks: 1\n70.1 10 "a"\n\n'
    printf 'Name: lipid\nPrecursorMZ: 760.585\nNum Peaks: 2\n184.073 999 "PC"\n478.329 50 "%s"\n\n' "$1"
    printf 'Name: third\nPrecursorMZ: 100.1\nNum Peaks: 1\n70.1 10 "a"\n\n'
    printf 'Name: fourth\nPrecursorMZ: 100.1\nNum Peaks: 1\n70.1 10 "a"\n'
}
library "FA 18" >plain.msp
library "FA 18:1" >lipids.msp
venv/bin/python - >seen 2>told <<'P'
from matchms.importing import load_from_msp


def names(path):
    return [spectrum.get("compound_name") for spectrum in load_from_msp(path)]


print("notes without a colon:", names("plain.msp"))
print('one note "FA 18:1":', names("lipids.msp"))
P
cat seen
cd "$OLDPWD"
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
test ! -s "$folder/told" || { echo "not as it was seen: it says something" >&2; cat "$folder/told" >&2; exit 1; }
