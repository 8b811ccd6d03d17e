"""The dictionaries that scientists return without thinking, of packages that read instrument files.

`docs/python.md` says how many become JSON. What does not is an error that names the path, the class and a remedy.
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import subprocess
import sys
import warnings
from typing import Any

import natural
import pytest

from datamill import to_json

# Files that each reader has at least, so that none is left out without a word.
LEAST = {
    "pydicom": 90, "astropy": 75, "tifffile": 3, "h5py": 5, "lasio": 5,
    "pillow": 7, "pyedflib": 5, "wfdb": 2, "scipy": 330, "nptdms": 5,
}  # fmt: skip

# Classes that stay errors, for what they hold is no metadata: functions and classes of MATLAB.
REFUSED = {"scipy": ("MatlabFunction", "MatlabOpaque", "MatlabObject")}


@pytest.mark.parametrize("reader", natural.LIGHT, ids=lambda reader: reader.__name__)
def test_the_natural_dictionaries_of_a_reader_become_json(reader, tmp_path: pathlib.Path):
    warnings.simplefilter("ignore")
    read, refused = 0, collections.Counter()
    for name, dictionary in reader(tmp_path):
        try:
            found = dictionary()
        except NotImplementedError:
            continue  # a file that the reader itself refuses
        read += 1
        try:
            text = to_json(found)
        except TypeError as error:
            refused[natural.refused_class(error)] += 1
            continue
        loaded = json.loads(text, parse_constant=natural.refuse)
        assert isinstance(loaded, dict) and len(loaded) == len(found), name
    assert read >= LEAST[reader.__name__]
    known = REFUSED.get(reader.__name__, ())
    assert all(name.endswith(known) for name in refused), refused
    assert sum(refused.values()) < 0.12 * read


def only(reader, folder: pathlib.Path, name: str) -> Any:
    [dictionary] = [dictionary for file, dictionary in reader(folder) if file == name]
    return json.loads(to_json(dictionary()), parse_constant=natural.refuse)


def test_sections_of_well_logs_keep_mnemonics_units_values_and_curves(tmp_path):
    sections = only(natural.lasio, tmp_path, "well.las, all sections")
    assert sections["Well"]["STRT"] == {"mnemonic": "STRT", "unit": "M", "value": 1.0, "descr": "first depth"}
    assert sections["Curves"]["GR:1"]["data"] == [45.5, None]
    assert sections["Curves"]["GR:2"]["unit"] == "GAPI"
    assert sections["Other"] == "free text"
    assert only(natural.lasio, tmp_path, "well.las, dictionary")["STEP"]["value"] == 1.0


def test_headers_of_fits_keep_each_card_of_a_keyword_that_is_repeated():
    from astropy.io import fits

    header = fits.Header([("A", 1), ("B", None), ("C", 1 + 2j), ("HISTORY", "one"), ("HISTORY", "two"), ("COMMENT", "three")])
    header.append(("A", 2), bottom=True)
    expected = {"A": [1, 2], "B": None, "C": [1.0, 2.0], "HISTORY": ["one", "two"], "COMMENT": ["three"]}
    assert json.loads(to_json({"header": header})) == {"header": expected}


def test_data_sets_of_dicom_are_written_by_keyword_and_nested():
    import pydicom
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    inner = Dataset()
    inner.PatientName = "Doe^Jane=ヤマダ"
    outer = Dataset()
    outer.PixelSpacing = ["0.50", "1.5"]
    outer.StudyDate = "20261129"
    outer.ReferencedImageSequence = Sequence([inner])
    outer.add_new(0x00091001, "OB", b"\xff\x00")
    written = json.loads(to_json({"set": outer}))["set"]
    assert written == {
        "StudyDate": "20261129",
        "(0009,1001)": {"base64": "/wA="},
        "ReferencedImageSequence": [{"PatientName": "Doe^Jane=ヤマダ"}],
        "PixelSpacing": [0.5, 1.5],
    }
    assert pydicom.__version__


def test_rationals_of_exif_are_numbers():
    from PIL.TiffImagePlugin import IFDRational

    assert to_json({"t": IFDRational(1, 125), "none": IFDRational(0, 0)}) == '{"t": 0.008, "none": null}'


def test_sparse_matrices_keep_their_shape_and_their_entries():
    import scipy.sparse

    matrix = scipy.sparse.csr_matrix([[0, 0.5], [0, 0], [2, 0]])
    assert json.loads(to_json(matrix)) == {"shape": [3, 2], "row": [0, 2], "col": [1, 0], "data": [0.5, 2.0]}
    line = scipy.sparse.coo_array([0, 3, 0])
    assert json.loads(to_json(line)) == {"shape": [3], "coords": [[1]], "data": [3]}


def test_quantities_tables_and_open_files_are_errors_that_say_what_to_return(tmp_path):
    import h5py
    import pandas
    from astropy import units

    frame = pandas.DataFrame({"a": [1, 2]})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = [1, 2]
        for value, remedy in [
            ([1, 2] * units.m, "`numpy.asarray(…)`"),
            (frame, '`.to_dict("list")`'),
            (frame["a"], "`.to_dict()` or its `.tolist()`"),
            (file, "`numpy.asarray(…)`"),
        ]:
            with pytest.raises(TypeError) as error:
                to_json({"found": value})
            assert remedy in str(error.value) and str(error.value).startswith('metadata["found"]')
    assert to_json({"t": pandas.Timestamp("2026-11-29T10:00:00.123456789"), "none": pandas.NaT}) == (
        '{"t": "2026-11-29T10:00:00.123456789", "none": null}'
    )
    assert to_json({"d": pandas.Timedelta(1500, "ns")}) == '{"d": 0.0000015}'


@pytest.mark.long
def test_at_least_88_of_100_natural_dictionaries_of_33_packages_become_json(tmp_path):
    here = pathlib.Path(__file__).parent
    packages = tmp_path / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    subprocess.run([*pip, "--target", packages, "-r", here / "requirements-long.txt"], check=True)
    files = tmp_path / "files"
    files.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), str(here)])}
    program = [sys.executable, here / "natural_long.py", files]
    done = subprocess.run(program, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=1200)
    told = json.loads(done.stdout)
    sums = {what: sum(reader[what] for reader in told.values()) for what in ("read", "dumps", "json")}
    print(sums, {name: reader["refused"] for name, reader in told.items() if reader["refused"]})
    assert [name for name, reader in told.items() if reader["read"] == 0] == []
    assert len(told) == 33
    assert all(reader["json"] + sum(reader["refused"].values()) == reader["read"] for reader in told.values())
    assert sums["json"] >= 0.88 * sums["read"]
