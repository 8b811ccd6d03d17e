#!/usr/bin/env bash
# Pint 0.25.3 and astropy 8.0.2 take units that instruments write for other ones, without an error: pH becomes picohenry, `deg C`
# becomes coulomb times degree, and a salinity in ppt becomes a volume.
#
# The symbols of units and prefixes are short, so many short words are a product of them. A result in JSON or HDF5 that is
# brought to base units then holds a number that is wrong by powers of ten, or of another kind. Other units, such as
# `Torr` in Pint, raise an error, so a program seems to check its units. A table of the units that the instrument writes,
# looked up before the package is asked, avoids it.
#
# Seen, as it is read and in base units:
#   7.4 pH, Pint         7.4 picohenry = 7.4e-12 kilogram * meter ** 2 / ampere ** 2 / second ** 2
#   7.4 pH, astropy      7.4 pH = 7.4e-12 H
#   25 deg C, Pint       25 coulomb * degree = 0.436332 ampere * radian * second
#   25 deg C, astropy    25.0 C deg = 0.436332 C rad
#   45 % RH, Pint        45 percent * ronnahenry = 4.5e+26 kilogram * meter ** 2 / ampere ** 2 / second ** 2
#   45 % RH, astropy     45.0 RH % = 4.5e+26 H
#   35 ppt, Pint         35 picopint = 1.65612e-14 meter ** 3
#   35 ppt, astropy      ValueError
#   1200 cts, Pint       1200 carat = 0.24 kilogram
#   1200 cts, astropy    ValueError
#   1.2 mPas, Pint       1.2 millipascal = 0.0012 kilogram / meter / second ** 2
#   1.2 mPas, astropy    ValueError
#   0.8 a.u., Pint       0.8 unified_atomic_mass_unit * year = 4.19221e-20 kilogram * second
#   0.8 a.u., astropy    ValueError
#   445.1 Th, Pint       445.1 terahour = 1.60236e+18 second
#   445.1 Th, astropy    445.1 Th = 1.60236e+18 s
#   5 Torr, Pint         UndefinedUnitError
#   5 Torr, astropy      5.0 Torr = 666.612 Pa
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
    pint==0.25.3 astropy==8.0.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'P' | tee "$folder/seen"
import astropy.units
import pint

registry = pint.UnitRegistry()


def with_pint(text):
    found = registry.Quantity(text)
    base = found.to_base_units()
    return f"{found} = {base.magnitude:.6g} {base.units}"


def with_astropy(text):
    found = astropy.units.Quantity(text)
    return f"{found} = {found.si.value:.6g} {found.si.unit}"


for text in "7.4 pH", "25 deg C", "45 % RH", "35 ppt", "1200 cts", "1.2 mPas", "0.8 a.u.", "445.1 Th", "5 Torr":
    for name, read in ("Pint", with_pint), ("astropy", with_astropy):
        try:
            seen = read(text)
        except (AttributeError, TypeError, ValueError) as error:
            seen = type(error).__name__
        print(f"{text + ', ' + name:<20}", seen)
P
sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >"$folder/expected"
diff "$folder/expected" "$folder/seen" || { echo "not as it was seen" >&2; exit 1; }
