"""What `datamill.to_json` writes, rule by rule: `docs/python.md` states them."""

import collections
import dataclasses
import datetime
import decimal
import doctest
import email.message
import enum
import fractions
import io
import json
import math
import mmap
import os
import pathlib
import random
import struct
import subprocess
import sys
import threading
import types
import uuid
import xml.etree.ElementTree

import numpy as np
import pandas as pd
import pytest
import rules

from datamill import _engine, to_json


def loads(text):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def written(value, **options):
    return loads(to_json(value, **options))


# what json.dumps knows


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"a": 1, "b": [1.5, None, True, False, "text"], "c": {"d": []}},
        {1: "whole", 2.5: "float", None: "none", True: "truth"},
        (1, (2, 3)),
        'quotes " and \\ and / and \x00\x07\x1f\x7f\b\f\n\r\t and ü € 😀',
        -0.0,
        1e-5,
        1e16,
        123456789012345678,
        collections.OrderedDict(b=1, a=2),
        collections.namedtuple("Point", "x y")(1, 2),
    ],
)
def test_what_json_dumps_writes_is_written_as_the_same_text(value):
    assert to_json(value) == json.dumps(value)


def test_floats_have_the_digits_of_python():
    draw = random.Random(1)
    floats = [struct.unpack("<d", draw.randbytes(8))[0] for _ in range(50_000)]
    floats += [draw.random() * 10.0 ** draw.randint(-8, 20) for _ in range(50_000)]
    floats += [float(draw.randint(0, 10 ** draw.randint(1, 20))) for _ in range(20_000)]
    floats += [10.0**n for n in range(-323, 309)] + [5e-324, sys.float_info.max, 2.0**53]
    floats = [x for x in floats if math.isfinite(x)]
    assert to_json(floats) == json.dumps(floats)
    assert to_json(np.array(floats)) == json.dumps(floats)


@pytest.mark.parametrize("value", [2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**19, -(10**40), 3**500])
def test_an_integer_of_any_size_is_exact(value):
    assert to_json(value) == str(value)


def test_an_integer_that_python_itself_writes_no_longer_is_exact():
    before = sys.get_int_max_str_digits()
    text = to_json({"n": -(7**20_000)})
    sys.set_int_max_str_digits(0)
    try:
        assert text == '{"n": ' + str(-(7**20_000)) + "}"
    finally:
        sys.set_int_max_str_digits(before)


# numpy


NUMBERS = "?bBhHiIlLqQefd"


@pytest.mark.parametrize("code", NUMBERS)
@pytest.mark.parametrize("order", "<>")
def test_arrays_of_numbers_of_each_type_and_byte_order_are_lists(code, order):
    draw = np.random.default_rng(2)
    array = draw.integers(0, 100, (3, 4, 5)).astype(np.dtype(code)).astype(np.dtype(code).newbyteorder(order))
    if np.dtype(code).kind in "if":
        array = -array
    for view in (array, array.T, array[::-1, 1:, ::2], array[:, :0], array[0, 0, 0], array[()], array[1, 1, 1:2]):
        assert written(view) == view.tolist()
        assert all(type(a) is type(b) for a, b in zip(np.ravel(written(view)).tolist(), view.ravel().tolist()))


@pytest.mark.parametrize("code", NUMBERS)
def test_the_limits_of_each_type_are_exact(code):
    dtype = np.dtype(code)
    if dtype.kind == "f":
        info = np.finfo(dtype)
        limits = [info.max, info.min, info.tiny, info.smallest_subnormal, info.eps, dtype.type(0.1)]
    elif dtype.kind == "b":
        limits = [True, False]
    else:
        limits = [np.iinfo(dtype).max, np.iinfo(dtype).min]
    array = np.array(limits, dtype)
    assert written(array) == array.tolist()
    assert [written(scalar) for scalar in array] == array.tolist()


def test_a_float_of_four_bytes_is_written_with_its_exact_value():
    assert to_json({"v": np.float32(0.1)}) == '{"v": 0.10000000149011612}'


def test_shapes_of_arrays_are_kept():
    assert to_json(np.zeros((2, 0))) == "[[], []]"
    assert to_json(np.zeros((0, 2))) == "[]"
    assert to_json(np.array(5)) == "5"
    assert to_json(np.arange(6).reshape(1, 2, 3)) == "[[[0, 1, 2], [3, 4, 5]]]"


def test_a_complex_number_is_a_pair():
    assert to_json({"z": 1 - 2j}) == '{"z": [1.0, -2.0]}'
    assert to_json(np.array([[1j, 2]], ">c8")) == "[[[0.0, 1.0], [2.0, 0.0]]]"
    assert to_json(np.complex128(3)) == "[3.0, 0.0]"
    assert to_json(np.clongdouble(1 + 2j)) == "[1.0, 2.0]"


def test_an_extended_float_has_all_its_digits():
    assert to_json(np.array([np.longdouble(1) / 3])) == f"[{np.longdouble(1) / 3!s}]"
    assert to_json(np.longdouble("inf")) == "null"


def test_texts_and_bytes_of_numpy_are_text():
    assert written({"a": np.str_("ü"), "b": np.bytes_(b"abc")}) == {"a": "ü", "b": "abc"}
    assert written(np.array(["a", "üü"], ">U2")) == ["a", "üü"]
    assert written(np.array([b"a", b"\xff"])) == ["a", {"base64": "/w=="}]
    if hasattr(np.dtypes, "StringDType"):
        assert written(np.array(["a", "long text"], np.dtypes.StringDType())) == ["a", "long text"]


def test_dates_of_numpy_are_iso_8601_in_their_own_unit():
    assert written(np.datetime64("2026-11-29T10:20:30.123456789")) == "2026-11-29T10:20:30.123456789"
    assert written(np.array(["2026", "NaT"], "M8[Y]")) == ["2026", None]
    assert written(np.array([["2026-11-29T10"]], ">M8[h]")) == [["2026-11-29T10"]]


def test_durations_are_seconds():
    assert to_json(np.array([1500, -1, 0], "m8[ms]")) == "[1.5, -0.001, 0.0]"
    assert to_json(np.timedelta64(1, "ns")) == "0.000000001"
    assert to_json(np.array(3, "m8[25s]")) == "75.0"
    assert to_json(np.timedelta64(2, "W")) == "1209600.0"
    assert to_json(datetime.timedelta(hours=-1, microseconds=5)) == "-3599.999995"
    assert to_json(datetime.timedelta(days=1)) == "86400.0"


@pytest.mark.parametrize("dtype", ["m8[M]", "m8[Y]", "m8"])
def test_a_duration_without_a_length_is_an_error(dtype):
    with pytest.raises(TypeError, match="no length in seconds"):
        to_json({"d": np.array([1], dtype)})


def test_structured_arrays_are_objects():
    dtype = [("a", ">i4"), ("b", "f4"), ("c", "S3"), ("d", "i2", (2, 2)), ("e", [("f", "u1"), ("t", "M8[s]")])]
    row = (1, 2.5, b"x", [[1, 2], [3, 4]], (3, "2026-11-29"))
    array = np.array([row, row], dtype)
    expected = {"a": 1, "b": 2.5, "c": "x", "d": [[1, 2], [3, 4]], "e": {"f": 3, "t": "2026-11-29T00:00:00"}}
    assert written(array) == [expected, expected]
    assert written(array[0]) == expected
    assert written(array.view(np.recarray)) == [expected, expected]
    assert written(array.reshape(2, 1)) == [[expected], [expected]]


def test_what_is_masked_is_null():
    array = np.ma.array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]])
    assert written({"m": array, "none": np.ma.masked, "no mask": np.ma.array([1.5])}) == {
        "m": [[1, None], [3, 4]],
        "none": None,
        "no mask": [1.5],
    }
    rows = np.ma.array([(1, 2.0), (3, 4.0)], dtype=[("a", int), ("b", float)], mask=[(1, 0), (0, 1)])
    assert written(rows) == [{"a": None, "b": 2.0}, {"a": 3, "b": None}]
    assert written(rows[0]) == {"a": None, "b": 2.0}


def test_bytes_without_a_type_are_bytes():
    assert written({"a": np.void(b"abc"), "b": np.void(b"\xff")}) == {"a": "abc", "b": {"base64": "/w=="}}


def test_arrays_of_objects_are_written_object_by_object():
    assert written(np.array([None, {"a": np.int8(1)}, b"x"], object)) == [None, {"a": 1}, "x"]
    with pytest.raises(TypeError, match=r'metadata\["a"\]\[1\]\[0\]: `object`'):
        to_json({"a": np.array([[1], [object()]])})


class Quantity(np.ndarray):
    """An array with a unit, as astropy and pint have them."""


def test_an_array_of_another_package_is_refused_because_its_unit_would_be_lost():
    with pytest.raises(TypeError, match=r"Quantity` cannot be written as JSON; return `numpy.asarray\(…\)` of it"):
        to_json({"v": np.zeros(3).view(Quantity)})


def test_large_arrays_are_written_like_small_ones():
    array = np.random.default_rng(3).random((500, 401))[:, ::2]
    assert written(array) == array.tolist()


def test_an_array_that_is_too_large_for_every_topic_is_an_error_and_takes_no_memory():
    with pytest.raises(ValueError, match=r'metadata\["x"\]: .* beyond 1 GB'):
        to_json({"x": np.broadcast_to(np.float64(1), (10**12,))})


# NaN


def test_nan_and_infinities_are_null_or_refused_or_as_python_writes_them():
    values = {"a": [math.nan, math.inf], "b": np.array([-np.inf, 1]), "c": decimal.Decimal("NaN"), "d": np.float32("nan")}
    assert written(values) == {"a": [None, None], "b": [None, 1.0], "c": None, "d": None}
    assert to_json(values, nan="python") == '{"a": [NaN, Infinity], "b": [-Infinity, 1.0], "c": NaN, "d": NaN}'
    with pytest.raises(ValueError, match=r'metadata\["a"\]\[0\]: the value is NaN'):
        to_json(values, nan="error")
    with pytest.raises(ValueError, match=r'metadata\["x"\]\[1\]\[2\]: the value is Infinity'):
        to_json({"x": np.array([[1, 2, 3], [4, 5, np.inf]])}, nan="error")
    with pytest.raises(ValueError, match="use `null`, `error` or `python`"):
        to_json({}, nan="ignore")


def test_what_became_null_is_counted():
    values = {"a": [math.nan, np.inf, None, 1.0], "b": np.array([np.nan, 1]), math.nan: np.datetime64("NaT")}
    assert _engine.to_json_counted(values) == ('{"a": [null, null, null, 1.0], "b": [null, 1.0], "NaN": null}', 4)
    assert _engine.to_json_counted(np.full(20_000, np.nan))[1] == 20_000


def test_a_date_that_is_none_is_null_or_refused():
    assert to_json(np.datetime64("NaT"), nan="python") == "null"
    with pytest.raises(ValueError, match="the value is NaT"):
        to_json([np.timedelta64("NaT", "s")], nan="error")


def test_a_value_that_is_missing_is_null_and_counted_or_refused():
    found = {"angle": pd.NA, "all": pd.array([1, None], dtype="Int64").tolist(), "objects": np.array([pd.NA, 2], dtype=object)}
    assert _engine.to_json_counted(found) == ('{"angle": null, "all": [1, null], "objects": [null, 2]}', 3)
    assert to_json(found, nan="python") == to_json(found)
    with pytest.raises(ValueError, match=r'metadata\["angle"\]: the value is NA, .* allow it with `nan="null"`$'):
        to_json(found, nan="error")


# the other types


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, b"x")


class Level(enum.IntEnum):
    LOW = 1


class Flags(enum.Flag):
    A = 1
    B = 2


@dataclasses.dataclass
class Point:
    x: int
    inner: object = None
    shared: dataclasses.InitVar[int] = 3


class Attributes(collections.abc.Mapping):
    def __getitem__(self, key):
        return {"a": np.int64(1), "b": b"x"}[key]

    def __iter__(self):
        return iter(["a", "b"])

    def __len__(self):
        return 2


class Rows(collections.abc.Sequence):
    def __getitem__(self, index):
        return [1, 2][index]

    def __len__(self):
        return 2


class Cards:
    """Can be iterated over and has a length; is registered as nothing."""

    def __iter__(self):
        return iter(["a", "b"])

    def __len__(self):
        return 2


class Keyed:
    """Has keys; is registered as nothing."""

    def keys(self):
        return ["a", "b"]

    def __getitem__(self, key):
        return key * 2


class Moment:
    def isoformat(self):
        return "2026-11-29T10:00:00Z"


class Place:
    def __fspath__(self):
        return "/data"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"abc \xc3\xbc", "abc ü"),
        (b"\xff\xfe", {"base64": "//4="}),
        (bytearray(b"abc"), "abc"),
        (memoryview(b"abc")[::2], "ac"),
        (memoryview(np.arange(4.0).reshape(2, 2)), [[0.0, 1.0], [2.0, 3.0]]),
        ("caf\udce9", {"base64": "Y2Fm6Q=="}),
        (datetime.date(2026, 11, 29), "2026-11-29"),
        (datetime.time(10, 20, 30, 5), "10:20:30.000005"),
        (datetime.datetime(2026, 11, 29, 10, 0, tzinfo=datetime.timezone.utc), "2026-11-29T10:00:00+00:00"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (pathlib.PurePosixPath("/data/a b"), "/data/a b"),
        (Place(), "/data"),
        (Moment(), "2026-11-29T10:00:00Z"),
        (Colour.RED, "red"),
        (Colour.PAIR, [1, "x"]),
        (Level.LOW, 1),
        (Flags.A | Flags.B, 3),
        (Point(1, Point(2, np.float32(0.5))), {"x": 1, "inner": {"x": 2, "inner": 0.5}}),
        (Attributes(), {"a": 1, "b": "x"}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.UserDict(a=1), {"a": 1}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (Keyed(), {"a": "aa", "b": "bb"}),
        (Rows(), [1, 2]),
        (Cards(), ["a", "b"]),
        (range(3), [0, 1, 2]),
        (collections.deque([1, 2]), [1, 2]),
        ({"b": 1, "a": 2}.keys(), ["b", "a"]),
        ({"b": 1, "a": 2}.values(), [1, 2]),
        ({"b": 1}.items(), [["b", 1]]),
    ],
)
def test_the_other_types_have_a_rule(value, expected):
    assert written({"v": value}) == {"v": expected}


def test_a_memory_map_is_bytes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert to_json(mapped) == '"content"'


def test_a_decimal_is_a_number_with_all_its_digits():
    values = [decimal.Decimal(text) for text in ("1.10", "-0", "1E+5", "123456789012345678901234567890.123")]
    assert json.loads(to_json(values), parse_float=decimal.Decimal, parse_int=decimal.Decimal) == values
    assert to_json(values[0]) == "1.10"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b", "a", "Z", "é", "ü"}, '["Z", "a", "b", "\\u00e9", "\\u00fc"]'),
        ({10, 9, 2.5, -1}, "[-1, 2.5, 9, 10]"),
        (frozenset([np.int8(10), np.int8(9)]), "[9, 10]"),
        ({2**70, 2**70 + 1, 2**70 - 1}, f"[{2**70 - 1}, {2**70}, {2**70 + 1}]"),
        ({datetime.date(2026, 2, 1), datetime.date(2025, 3, 1)}, '["2025-03-01", "2026-02-01"]'),
        ({"a", 1, None, (2, 3)}, '["a", 1, [2, 3], null]'),
        (set(), "[]"),
    ],
)
def test_sets_are_sorted(value, text):
    assert to_json(value) == text


# keys


def test_keys_are_written_as_the_text_of_their_value():
    keys = {
        np.int64(3): 1,
        np.str_("a"): 2,
        b"bytes": 3,
        Colour.RED: 4,
        Level.LOW: 5,
        datetime.date(2026, 11, 29): 6,
        uuid.UUID(int=1): 7,
        math.nan: 8,
        decimal.Decimal("1.5"): 9,
    }
    assert list(written(keys)) == [
        "3", "a", "bytes", "red", "1", "2026-11-29", "00000000-0000-0000-0000-000000000001", "NaN", "1.5",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="NaN"):
        to_json({math.nan: 1}, nan="error")


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ({1: "a", "1": "b"}, ["`int`", "`str`", '"1"']),
        ({"a": 0, "1": "a", 1: "b"}, ["`int`", "`str`", '"1"']),
        ({"true": 1, True: 2}, ["`bool`", "`str`"]),
        ({b"a": 1, "a": 2}, ["`bytes`", "`str`", '"a"']),
        ({1: 1, np.str_("1"): 2}, ["`int`", "`numpy.str_`"]),
        ({Colour.RED: 1, "red": 2}, ["Colour`", "`str`"]),
    ],
)
def test_two_keys_with_the_same_text_are_an_error_that_names_both(value, names):
    with pytest.raises(ValueError, match=r'^metadata\["x"\]: ') as error:
        to_json({"x": value})
    assert all(name in str(error.value) for name in names), error.value


@pytest.mark.parametrize("key", [(1, 2), b"\xff", "\udcff", frozenset([1]), 1j])
def test_a_key_that_is_no_text_is_an_error(key):
    with pytest.raises(TypeError, match=r'^metadata\["x"\]: the key .* is no text'):
        to_json({"x": {key: 1}})


def test_a_mapping_that_has_a_key_twice_is_an_error():
    message = email.message.Message()
    message["Received"] = "one"
    message["Received"] = "two"
    with pytest.raises((TypeError, ValueError), match=r'metadata\["mail"\]'):
        to_json({"mail": message})


# what cannot be written


class Opaque:
    def __init__(self):
        self.value = 3


class Bare:
    __slots__ = ()


class Hollow(dict):
    """A dictionary by its class that keeps what it holds in attributes."""

    def __init__(self):
        self.unit = "mm"


class Listed:
    """Iterating over it gives less than it holds."""

    def __init__(self):
        self.name = "scan"

    def __iter__(self):
        return iter([])

    def __len__(self):
        return 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Opaque(), "`test_to_json.Opaque` cannot be written as JSON; return its `.value`"),
        (Bare(), "`test_to_json.Bare` cannot be written as JSON; return the numbers"),
        (object(), "`object` cannot be written as JSON"),
        (Hollow(), "`test_to_json.Hollow` cannot be written as JSON; return the attributes that you need, such as its `.unit`"),
        (Listed(), "`test_to_json.Listed` cannot be written as JSON; return the attributes"),
        (Opaque, "`type` cannot be written as JSON; it is a class"),
        (len, "it is a function: call it"),
        (iter([]), "it is an iterator: return `list(…)`"),
        (io.BytesIO(), "it is an open file"),
        (ValueError("x"), "return its text"),
        (fractions.Fraction(1, 3), "return `float(…)` of it"),
        (xml.etree.ElementTree.fromstring("<a b='1'>text</a>"), "return its `.attrib`"),
        (threading.Lock(), "cannot be written as JSON"),
    ],
)
def test_an_object_without_a_rule_is_an_error_with_path_type_and_remedy(value, message):
    with pytest.raises(TypeError) as error:
        to_json({"Well": [0, {"x": value}]})
    assert str(error.value).startswith('metadata["Well"][1]["x"]: ')
    assert message in str(error.value)


def test_nothing_is_written_as_its_str():
    class Sneaky:
        def __str__(self):
            raise AssertionError("asked for its text")

        __repr__ = __str__

    with pytest.raises(TypeError):
        to_json({"a": Sneaky()})


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\ud83d\ude00"])
def test_half_of_a_utf_16_pair_is_an_error(text):
    if text == "\ud83d\ude00":
        text = "\ud83d" + "\ude00"
    with pytest.raises(ValueError, match=r'metadata\["a"\]: the text holds one half of a UTF-16 pair'):
        to_json({"a": text})


def test_an_object_that_holds_itself_is_an_error():
    value = {"list": []}
    value["list"].append({"again": value})
    with pytest.raises(ValueError, match=r'metadata\["list"\]\[0\]\["again"\]: the value is one of the objects around it'):
        to_json(value)
    array = np.array([None], object)
    array[0] = array
    with pytest.raises(ValueError, match="the value is one of the objects around it"):
        to_json(array)


def test_an_object_that_stands_in_two_places_is_written_twice():
    shared = [1]
    assert to_json({"a": shared, "b": [shared, shared]}) == '{"a": [1], "b": [[1], [1]]}'


def nested(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def test_500_levels_are_written_and_more_are_an_error():
    assert to_json(nested(500)) == "[" * 500 + "1" + "]" * 500
    for levels in (501, 100_000):
        with pytest.raises(ValueError, match="more than 500 levels deep") as error:
            to_json(nested(levels))
        assert len(str(error.value)) < 200


def test_what_makes_new_objects_without_end_is_an_error():
    class Endless:
        def keys(self):
            return ["a"]

        def __getitem__(self, key):
            return Endless()

    with pytest.raises(ValueError, match="more than 500 levels deep"):
        to_json(Endless())


def test_500_levels_fit_into_a_quarter_of_the_usual_stack():
    before = threading.stack_size(2 * 1024 * 1024)
    texts = []
    try:
        thread = threading.Thread(target=lambda: texts.append(to_json(nested(500))))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert texts == ["[" * 500 + "1" + "]" * 500]


def test_an_exception_of_the_object_comes_back_with_the_path():
    class Broken(collections.abc.Mapping):
        def __getitem__(self, key):
            raise OSError("the file is closed")

        def __iter__(self):
            return iter(["a"])

        def __len__(self):
            return 1

    with pytest.raises(OSError, match="the file is closed") as error:
        to_json({"attributes": [Broken()]})
    assert error.value.__notes__ == ['raised while `metadata["attributes"][0]` was written as JSON']


def test_an_error_leaves_nothing_behind():
    value = {"a": [object()]}
    with pytest.raises(TypeError):
        to_json(value)
    value["a"][0] = 1
    assert to_json(value) == '{"a": [1]}'


# default


def test_default_is_asked_for_what_has_no_rule_and_its_answer_is_written():
    assert written({"a": Opaque(), "b": 1j}, default=lambda x: {"value": np.int8(x.value)}) == {
        "a": {"value": 3},
        "b": [0.0, 1.0],
    }
    assert written(fractions.Fraction(1, 2), default=float) == 0.5
    assert written({"a": Hollow()}, default=vars) == {"a": {"unit": "mm"}}


def test_default_that_answers_with_the_object_is_an_error():
    with pytest.raises(ValueError, match=r'metadata\["a"\]: the value is one of the objects around it'):
        to_json({"a": Opaque()}, default=lambda x: x)


def test_an_exception_of_default_comes_back():
    with pytest.raises(ZeroDivisionError):
        to_json(Opaque(), default=lambda x: 1 / 0)


# properties


def any_value(draw, depth):
    leaves = [
        lambda: None,
        lambda: draw.choice([True, False]),
        lambda: draw.randint(-(10 ** draw.randint(0, 40)), 10 ** draw.randint(0, 40)),
        lambda: struct.unpack("<d", draw.randbytes(8))[0],
        lambda: "".join(chr(draw.choice([9, 34, 65, 92, 127, 233, 0x20AC, 0x1F600])) for _ in range(draw.randint(0, 8))),
        lambda: draw.randbytes(draw.randint(0, 6)),
        lambda: np.frombuffer(draw.randbytes(48), draw.choice("<f8 >f4 <f2 >i8 <i2 u1 ?".split()).replace("?", "u1")),
        lambda: np.frombuffer(draw.randbytes(32), draw.choice(["<M8[ms]", ">M8[D]"]))
        if draw.random() < 0.1
        else np.datetime64(draw.randint(0, 10**12), "ms"),
        lambda: np.dtype(draw.choice("bhlefd")).type(draw.randint(-100, 100)),
        lambda: datetime.datetime(2000, 1, 1) + datetime.timedelta(microseconds=draw.randint(0, 10**15)),
        lambda: decimal.Decimal(draw.randint(-(10**30), 10**30)).scaleb(draw.randint(-20, 20)),
        lambda: draw.choice(list(Colour)),
    ]
    if depth == 0 or draw.random() < 0.4:
        return draw.choice(leaves)()
    several = [any_value(draw, depth - 1) for _ in range(draw.randint(0, 4))]
    if draw.random() < 0.5:
        return draw.choice([list, tuple, collections.deque])(several)
    return {draw.choice([str(n), n + 100, f"ü{n}"]): value for n, value in enumerate(several)}


def test_what_json_loads_gives_back_is_what_the_rules_say():
    for seed in range(3_000):
        draw = random.Random(seed)
        value = any_value(draw, 4)
        text = to_json(value)
        assert text.isascii()
        assert loads(text) == rules.expected(value), seed


def test_the_text_is_the_same_in_each_run(tmp_path):
    program = "from datamill import to_json; print(to_json({'s': {'a', 'b', 'c', b'x', 1, (2, 'y')}}))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(texts) == 1


def test_threads_that_change_a_dictionary_meanwhile_end_no_other():
    shared = {str(n): [n] for n in range(1000)}
    done = threading.Event()

    def change():
        n = 0
        while not done.is_set():
            shared[f"new {n % 50}"] = [n]
            shared.pop(f"new {(n + 25) % 50}", None)
            n += 1

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(50):
            assert len(written(shared)) >= 1000
    finally:
        done.set()
        changer.join()


# documents


def test_the_examples_of_the_documents_run():
    page = pathlib.Path(__file__).resolve().parents[2] / "docs" / "python.md"
    examples = [block.partition("```")[0] for block in page.read_text().split("```python\n")[1:]]
    examples = [example for example in examples if "datamill.to_json(" in example]
    assert examples
    for example in examples:
        exec(compile(example, page, "exec"), {})


def test_the_examples_of_the_docstring_give_what_they_show():
    [tests] = doctest.DocTestFinder().find(to_json, "to_json", module=False, globs={})
    assert tests.examples
    assert doctest.DocTestRunner().run(tests).failed == 0
