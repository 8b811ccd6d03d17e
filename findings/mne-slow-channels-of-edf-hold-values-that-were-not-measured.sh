#!/usr/bin/env bash
# MNE 1.13.2 (EEG) reads a channel of an EDF file that is slower than the others with values that were never measured, and a part
# of it as zero.
#
# In a recording of sleep, EEG has hundreds of values a second and the saturation of oxygen has one. `read_raw_edf` brings all to
# the highest rate by a Fourier method, which swings on both sides of each step: more than 100 % saturation, and minima
# below the lowest value. Without `preload=True` each part that is asked for is computed alone; one that starts in the midst of
# a second came as zeros, without the warning of edge artifacts that other parts give. `include=` with slow channels of
# one rate alone, or pyedflib, gives what was measured.
#
# Seen, the oxygen saturation being 97 97 97 97 60 60 60 97 97 97, beside EEG at 100 Hz:
#   MNE, the whole file      from 57.0 to 102.7, warnings: 0
#   MNE, from 4.5 to 4.6 s   from 0.0 to 0.0, warnings: 0
#   the same, cropped        from 0.0 to 0.0
#   the same, preload=True   from 57.5 to 58.1
#   MNE, include=["SpO2"]    97 97 97 97 60 60 60 97 97 97
#   pyedflib                 97 97 97 97 60 60 60 97 97 97
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    mne==1.13.2 pyedflib==0.1.42 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - "$folder/night.edf" <<'P' 2>/dev/null | tee "$folder/seen"
import sys
import warnings

import mne
import numpy as np
import pyedflib

path = sys.argv[1]
mne.set_log_level("WARNING")
saturation = np.array([97.0] * 4 + [60.0] * 3 + [97.0] * 3)


def channel(label, unit, rate, low, high):
    digital = {"digital_min": -32768, "digital_max": 32767, "transducer": "", "prefilter": ""}
    physical = {"physical_min": low, "physical_max": high}
    return {"label": label, "dimension": unit, "sample_frequency": rate} | physical | digital


writer = pyedflib.EdfWriter(path, 2, file_type=pyedflib.FILETYPE_EDF)
writer.setSignalHeaders([channel("EEG Fp1", "uV", 100, -100, 100), channel("SpO2", "%", 1, 0, 100)])
writer.writeSamples([np.zeros(1000), saturation])
writer.close()


def read(**options):
    return mne.io.read_raw_edf(path, **options)


def span(values):
    return f"from {values.min():.1f} to {values.max():.1f}"


def warned(call):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        return f"{span(call())}, warnings: {len([one for one in said if one.category is RuntimeWarning])}"


def numbers(values):
    return " ".join(f"{value:.0f}" for value in values)


print("MNE, the whole file     ", warned(lambda: read().get_data("SpO2")))
print("MNE, from 4.5 to 4.6 s  ", warned(lambda: read().get_data("SpO2", start=450, stop=460)))
print("the same, cropped       ", span(read().crop(4.5, 4.59).get_data("SpO2")))
print("the same, preload=True  ", span(read(preload=True).get_data("SpO2", start=450, stop=460)))
print('MNE, include=["SpO2"]   ', numbers(read(include=["SpO2"]).get_data()[0]))
print("pyedflib                ", numbers(pyedflib.EdfReader(path).readSignal(1)))
P
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
