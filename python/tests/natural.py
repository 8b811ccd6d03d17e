"""Dictionaries as scientists return them without thinking, one for each file of a package that reads instrument files.

A reader is a function that yields the name of a file and a function that reads its dictionary. The files are test data
that the packages ship, and small ones written here with the packages' own writers.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Files = Iterator[tuple[str, Callable[[], dict[Any, Any]]]]


def shipped(package: Any, *patterns: str) -> list[pathlib.Path]:
    """The files of these names that a package brings, the smaller ones."""
    root = pathlib.Path(package.__file__).parent
    files = {path for pattern in patterns for path in root.rglob(pattern)}
    return sorted(path for path in files if path.is_file() and path.stat().st_size < 2_000_000)


def pydicom(folder: pathlib.Path) -> Files:
    import pydicom

    def read(path: pathlib.Path) -> dict[Any, Any]:
        return {element.keyword or str(element.tag): element.value for element in pydicom.dcmread(path, force=True)}

    for path in shipped(pydicom, "data/test_files/*.dcm", "data/charset_files/*.dcm"):
        yield path.name, lambda path=path: read(path)


def astropy(folder: pathlib.Path) -> Files:
    from astropy.io import fits

    for path in shipped(fits, "tests/data/*.fits"):
        yield path.name, lambda path=path: dict(fits.getheader(path))
        yield f"{path.name}, all", lambda path=path: {
            "headers": [hdu.header for hdu in fits.open(path, lazy_load_hdus=False)]
        }


def tifffile(folder: pathlib.Path) -> Files:
    import tifffile

    path = folder / "image.tif"
    tifffile.imwrite(
        path,
        np.zeros((2, 4, 5), "u2"),
        imagej=True,
        resolution=(2.5, 2.5),
        metadata={"unit": "um", "spacing": 0.5},
    )
    other = folder / "tagged.tif"
    tags = [(65000, "B", 4, b"\xff\x00\x01\x02", True), (65001, "d", 3, (1.0, float("nan"), 3.0), True)]
    tifffile.imwrite(other, np.zeros((4, 5), "f4"), compression="zlib", extratags=tags, description="a plain description")

    def tags_of(path: pathlib.Path) -> dict[Any, Any]:
        with tifffile.TiffFile(path) as file:
            return {tag.name: tag.value for tag in file.pages[0].tags}

    def imagej() -> dict[Any, Any]:
        with tifffile.TiffFile(path) as file:
            return dict(file.imagej_metadata)

    yield "image.tif", lambda: tags_of(path)
    yield "image.tif, imagej", imagej
    yield "tagged.tif", lambda: tags_of(other)


def h5py(folder: pathlib.Path) -> Files:
    import h5py

    path = folder / "scan.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("entry/data", data=np.arange(6.0).reshape(2, 3))
        data.attrs.update(units="mm", scale=np.float32(0.5), offset=np.int64(3), valid=np.bool_(True), empty=h5py.Empty("f4"))
        data.attrs["axes"] = np.array(["x", "y"], dtype=h5py.string_dtype())
        data.attrs["raw"] = np.bytes_(b"\xff\x01")
        data.attrs["range"] = np.array([(1, 2.5)], dtype=[("lo", "<i4"), ("hi", ">f8")])
        file["entry"].attrs["NX_class"] = np.bytes_("NXentry")

    def attributes(path: pathlib.Path) -> dict[Any, Any]:
        with h5py.File(path) as file:
            found = {"/": dict(file.attrs)}
            file.visititems(lambda name, item: found.__setitem__(name, dict(item.attrs)))
            return found

    yield "scan.h5", lambda: attributes(path)
    for path_ in shipped(h5py, "tests/data_files/*.h5"):
        yield path_.name, lambda path=path_: attributes(path)


LAS = """~Version
VERS. 2.0 : CWLS log ASCII standard
WRAP. NO  : one line for each depth
~Well
STRT.M 1.0     : first depth
STOP.M 2.0     : last depth
STEP.M 1.0     : step
NULL.  -999.25 : no value
WELL.  A-1     : well
DATE.          : date
~Curve
DEPT.M  : depth
GR.GAPI : gamma ray
GR.GAPI : gamma ray again
~Parameter
RUN .   3 : run
~Other
free text
~ASCII
1.0 45.5 45.6
2.0 -999.25 46.5
"""


def lasio(folder: pathlib.Path) -> Files:
    import lasio

    path = folder / "well.las"
    path.write_text(LAS)
    yield "well.las, values", lambda: {item.mnemonic: item.value for item in lasio.read(path).well}
    yield "well.las, section", lambda: {"well": lasio.read(path).well}
    yield "well.las, all sections", lambda: dict(lasio.read(path).sections)
    yield "well.las, dictionary", lambda: dict(lasio.read(path).well)
    yield "well.las, curves", lambda: {curve.mnemonic: curve.data for curve in lasio.read(path).curves}


def pillow(folder: pathlib.Path) -> Files:
    from PIL import Image, TiffImagePlugin
    from PIL.PngImagePlugin import PngInfo

    image = Image.new("RGB", (4, 4))
    text = PngInfo()
    text.add_text("Title", "ä")
    text.add_itxt("Comment", "note", "en", "Kommentar")
    image.save(folder / "a.png", dpi=(300, 300), pnginfo=text, icc_profile=b"\x00\xff\x80")
    image.save(folder / "a.jpg", dpi=(72, 72), comment=b"\xe9 comment")
    exif = Image.Exif()
    exif[0x829A] = TiffImagePlugin.IFDRational(1, 125)
    exif[0x010F] = "maker"
    image.save(folder / "b.jpg", exif=exif)
    image.save(folder / "a.tif", resolution=150.0, compression="tiff_lzw")
    image.convert("P").save(folder / "a.gif", comment=b"made here", transparency=0, duration=20)

    def exif_of(name: str) -> dict[Any, Any]:
        with Image.open(folder / name) as image:
            return dict(image.getexif())

    def info(name: str) -> dict[Any, Any]:
        with Image.open(folder / name) as image:
            return dict(image.info)

    def tags(name: str) -> dict[Any, Any]:
        with Image.open(folder / name) as image:
            return dict(image.tag_v2)

    for name in ("a.png", "a.jpg", "b.jpg", "a.tif", "a.gif"):
        yield name, lambda name=name: info(name)
    yield "b.jpg, exif", lambda: exif_of("b.jpg")
    yield "a.tif, tags", lambda: tags("a.tif")


def pyedflib(folder: pathlib.Path) -> Files:
    import pyedflib
    from pyedflib import highlevel

    for path in shipped(pyedflib, "tests/data/*.edf", "tests/data/*.bdf"):
        yield path.name, lambda path=path: highlevel.read_edf_header(str(path))


def wfdb(folder: pathlib.Path) -> Files:
    import datetime

    import wfdb

    signal = np.column_stack([np.sin(np.arange(100) / 9), np.cos(np.arange(100) / 9)])
    wfdb.wrsamp(
        "record",
        fs=250,
        units=["mV", "mV"],
        sig_name=["I", "II"],
        p_signal=signal,
        fmt=["16", "16"],
        comments=["a comment"],
        base_date=datetime.date(2026, 11, 29),
        base_time=datetime.time(10, 20, 30),
        write_dir=str(folder),
    )
    yield "record.hea", lambda: vars(wfdb.rdheader(str(folder / "record")))
    yield "record.dat", lambda: wfdb.rdsamp(str(folder / "record"))[1]


def scipy(folder: pathlib.Path) -> Files:
    import scipy.io
    import scipy.io.matlab

    for path in shipped(scipy.io, "matlab/tests/data/*.mat"):
        if path.name.startswith(("bad", "broken", "corrupted", "debigged", "miutf8_array_name", "nasty", "malformed", "test_empty")):
            continue  # made to be refused by the reader
        yield path.name, lambda path=path: scipy.io.loadmat(path)
        yield f"{path.name}, simplified", lambda path=path: scipy.io.loadmat(path, simplify_cells=True)
        yield f"{path.name}, structs", lambda path=path: scipy.io.loadmat(path, struct_as_record=False, squeeze_me=True)
    for path in shipped(scipy.io, "tests/data/*.sav"):
        if path.name != "invalid_pointer.sav":
            yield path.name, lambda path=path: scipy.io.readsav(path)


def nptdms(folder: pathlib.Path) -> Files:
    import datetime

    import nptdms

    path = folder / "a.tdms"
    with nptdms.TdmsWriter(path) as writer:
        root = nptdms.RootObject({"operator": "ä", "start": datetime.datetime(2026, 11, 29, 10), "gain": np.float32(0.5)})
        channel = nptdms.ChannelObject("g", "c", np.arange(3.0), {"wf_increment": float("nan"), "n": np.int64(3), "ok": True})
        writer.write_segment([root, nptdms.GroupObject("g", {"unit": "V"}), channel])

    def properties(path: pathlib.Path) -> dict[Any, Any]:
        with nptdms.TdmsFile.open(path) as file:
            channels = {f"{group.name}/{channel.name}": channel.properties for group in file.groups() for channel in group.channels()}
            return {**file.properties, **channels}

    yield "a.tdms", lambda: properties(path)
    for shipped_ in shipped(nptdms, "test/data/*.tdms"):
        yield shipped_.name, lambda path=shipped_: properties(path)


LIGHT = [pydicom, astropy, tifffile, h5py, lasio, pillow, wfdb, scipy, nptdms]
if sys.version_info < (3, 13):  # as in requirements.txt
    LIGHT.append(pyedflib)


def refuse(word: str) -> None:
    """For `json.loads`: what is no JSON."""
    raise AssertionError(f"{word} is no JSON")


def refused_class(error: Exception) -> str:
    """The class that an error names, with a path before it and a remedy after it."""
    path, _, rest = str(error).partition(": `")
    assert path.startswith("metadata") and "; " in rest, error
    return rest.partition("`")[0]
