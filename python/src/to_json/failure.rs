//! Why an object cannot be written: the path to it, the reason, and what to do.

use std::fmt::Write as _;

use pyo3::exceptions::{PyBaseException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use super::sink;

/// An object that cannot be written. The path grows while the failure passes the containers on its way out, so that it
/// costs nothing where all is well.
#[derive(Debug)]
pub(super) struct Failure(Box<Inner>);

#[derive(Debug)]
struct Inner {
    reason: Reason,
    /// The innermost step comes first.
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Reason {
    Type(String),
    Value(String),
    Raised(PyErr),
}

#[derive(Debug)]
enum Step {
    /// As JSON, with quotation marks.
    Key(String),
    Index(usize),
}

/// A longer key is cut in messages, in characters.
const LONGEST_KEY: usize = 60;

/// Steps of a path that messages name, at its beginning and its end.
const OUTER_STEPS: usize = 8;
const INNER_STEPS: usize = 4;

pub(super) type Written = Result<(), Failure>;

impl Failure {
    fn new(reason: Reason) -> Self {
        Self(Box::new(Inner { reason, steps: Vec::new() }))
    }

    /// A class that cannot be written.
    pub(super) fn of_type(text: impl Into<String>) -> Self {
        Self::new(Reason::Type(text.into()))
    }

    /// A value that cannot be written.
    pub(super) fn of_value(text: impl Into<String>) -> Self {
        Self::new(Reason::Value(text.into()))
    }

    /// The object is the value of this key, which is JSON.
    pub(super) fn under(mut self, key: &str) -> Self {
        let mut text: String = key.chars().take(LONGEST_KEY).collect();
        if text.len() < key.len() {
            text.push_str("…\"");
        }
        self.0.steps.push(Step::Key(text));
        self
    }

    /// The object is this element of a list.
    pub(super) fn at(mut self, index: usize) -> Self {
        self.0.steps.push(Step::Index(index));
        self
    }

    /// The exception that Python sees.
    pub(super) fn into_error(self, py: Python<'_>) -> PyErr {
        let mut path = "metadata".to_owned();
        let depth = self.0.steps.len();
        for (number, step) in self.0.steps.iter().rev().enumerate() {
            if (OUTER_STEPS..depth.saturating_sub(INNER_STEPS)).contains(&number) {
                if number == OUTER_STEPS {
                    path.push('…');
                }
                continue;
            }
            let _ = match step {
                Step::Key(key) => write!(path, "[{key}]"),
                Step::Index(index) => write!(path, "[{index}]"),
            };
        }
        match self.0.reason {
            Reason::Type(text) => PyTypeError::new_err(format!("{path}: {text}")),
            Reason::Value(text) => PyValueError::new_err(format!("{path}: {text}")),
            Reason::Raised(error) => {
                let note = format!("raised while `{path}` was written as JSON");
                // an exception that takes no note is still the right one
                let _ = error.add_note(py, note.as_str());
                error
            }
        }
    }
}

impl<E> From<E> for Failure
where
    PyErr: From<E>,
{
    fn from(error: E) -> Self {
        Self::new(Reason::Raised(error.into()))
    }
}

/// An object that no rule knows, with a remedy drawn from what it offers.
pub(super) fn unknown(object: &Bound<'_, PyAny>) -> Failure {
    refused(object, &remedy(object))
}

/// An object that must not be written, although a rule for what it can do would write something.
pub(super) fn refused(object: &Bound<'_, PyAny>, remedy: &str) -> Failure {
    Failure::of_type(format!("`{}` cannot be written as JSON; {remedy}", name_of(&object.get_type())))
}

/// `module.Class`, without the module of built-in classes.
pub(super) fn name_of(class: &Bound<'_, PyType>) -> String {
    let name = class.fully_qualified_name().map(|name| name.to_string());
    name.unwrap_or_else(|_| "an object without a name".to_owned())
}

fn remedy(object: &Bound<'_, PyAny>) -> String {
    let class = object.get_type();
    let class_has = |name: &str| class.hasattr(name).unwrap_or(false);
    if object.is_instance_of::<PyBaseException>() {
        return "return its text, `str(…)` of it".to_owned();
    }
    if object.is_instance_of::<PyType>() {
        return "it is a class: return its `.__name__`, or an object of it".to_owned();
    }
    if class_has("read") && (class_has("close") || class_has("__next__")) {
        return "it is an open file: return what was read from it, or leave it out".to_owned();
    }
    if class_has("__next__") {
        return "it is an iterator: return `list(…)` of it".to_owned();
    }
    if class_has("__array__") {
        return "return `numpy.asarray(…)` of it, and its units, axes and attributes under keys of their own"
            .to_owned();
    }
    for method in ["to_dict", "as_dict", "as_dictionary", "_asdict", "asdict", "tolist"] {
        if class_has(method) {
            return format!("return its `.{method}()`");
        }
    }
    if object.is_callable() {
        return "it is a function: call it, and return the result".to_owned();
    }
    if class_has("value") || attributes(object).iter().any(|name| name == "value") {
        return "return its `.value`".to_owned();
    }
    match attributes(object).first() {
        Some(name) => format!("return the attributes that you need, such as its `.{name}`"),
        None => "return the numbers, texts, lists and dictionaries that it is made of".to_owned(),
    }
}

/// The names of the object's own attributes that do not begin with `_`.
pub(super) fn attributes(object: &Bound<'_, PyAny>) -> Vec<String> {
    let own = object.getattr_opt("__dict__").ok().flatten();
    let Some(Ok(own)) = own.map(|own| own.cast_into::<PyDict>()) else { return Vec::new() };
    let names = own.keys();
    names.iter().filter_map(|name| name.extract::<String>().ok()).filter(|name| !name.starts_with('_')).collect()
}

/// The failure of a value of which JSON has none.
pub(super) fn not_finite(word: &str, allows: &str) -> Failure {
    Failure::of_value(format!("the value is {word}, which JSON does not have; replace it, or allow it with {allows}"))
}

/// The failure of a text that is larger than any topic takes.
pub(super) fn too_large() -> Failure {
    Failure::of_value(format!(
        "with it the text grows beyond {} GB; leave large data out of the metadata",
        sink::LARGEST_TEXT / 1_000_000_000
    ))
}
