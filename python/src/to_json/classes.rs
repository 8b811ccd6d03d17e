//! What an object is: by the names of its class and of the classes that it inherits from, then by what it can do.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyComplex, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple, PyType};

/// How an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `numpy.ndarray`.
    Array,
    /// `numpy.ma.MaskedArray`: what is masked is `null`.
    MaskedArray,
    /// A scalar of numpy.
    Scalar,
    Enum,
    Decimal,
    /// `datetime.timedelta`: seconds.
    Duration,
    /// Its `str()` is its whole value, and the same in each run.
    Text,
    Path,
    Integer,
    Float,
    Complex,
    Str,
    Bytes,
    /// `bytearray`, `memoryview` and `mmap`.
    Buffer,
    /// An object of a dataclass: its fields.
    Dataclass,
    /// Registered with `collections.abc.Mapping`.
    Mapping,
    /// Has `keys()` and `[…]` without being registered.
    Keyed,
    List,
    Set,
    /// A date or a time, by its `isoformat()`.
    Date,
    /// A value that is missing: counted as NaN is.
    Missing,
    /// Has a length and can be iterated over, without being registered as a sequence.
    Iterable,
    /// A class that a package brings, with a rule of its own.
    Reader(Reader),
    /// What the rules of a list or a mapping would write loses the most of it.
    Refused(&'static str),
    Unknown,
}

/// Classes of packages with a rule of their own; see `readers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    AfmLazyValue,
    AstropyHeader,
    DicomDataset,
    LasioItem,
    LasioSection,
    LaspyEncoding,
    LaspyVlr,
    MatlabStruct,
    NoValue,
    ObspyTime,
    PillowRational,
    SparseMatrix,
}

const NUMBERS_ALONE: &str =
    "return `numpy.asarray(…)` of it, and its units, axes and attributes under keys of their own";
const XML: &str = "return its `.attrib`, its `.text` and what you need of its children";

/// Module (the first part of its name is enough) and class, and how its objects are written.
const NAMES: &[(&str, &str, Kind)] = &[
    ("numpy.ma", "MaskedArray", Kind::MaskedArray),
    ("numpy", "ndarray", Kind::Array),
    ("numpy", "generic", Kind::Scalar),
    ("enum", "Enum", Kind::Enum),
    ("decimal", "Decimal", Kind::Decimal),
    ("datetime", "timedelta", Kind::Duration),
    ("uuid", "UUID", Kind::Text),
    ("pathlib", "PurePath", Kind::Path),
    ("mmap", "mmap", Kind::Buffer),
    ("afmformats", "LazyMetaValue", Kind::Reader(Reader::AfmLazyValue)),
    ("astropy.io.fits", "Header", Kind::Reader(Reader::AstropyHeader)),
    ("astropy.io.fits", "Undefined", Kind::Reader(Reader::NoValue)),
    ("h5py", "Empty", Kind::Reader(Reader::NoValue)),
    ("lasio", "HeaderItem", Kind::Reader(Reader::LasioItem)),
    ("lasio", "SectionItems", Kind::Reader(Reader::LasioSection)),
    ("laspy", "GlobalEncoding", Kind::Reader(Reader::LaspyEncoding)),
    ("laspy", "IVLR", Kind::Reader(Reader::LaspyVlr)),
    ("obspy", "UTCDateTime", Kind::Reader(Reader::ObspyTime)),
    ("PIL", "IFDRational", Kind::Reader(Reader::PillowRational)),
    ("pydicom", "Dataset", Kind::Reader(Reader::DicomDataset)),
    ("pydicom", "PersonName", Kind::Text),
    // the name of a field
    ("segyio", "Enum", Kind::Text),
    ("scipy.io.matlab", "mat_struct", Kind::Reader(Reader::MatlabStruct)),
    ("scipy.sparse", "_spbase", Kind::Reader(Reader::SparseMatrix)),
    ("lxml.etree", "_Element", Kind::Refused(XML)),
    ("xml.etree.ElementTree", "Element", Kind::Refused(XML)),
    ("fractions", "Fraction", Kind::Refused("return `float(…)` of it, or its `.numerator` and `.denominator`")),
    ("pandas", "DataFrame", Kind::Refused("return its `.to_dict(\"list\")`")),
    ("pandas", "Series", Kind::Refused("return its `.to_dict()` or its `.tolist()`")),
    ("pandas", "NAType", Kind::Missing),
    ("pandas", "Index", Kind::Refused("return its `.tolist()`")),
    ("xarray", "Dataset", Kind::Refused("return its `.to_dict(data=False)`")),
    ("xarray", "DataArray", Kind::Refused("return its `.to_dict(data=False)`")),
];

/// What the classes of one dictionary are; each is looked at once.
#[derive(Debug, Default)]
pub(super) struct Classes<'py>(HashMap<usize, (Bound<'py, PyType>, Kind)>);

impl<'py> Classes<'py> {
    pub(super) fn kind(&mut self, object: &Bound<'py, PyAny>) -> PyResult<Kind> {
        let class = object.get_type_ptr() as usize;
        if let Some((_, kind)) = self.0.get(&class) {
            return Ok(*kind);
        }
        let kind = look(object)?;
        // the class is kept, so that no other one gets its address meanwhile
        self.0.insert(class, (object.get_type(), kind));
        Ok(kind)
    }
}

pub(super) fn look(object: &Bound<'_, PyAny>) -> PyResult<Kind> {
    let class = object.get_type();
    if let Some(kind) = by_name(&class)? {
        return Ok(kind);
    }
    let has = |name: &str| class.hasattr(name);
    let kind = if object.is_instance_of::<PyInt>() {
        Kind::Integer
    } else if object.is_instance_of::<PyFloat>() {
        Kind::Float
    } else if object.is_instance_of::<PyComplex>() {
        Kind::Complex
    } else if object.is_instance_of::<PyString>() {
        Kind::Str
    } else if object.is_instance_of::<PyBytes>() {
        Kind::Bytes
    } else if is_one_of(object, "builtins", &["bytearray", "memoryview"])? {
        Kind::Buffer
    } else if has("__dataclass_fields__")? {
        Kind::Dataclass
    } else if object.is_instance_of::<PyDict>() || object.cast::<PyMapping>().is_ok() {
        Kind::Mapping
    } else if object.is_instance_of::<PyType>() {
        Kind::Unknown
    } else if object.is_instance_of::<PyList>() || object.is_instance_of::<PyTuple>() {
        Kind::List
    } else if is_one_of(object, "collections.abc", &["KeysView", "ItemsView"])? {
        // sets, but in the order of their dictionary
        Kind::List
    } else if is_one_of(object, "collections.abc", &["Set"])? {
        Kind::Set
    } else if has("isoformat")? {
        Kind::Date
    } else if has("__array__")? {
        Kind::Refused(NUMBERS_ALONE)
    } else if is_one_of(object, "collections.abc", &["Sequence"])? {
        Kind::List
    } else if has("keys")? && has("__getitem__")? {
        Kind::Keyed
    } else if has("__len__")? && has("__iter__")? {
        Kind::Iterable
    } else if has("__fspath__")? {
        Kind::Path
    } else {
        Kind::Unknown
    };
    Ok(kind)
}

/// The nearest class that the table knows.
fn by_name(class: &Bound<'_, PyType>) -> PyResult<Option<Kind>> {
    for ancestor in class.mro() {
        let ancestor = ancestor.cast_into::<PyType>()?;
        let (module, name) = (ancestor.module()?, ancestor.qualname()?);
        let (module, name) = (module.to_string_lossy(), name.to_string_lossy());
        let known = NAMES.iter().find(|(place, class, _)| *class == name && lies_in(&module, place));
        let Some((.., kind)) = known else { continue };
        if matches!(kind, Kind::Array | Kind::MaskedArray) && !lies_in(&class.module()?.to_string_lossy(), "numpy") {
            // a class of another package that adds a unit, a scale or axes to the numbers
            return Ok(Some(Kind::Refused(NUMBERS_ALONE)));
        }
        return Ok(Some(*kind));
    }
    Ok(None)
}

fn lies_in(module: &str, place: &str) -> bool {
    module.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether it is an instance of one of these classes of the standard library.
fn is_one_of(object: &Bound<'_, PyAny>, module: &str, classes: &[&str]) -> PyResult<bool> {
    let module = object.py().import(module)?;
    for class in classes {
        if object.is_instance(&module.getattr(*class)?)? {
            return Ok(true);
        }
    }
    Ok(false)
}
