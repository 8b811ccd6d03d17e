#!/usr/bin/env bash
# h5py 3.16.0 (HDF5): the master file of a detector that points to other files by a virtual dataset reads as zeros where these are
# not beside it, without an error, a warning or a line of logging. One that points to them by external links raises KeyError.
#
# Detectors at synchrotrons write images into one file for each some thousand, and a master file that shows them as one dataset.
# What gets whole files one by one, from a queue or a bucket, has the master file alone. Its virtual dataset has the shape and type
# of all images; what is missing has the fill value, which is 0 where nobody set one: dark images, sums and backgrounds that
# look like a beam that was off. `is_virtual` and `virtual_sources()` tell, and a fill value that no image has.
#
# Seen, two files of one image each, of the values 7 and 8:
#   all files, virtual            (2, 2, 3) [7, 8]
#   one of two missing, virtual   (2, 2, 3) [7, 0]
#   the master alone, virtual     (2, 2, 3) [0, 0]
#   errors, warnings, lines       0 0 0
#   the master alone, linked      KeyError
#   is_virtual, sources           True ['run_1.h5', 'run_2.h5']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check h5py==3.16.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'P' | tee "$folder/seen"
import logging
import os
import sys
import warnings

import h5py
import numpy as np

os.chdir(sys.argv[1])
layout = h5py.VirtualLayout(shape=(2, 2, 3), dtype="uint16")
with h5py.File("master.h5", "w") as master:
    for image in (1, 2):
        with h5py.File(f"run_{image}.h5", "w") as file:
            file["data"] = np.full((2, 3), 6 + image, "uint16")
        layout[image - 1] = h5py.VirtualSource(f"run_{image}.h5", "data", shape=(2, 3))
        master[f"linked_{image}"] = h5py.ExternalLink(f"run_{image}.h5", "data")
    master.create_virtual_dataset("data", layout)

counts = {"errors": 0, "lines": 0}
handler = logging.Handler()
handler.emit = lambda record: counts.update(lines=counts["lines"] + 1)
logging.root.addHandler(handler)


def say(what):
    with h5py.File("master.h5") as master:
        try:
            images = master["data"][:]
        except Exception as error:
            counts["errors"] += 1
            return print(f"{what:<29} {type(error).__name__}")
        print(f"{what:<29} {images.shape} {[int(image.mean()) for image in images]}")


with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    say("all files, virtual")
    os.rename("run_2.h5", "elsewhere.h5")
    say("one of two missing, virtual")
    os.remove("run_1.h5")
    say("the master alone, virtual")
print(f"{'errors, warnings, lines':<29} {counts['errors']} {len(warned)} {counts['lines']}")
with h5py.File("master.h5") as master:
    try:
        print(master["linked_1"])
    except KeyError as error:
        print(f"{'the master alone, linked':<29} {type(error).__name__}")
    data = master["data"]
    print(f"{'is_virtual, sources':<29} {data.is_virtual} {[source.file_name for source in data.virtual_sources()]}")
P
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
