//! Dictionaries of Python become JSON: what readers of instrument files return, and what functions of users answer.
//!
//! ```text
//! object ──▶ classes: what is it? ──▶ write: one value after the other ──▶ sink: text, and the count of NaN
//!                                        │  arrays: numpy, all elements at once
//!                                        │  readers: classes of packages that need a rule of their own
//!                                        └▶ failure: the path to the object, why, and what to do
//! ```
//!
//! Classes are known by what they can do, and where that is not enough by the name of the module and the class. Nothing
//! is imported for it. An object that no rule knows is an error and never becomes its `str()`: that holds addresses and
//! the time, so results would differ from run to run. What `json.dumps` writes without a loss is written as the same
//! text, byte for byte.

mod arrays;
mod classes;
mod failure;
mod readers;
mod sink;
mod write;

use std::str::FromStr;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// What is written in place of NaN, of the infinities, of dates that are none (`NaT`) and of missing values (`pandas.NA`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nan {
    /// `null`.
    #[default]
    Null,
    /// Nothing: the dictionary is refused.
    Error,
    /// `NaN`, `Infinity` and `-Infinity` as `json.dumps` writes them, which is not JSON; `null` for `NaT` and `NA`.
    Python,
}

impl Nan {
    /// As the option has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Error => "error",
            Self::Python => "python",
        }
    }
}

impl FromStr for Nan {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "null" => Ok(Self::Null),
            "error" => Ok(Self::Error),
            "python" => Ok(Self::Python),
            _ => Err(format!("`nan` is `{word}`: use `null`, `error` or `python`")),
        }
    }
}

/// What to return in place of an object that is no result, where a rule refuses its class.
pub fn remedy(object: &Bound<'_, PyAny>) -> Option<&'static str> {
    match classes::look(object) {
        Ok(classes::Kind::Refused(remedy)) => Some(remedy),
        _ => None,
    }
}

/// How a dictionary is written.
#[derive(Debug, Default)]
pub struct Options {
    /// What becomes of NaN.
    pub nan: Nan,
    /// Called with an object that no rule knows; what it returns is written in the object's place.
    pub default: Option<Py<PyAny>>,
    /// Whether it is a result, and an option of a command line says what becomes of NaN.
    pub of_program: bool,
}

/// A dictionary as text.
#[derive(Debug)]
pub struct Dumped {
    /// The JSON text.
    pub text: String,
    /// How many values were NaN, infinite, `NaT` or `NA`.
    pub nans: u64,
}

/// Writes an object as JSON.
///
/// # Errors
/// `TypeError` for a class that no rule knows, `ValueError` for a value that JSON cannot hold; both name the path to
/// the object. An exception of the object's own methods, or of `default`, comes back as it is, with the path as a note.
pub fn dump(object: &Bound<'_, PyAny>, options: &Options) -> PyResult<Dumped> {
    let mut writer = write::Writer::new(object.py(), options);
    match writer.value(object) {
        Ok(()) => Ok(writer.finish()),
        Err(failure) => Err(failure.into_error(object.py())),
    }
}

/// Write a dictionary as JSON.
///
/// Takes what readers of instrument files return: besides the types of `json.dumps` also numpy scalars and arrays,
/// bytes, dates, sets, paths, enumerations, dataclasses, mappings and sequences of any class. The text is always
/// valid JSON, unless `nan="python"` is given. What `json.dumps` writes without a loss comes out as the same text.
///
/// Parameters
/// ----------
/// dictionary : Mapping
///     What to write. Any other object that can be written is taken as well.
/// nan : {"null", "error", "python"}, default "null"
///     What becomes of NaN and of the infinities: ``null``, an error, or the words ``NaN``, ``Infinity`` and
///     ``-Infinity`` as `json.dumps` writes them, which is not JSON. ``NaT`` and `pandas.NA` are ``null``, or an error.
/// default : callable, optional
///     Called with each object that no rule knows. What it returns is written in the object's place.
///
/// Returns
/// -------
/// str
///     The JSON text, in ASCII.
///
/// Raises
/// ------
/// TypeError
///     For an object that no rule knows and for a key that is no text. Names the path to it, its type and a remedy.
/// ValueError
///     For two keys with the same text, an object that holds itself, more than 500 levels, more than 1 GB of text,
///     and with ``nan="error"`` for NaN.
///
/// Examples
/// --------
/// >>> import datamill, datetime
/// >>> datamill.to_json({"started": datetime.date(2026, 11, 29), "angle": (10.0, float("nan")), "raw": b"\xff"})
/// '{"started": "2026-11-29", "angle": [10.0, null], "raw": {"base64": "/w=="}}'
#[pyfunction]
#[pyo3(signature = (dictionary, nan = "null", default = None))]
pub fn to_json(dictionary: &Bound<'_, PyAny>, nan: &str, default: Option<Py<PyAny>>) -> PyResult<String> {
    to_json_counted(dictionary, nan, default).map(|(text, _)| text)
}

/// The text, and how many values were NaN, infinite, `NaT` or `NA`.
#[pyfunction]
#[pyo3(signature = (dictionary, nan = "null", default = None))]
pub fn to_json_counted(
    dictionary: &Bound<'_, PyAny>,
    nan: &str,
    default: Option<Py<PyAny>>,
) -> PyResult<(String, u64)> {
    let nan = nan.parse().map_err(PyValueError::new_err)?;
    let dumped = dump(dictionary, &Options { nan, default, of_program: false })?;
    Ok((dumped.text, dumped.nans))
}
