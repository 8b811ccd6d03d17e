#!/usr/bin/env bash
# tifffile 2026.3.3: one file of an OME-TIFF that a microscope wrote as several files is read with the shape of all of them, and
# with zeros for those that are not beside it.
#
# Programs of microscopes write long time series as one file for each time or position, and each of them names all. What processes
# whole files one by one, from a queue or a bucket, has one alone. `imread` gives it an array of the whole series: the planes of the
# other files are zeros, as a shutter that stayed closed. No error is raised and no value says so, only a line of `logging`;
# bytes in memory are the same. A mean over the array is too low by the number of files, and a result for each file counts each
# plane again and again. The second file's own plane is not even the first of its array. `is_ome=False` reads what the file has.
#
# Seen, planes of 100 and of 101 in two files:
#   both files, imread                (2, 3, 4) planes [100, 101]
#   the second one alone, imread      (2, 3, 4) planes [0, 101]
#   the second one alone, from bytes  (2, 3, 4) planes [0, 101]
#   lines of logging                  2
#   the second one, is_ome=False      (3, 4) planes [101]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check tifffile==2026.3.3 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'P' | tee "$folder/seen"
import io
import logging
import os
import pathlib
import sys
import uuid

import numpy as np
import tifffile

os.chdir(sys.argv[1])
names = ["scan_t0.ome.tif", "scan_t1.ome.tif"]
ids = [f"urn:uuid:{uuid.uuid4()}" for _ in names]
planes = "".join(
    f'<TiffData IFD="0" FirstT="{t}" FirstC="0" FirstZ="0" PlaneCount="1"><UUID FileName="{name}">{ids[t]}</UUID></TiffData>'
    for t, name in enumerate(names)
)
for t, name in enumerate(names):
    ome = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{ids[t]}"><Image ID="Image:0" Name="scan">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="4" SizeY="3" SizeZ="1" SizeC="1" SizeT="2">'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
    )
    tifffile.imwrite(name, np.full((3, 4), 100 + t, "uint16"), description=ome.encode(), metadata=None)


def say(what, array):
    print(f"{what:<33} {array.shape} planes {array.reshape(-1, 12).mean(axis=1).astype(int).tolist()}")


lines = []
tifffile.logger().handlers = [handler := logging.Handler()]
handler.emit = lines.append
tifffile.logger().propagate = False
say("both files, imread", tifffile.imread(names[0]))
alone = pathlib.Path("alone") / names[1]
alone.parent.mkdir()
pathlib.Path(names[1]).rename(alone)
say("the second one alone, imread", tifffile.imread(alone))
say("the second one alone, from bytes", tifffile.imread(io.BytesIO(alone.read_bytes())))
print(f"{'lines of logging':<33} {len(lines)}")
say("the second one, is_ome=False", tifffile.imread(alone, is_ome=False))
P
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
