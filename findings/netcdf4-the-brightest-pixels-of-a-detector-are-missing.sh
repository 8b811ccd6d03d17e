#!/usr/bin/env bash
# netCDF4 1.7.5.1.post1 (Python): the value 65535 of a 16-bit detector, a saturated pixel, is read as missing, though the file names no
# missing value. Mean and maximum are those of the other pixels.
#
# The package masks the default fill value of each type (65535 for uint16, -32767 for int16, -2147483647 for int32), also where
# the variable has no attribute `_FillValue` and was written whole. Of 8-bit types it masks nothing, so 255 stays. xarray and h5netcdf
# give the value in each case. One and the same file has two means, and in JSON the pixel is null with one reader and 65535 with
# the other. `file.set_auto_mask(False)` gives what is in the file.
#
# Seen, pixels of 100, 200 and the highest value, in a file that h5netcdf wrote:
#   uint16, attributes         []
#   uint16, netCDF4            [100, 200, None], highest 200, mean 150.0
#   uint16, set_auto_mask      [100, 200, 65535], highest 65535, mean 21945.0
#   uint16, xarray             [100, 200, 65535], highest 65535, mean 21945.0
#   uint16, h5netcdf           [100, 200, 65535], highest 65535, mean 21945.0
#   uint8, netCDF4             [100, 200, 255], highest 255, mean 185.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
    netCDF4==1.7.5.1.post1 h5netcdf==1.8.2 h5py==3.16.0 xarray==2026.9.0 numpy==2.4.6 pandas==3.1.1
"$folder/venv/bin/python" - "$folder/image.nc" <<'P' | tee "$folder/seen"
import sys

import h5netcdf
import netCDF4
import numpy as np
import xarray as xr

path = sys.argv[1]
with h5netcdf.File(path, "w") as file:
    file.dimensions = {"pixel": 3}
    for kind in "uint16", "uint8":
        file.create_variable(kind, ("pixel",), kind)[...] = np.array([100, 200, np.iinfo(kind).max], kind)


def show(name, values):
    print(f"{name:<26} {values.tolist()}, highest {values.max()}, mean {values.mean()}")


with netCDF4.Dataset(path) as file:
    print("uint16, attributes        ", file["uint16"].ncattrs())
    show("uint16, netCDF4", file["uint16"][:])
    file.set_auto_mask(False)
    show("uint16, set_auto_mask", file["uint16"][:])
with xr.open_dataset(path, engine="netcdf4") as data:
    show("uint16, xarray", data["uint16"].values)
with h5netcdf.File(path) as file:
    show("uint16, h5netcdf", file["uint16"][:])
with netCDF4.Dataset(path) as file:
    show("uint8, netCDF4", file["uint8"][:])
P
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
