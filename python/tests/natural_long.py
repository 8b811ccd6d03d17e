"""The natural dictionaries of more packages; see `natural`."""

from __future__ import annotations

import collections
import contextlib
import json
import pathlib
import sys
import warnings
from typing import Any

import natural
import numpy as np
from natural import Files, shipped

from datamill import to_json


def obspy(folder: pathlib.Path) -> Files:
    import obspy

    patterns = ("*.mseed", "*.SAC", "*.sac", "*.gse2", "*.sgy*", "*.su*", "*.QHD", "*.seg2", "*.slist", "*.evt", "*.cnv")
    for path in shipped(obspy, *(f"io/*/tests/data/{pattern}" for pattern in patterns)):
        yield path.name, lambda path=path: dict(obspy.read(str(path), headonly=True)[0].stats)


def nibabel(folder: pathlib.Path) -> Files:
    import nibabel

    for path in shipped(nibabel, "*.nii", "*.nii.gz", "*.mgz"):
        yield path.name, lambda path=path: dict(nibabel.load(path).header)


def xarray(folder: pathlib.Path) -> Files:
    import pandas
    import xarray

    data = xarray.Dataset(
        {"t": (("time", "x"), np.arange(6.0).reshape(2, 3), {"units": "K", "_scale": np.float32(0.5)})},
        coords={"time": pandas.date_range("2026-11-29", periods=2), "x": [1, 2, 3]},
        attrs={"title": "example", "valid_range": np.array([0, 10], "i2"), "nothing": np.nan},
    )
    path = folder / "x.nc"
    data.to_netcdf(path, engine="scipy", format="NETCDF3_64BIT")
    yield "x.nc", lambda: xarray.open_dataset(path, engine="scipy").to_dict(data=False)
    yield "x.nc, with data", lambda: xarray.open_dataset(path, engine="scipy").to_dict()
    yield "x.nc, attributes", lambda: dict(xarray.open_dataset(path, engine="scipy").attrs)
    for shipped_ in shipped(xarray, "tests/data/*.nc"):
        yield shipped_.name, lambda path=shipped_: xarray.open_dataset(path).to_dict(data=False)


def netcdf4(folder: pathlib.Path) -> Files:
    import netCDF4

    path = folder / "n.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("x", 3)
        variable = file.createVariable("v", "i2", ("x",), fill_value=-1)
        variable[:] = np.ma.array([1, 2, 3], mask=[0, 1, 0])
        variable.setncatts({"units": "m", "scale_factor": np.float32(0.5), "flags": np.array([1, 2], "i1")})
        file.setncatts({"title": "ä", "version": np.int32(3), "range": np.array([0.0, np.nan])})

    def attributes() -> dict[Any, Any]:
        with netCDF4.Dataset(path) as file:
            variables = {name: {**variable.__dict__, "data": variable[:]} for name, variable in file.variables.items()}
            return {**file.__dict__, "variables": variables}

    yield "n.nc", attributes


def nmrglue(folder: pathlib.Path) -> Files:
    import nmrglue

    for path in shipped(nmrglue, "fileio/tests/data/*.fid", "fileio/tests/data/*.ft*"):
        yield path.name, lambda path=path: nmrglue.pipe.read(str(path))[0]
    path = folder / "a.jdx"
    path.write_text(JCAMP)
    yield "a.jdx", lambda: nmrglue.jcampdx.read(str(path))[0]


JCAMP = """##TITLE=example
##JCAMP-DX=4.24
##DATA TYPE=INFRARED SPECTRUM
##ORIGIN=here
##OWNER=us
##XUNITS=1/CM
##YUNITS=ABSORBANCE
##FIRSTX=400
##LASTX=402
##DELTAX=1
##NPOINTS=3
##XFACTOR=1
##YFACTOR=1
##FIRSTY=1
##XYDATA=(X++(Y..Y))
400 1 2 3
##END=
"""


def jcamp(folder: pathlib.Path) -> Files:
    import jcamp

    path = folder / "a.jdx"
    path.write_text(JCAMP)
    yield "a.jdx", lambda: jcamp.readfile(str(path))


def mne(folder: pathlib.Path) -> Files:
    import mne
    import pyedflib

    path = folder / "a.edf"
    pyedflib.highlevel.write_edf_quick(str(path), np.random.default_rng(0).random((2, 512)), 256)
    yield "a.edf", lambda: dict(mne.io.read_raw_edf(path, verbose="error").info)
    raw = folder / "a_raw.fif"

    def fif() -> dict[Any, Any]:
        info = mne.create_info(["a", "b"], 100.0, "eeg")
        array = mne.io.RawArray(np.zeros((2, 200)), info, verbose="error")
        array.set_meas_date(1_700_000_000)
        array.save(raw, overwrite=True, verbose="error")
        return dict(mne.io.read_raw_fif(raw, verbose="error").info)

    yield "a_raw.fif", fif


def asammdf(folder: pathlib.Path) -> Files:
    import asammdf

    path = folder / "a.mf4"
    with asammdf.MDF() as file:
        file.append([asammdf.Signal(np.arange(3), np.arange(3) / 10, name="speed", unit="km/h", comment="of the car")])
        file.save(path, overwrite=True)
    yield "a.mf4, info", lambda: asammdf.MDF(path).info()

    def header() -> dict[Any, Any]:
        with asammdf.MDF(path) as file:
            return {"start": file.header.start_time, "version": file.version, "channels": list(file.channels_db)}

    yield "a.mf4, header", header

    def signal() -> dict[Any, Any]:
        with asammdf.MDF(path) as file:
            found = file.get("speed")
            return {"name": found.name, "unit": found.unit, "samples": found.samples, "timestamps": found.timestamps}

    yield "a.mf4, signal", signal


def mdfreader(folder: pathlib.Path) -> Files:
    import asammdf
    import mdfreader

    path = folder / "b.mf4"
    with asammdf.MDF() as file:
        file.append([asammdf.Signal(np.arange(3.0), np.arange(3) / 10, name="speed", unit="km/h")])
        file.save(path, overwrite=True)
    yield "b.mf4", lambda: dict(mdfreader.MdfInfo(str(path)))
    yield "b.mf4, data", lambda: dict(mdfreader.Mdf(str(path)))


def laspy(folder: pathlib.Path) -> Files:
    import laspy

    header = laspy.LasHeader(point_format=3, version="1.4")
    header.vlrs.append(laspy.VLR("me", 1, "mine", b"\xff\x01"))
    header.add_extra_dim(laspy.ExtraBytesParams("extra", "f4"))
    cloud = laspy.LasData(header)
    cloud.x = cloud.y = cloud.z = np.arange(3.0)
    path = folder / "a.las"
    cloud.write(path)

    def fields(names: str) -> dict[Any, Any]:
        with laspy.open(path) as file:
            return {name: getattr(file.header, name) for name in names.split()}

    yield "a.las", lambda: fields(
        "version uuid global_encoding system_identifier generating_software creation_date file_source_id point_count scales "
        "offsets mins maxs vlrs number_of_points_by_return"
    )


def afmformats(folder: pathlib.Path) -> Files:
    import afmformats

    def lazy() -> dict[Any, Any]:
        found = afmformats.meta.MetaData()
        found["z range"] = afmformats.meta.LazyMetaValue(np.ptp, np.arange(10.0))
        return {"path": folder / "a.tab", "z range": dict.__getitem__(found, "z range")}

    yield "metadata, lazy", lazy


def cdflib(folder: pathlib.Path) -> Files:
    import cdflib.cdfwrite

    path = folder / "a.cdf"
    file = cdflib.cdfwrite.CDF(str(path), delete=True)
    file.write_globalattrs({"Title": {0: "example", 1: ["1.5", "CDF_DOUBLE"]}})
    spec = {"Variable": "v", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True, "Dim_Sizes": []}
    file.write_var(spec, var_attrs={"UNITS": "nT", "FILLVAL": [np.float32(-1e31), "CDF_FLOAT"]}, var_data=np.array([1.5, 2.5]))
    file.close()
    yield "a.cdf, global", lambda: cdflib.CDF(str(path)).globalattsget()
    yield "a.cdf, variable", lambda: cdflib.CDF(str(path)).varattsget("v")
    yield "a.cdf, info", lambda: vars(cdflib.CDF(str(path)).cdf_info())


def rosettasciio(folder: pathlib.Path) -> Files:
    import importlib

    signal = {
        "data": np.arange(12.0).reshape(3, 4),
        "axes": [
            {"name": name, "size": size, "scale": 0.5, "offset": 0.0, "units": "nm", "navigate": False, "index_in_array": number}
            for number, (name, size) in enumerate([("y", 3), ("x", 4)])
        ],
        "metadata": {"General": {"title": "ä", "date": "2026-11-29"}, "Signal": {"signal_type": ""}},
        "original_metadata": {"beam": {"kV": np.float32(200), "on": np.bool_(True), "raw": b"\xff"}},
        "attributes": {"_lazy": False},
        "learning_results": {},
        "package": "hyperspy",
        "package_version": "2.0",
        "models": {},
    }
    for name, file in (("tiff", "a.tif"), ("hspy", "a.hspy"), ("ripple", "a.rpl")):
        module = importlib.import_module(f"rsciio.{name}")
        path = folder / file

        def read(key: str, module: Any = module, path: pathlib.Path = path) -> dict[Any, Any]:
            if not path.exists():
                module.file_writer(str(path), signal)
            return module.file_reader(str(path))[0][key]

        yield f"{file}, metadata", lambda read=read: read("metadata")
        yield f"{file}, original_metadata", lambda read=read: read("original_metadata")


CIF = """data_example
_cell_length_a 5.43(1)
_cell_length_b 5.43
_cell_length_c 5.43
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F d -3 m'
_symmetry_Int_Tables_number 227
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Si 0 0 0
"""


def gemmi(folder: pathlib.Path) -> Files:
    import json

    from gemmi import cif

    path = folder / "a.cif"
    path.write_text(CIF)
    yield "a.cif", lambda: json.loads(cif.read(str(path)).as_json())
    yield "a.cif, pairs", lambda: {item.pair[0]: item.pair[1] for item in cif.read(str(path)).sole_block() if item.pair}


def xrayutilities(folder: pathlib.Path) -> Files:
    import xrayutilities

    path = folder / "a.cif"
    path.write_text(CIF)
    yield "a.cif", lambda: {
        name: value for name, value in vars(xrayutilities.materials.cif.CIFFile(str(path))).items() if name != "fid"
    }
    spec = folder / "a.spec"
    spec.write_text(
        "#F a.spec\n#E 1700000000\n#D Tue Nov 14 22:13:20 2023\n#O0 two theta  om\n\n#S 1 ascan om 0 1 2 1\n"
        "#D Tue Nov 14 22:13:21 2023\n#T 1 (Seconds)\n#P0 1.5 2.5\n#N 3\n#L om  mon  det\n0 1 2\n0.5 1 3\n1 1 4\n\n"
    )

    def scan() -> dict[Any, Any]:
        file = xrayutilities.io.SPECFile("a.spec", path=str(folder))
        found = file.scan1
        found.ReadData()
        return {name: getattr(found, name) for name in ("nr", "command", "date", "time", "itime", "colnames", "data", "init_motor_pos")}

    yield "a.spec", scan


def fabio(folder: pathlib.Path) -> Files:
    import fabio

    header = {"title": "example", "wavelength": 1.54, "n": np.int32(3)}
    for kind, file in (
        ("edfimage.EdfImage", "a.edf"),
        ("cbfimage.CbfImage", "a.cbf"),
        ("tifimage.TifImage", "a.tif"),
        ("pnmimage.PnmImage", "a.pnm"),
        ("numpyimage.NumpyImage", "a.npy"),
    ):
        path = folder / file

        def read(kind: str = kind, path: pathlib.Path = path) -> dict[Any, Any]:
            module, _, name = kind.partition(".")
            image = getattr(__import__(f"fabio.{module}", fromlist=[name]), name)
            image(data=np.arange(64, dtype="u2").reshape(8, 8), header=dict(header)).write(str(path))
            return dict(fabio.open(str(path)).header)

        yield file, read


def mrcfile(folder: pathlib.Path) -> Files:
    import mrcfile

    path = folder / "a.mrc"
    with mrcfile.new(path) as file:
        file.set_data(np.zeros((2, 3, 4), "f4"))
        file.voxel_size = 1.5

    def header() -> dict[Any, Any]:
        with mrcfile.open(path) as file:
            return {name: file.header[name] for name in file.header.dtype.names}

    yield "a.mrc", header
    yield "a.mrc, record", lambda: {"header": mrcfile.open(path).header, "voxel": mrcfile.open(path).voxel_size}


def ezc3d(folder: pathlib.Path) -> Files:
    import ezc3d

    path = folder / "a.c3d"
    file = ezc3d.c3d()
    file["parameters"]["POINT"]["RATE"]["value"] = [100]
    file["parameters"]["POINT"]["LABELS"]["value"] = ("p1", "p2")
    file["data"]["points"] = np.ones((4, 2, 3))
    file.write(str(path))
    yield "a.c3d, parameters", lambda: {k: dict(v) for k, v in ezc3d.c3d(str(path))["parameters"].items()}
    yield "a.c3d, header", lambda: dict(ezc3d.c3d(str(path))["header"])


def gwyfile(folder: pathlib.Path) -> Files:
    import gwyfile
    from gwyfile.objects import GwyContainer, GwyDataField

    path = folder / "a.gwy"
    container = GwyContainer()
    container["/0/data/title"] = "height"
    container["/0/data"] = GwyDataField(np.arange(6.0).reshape(2, 3), si_unit_xy="m", si_unit_z="m")
    container.tofile(str(path))
    yield "a.gwy", lambda: dict(gwyfile.load(str(path)))


def segyio(folder: pathlib.Path) -> Files:
    import segyio

    path = folder / "a.sgy"
    segyio.tools.from_array(str(path), np.zeros((4, 10), "f4"), dt=2000)

    def open_() -> Any:
        return segyio.open(str(path), ignore_geometry=True)

    yield "a.sgy, binary header", lambda: dict(open_().bin)
    yield "a.sgy, trace header", lambda: dict(open_().header[0])
    yield "a.sgy, text", lambda: {"text": bytes(open_().text[0])}


def ptufile(folder: pathlib.Path) -> Files:
    import ptufile

    path = folder / "a.ptu"
    ptufile.imwrite(path, np.ones((1, 4, 4, 1, 8), "u1"), global_resolution=1e-7, tcspc_resolution=1e-9, pixel_time=1e-5)

    def tags() -> dict[Any, Any]:
        with ptufile.PtuFile(path) as file:
            return dict(file.tags)

    yield "a.ptu", tags


MZML = """<?xml version="1.0" encoding="utf-8"?>
<mzML xmlns="http://psi.hupo.org/ms/mzml" version="1.1.0">
 <cvList count="2">
  <cv id="MS" fullName="Proteomics Standards Initiative Mass Spectrometry Ontology" version="4.1.0" URI="psi-ms.obo"/>
  <cv id="UO" fullName="Unit Ontology" version="1" URI="unit.obo"/>
 </cvList>
 <run id="r" startTimeStamp="2026-11-29T10:00:00Z">
  <spectrumList count="1">
   <spectrum index="0" id="scan=1" defaultArrayLength="0">
    <cvParam cvRef="MS" accession="MS:1000511" name="ms level" value="1"/>
    <cvParam cvRef="MS" accession="MS:1000285" name="total ion current" value="12345.5"/>
    <scanList count="1"><scan>
     <cvParam cvRef="MS" accession="MS:1000016" name="scan start time" value="1.5" unitCvRef="UO" unitAccession="UO:0000031" unitName="minute"/>
    </scan></scanList>
   </spectrum>
  </spectrumList>
 </run>
</mzML>
"""


def pymzml(folder: pathlib.Path) -> Files:
    import pymzml

    path = folder / "a.mzML"
    path.write_text(MZML)
    yield "a.mzML", lambda: dict(pymzml.run.Reader(str(path)).info)


def biopython(folder: pathlib.Path) -> Files:
    from Bio import SeqIO
    from Bio.Seq import Seq
    from Bio.SeqRecord import SeqRecord

    record = SeqRecord(Seq("ACGT"), id="x", name="x", description="d", annotations={"molecule_type": "DNA", "date": "29-NOV-2026", "keywords": ["k"]})
    path = folder / "a.gb"
    SeqIO.write([record], path, "genbank")
    yield "a.gb", lambda: SeqIO.read(path, "genbank").annotations


MORE = [
    obspy, nibabel, xarray, netcdf4, nmrglue, jcamp, mne, asammdf, mdfreader, laspy, afmformats, cdflib, rosettasciio, gemmi,
    xrayutilities, fabio, mrcfile, ezc3d, gwyfile, segyio, ptufile, pymzml, biopython,
]  # fmt: skip


def main(folder: pathlib.Path) -> None:
    """Print what became of the dictionaries of each reader, as JSON."""
    warnings.simplefilter("ignore")
    told = {}
    for reader in natural.LIGHT + MORE:
        place = folder / reader.__name__
        place.mkdir()
        told[reader.__name__] = tally(reader(place))
    print(json.dumps(told))


def tally(files: Files) -> dict[str, Any]:
    """Count dictionaries that were read, that `json.dumps` writes, that became JSON, and classes that were refused."""
    counts = {"read": 0, "dumps": 0, "json": 0}
    refused = collections.Counter()
    for _, read in files:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                found = read()
        except BaseException:  # a file that the reader refuses; one package's exception is no `Exception`
            continue
        counts["read"] += 1
        with contextlib.suppress(TypeError, ValueError):
            json.dumps(found, allow_nan=False)
            counts["dumps"] += 1
        try:
            json.loads(to_json(found), parse_constant=natural.refuse)
            counts["json"] += 1
        except TypeError as error:
            refused[natural.refused_class(error)] += 1
    return {**counts, "refused": refused}


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
