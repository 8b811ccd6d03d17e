#!/usr/bin/env bash
# xarray 2026.9.0 with zarr 3.1.6: `to_zarr(append_dim="time")` writes the times of a later part in another unit than the store
# has. Half an hour after the first part becomes 225 days.
#
# xarray chooses the unit of a store from its first part: hours, if all its times are full hours. A later part with minutes does
# not fit into whole hours, so it is written as a number of seconds. The attribute `units` of the store still says hours, and
# readers take the seconds for hours. No error is raised. The warning says that seconds are written "instead", as if the unit
# were written too. A first part with an encoding of its own, such as `{"time": {"units": "nanoseconds since 1970-01-01"}}`,
# keeps the times of all parts.
#
# Seen, two parts written to one store:
#   written, first    2026-11-30T10:00:00 2026-11-30T11:00:00
#   written, second   2026-11-30T11:30:00 2026-11-30T11:45:20
#   warned            Serializing with units 'seconds since 2026-11-30T10:00:00' instead
#   units             hours since 2026-11-30 10:00:00
#   numbers           0 1 5400 6320
#   read              2026-11-30T10:00:00 2026-11-30T11:00:00 2027-07-13T10:00:00 2027-08-20T18:00:00
#   read, nanoseconds 2026-11-30T10:00:00 2026-11-30T11:00:00 2026-11-30T11:30:00 2026-11-30T11:45:20
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
    xarray==2026.9.0 zarr==3.1.6 numpy==2.4.6 pandas==3.1.1
"$folder/venv/bin/python" - "$folder" <<'P' 2>/dev/null | tee "$folder/seen"
import sys
import warnings

import numpy as np
import xarray as xr
import zarr

folder = sys.argv[1]
parts = [
    np.array(["2026-11-30T10:00:00", "2026-11-30T11:00:00"], dtype="datetime64[ns]"),
    np.array(["2026-11-30T11:30:00", "2026-11-30T11:45:20"], dtype="datetime64[ns]"),
]


def dataset(times):
    return xr.Dataset({"signal": ("time", [1.0] * len(times))}, coords={"time": times})


def write(store, **options):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        dataset(parts[0]).to_zarr(store, consolidated=False, **options)
        dataset(parts[1]).to_zarr(store, consolidated=False, append_dim="time")
    return [sentence for one in said for sentence in str(one.message).split(". ") if "instead" in sentence]


def texts(times):
    return " ".join(np.datetime_as_string(np.asarray(times), "s"))


def read(store):
    return texts(xr.open_zarr(store, consolidated=False).time)


said = write(f"{folder}/plain.zarr")
write(f"{folder}/nanoseconds.zarr", encoding={"time": {"units": "nanoseconds since 1970-01-01", "dtype": "int64"}})
stored = zarr.open_group(f"{folder}/plain.zarr", mode="r")["time"]
print("written, first   ", texts(parts[0]))
print("written, second  ", texts(parts[1]))
for one in said:
    print("warned           ", one)
print("units            ", stored.attrs["units"])
print("numbers          ", *stored[:])
print("read             ", read(f"{folder}/plain.zarr"))
print("read, nanoseconds", read(f"{folder}/nanoseconds.zarr"))
P
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
