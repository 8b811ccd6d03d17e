//! The errors of `datamill._errors`, raised from here.

use std::error::Error;

use datamill::engine::EngineError;
use datamill::program::{Exit, why};
use datamill::report::chain;
use pyo3::prelude::*;

/// A function of Python through which the texts of errors and summaries go, which speak of options: where a program has
/// keywords, they speak of these.
pub struct Speech(pub Option<Py<PyAny>>);

impl Speech {
    /// What is said in place of a text.
    pub fn of(&self, py: Python<'_>, text: String) -> String {
        let said = self.0.as_ref().map(|speak| speak.call1(py, (&text,)).and_then(|said| said.extract(py)));
        said.and_then(Result::ok).unwrap_or(text)
    }
}

/// What keeps a program from starting, or breaks it off, with the exit code that says which.
pub fn of_program(py: Python<'_>, error: &(dyn Error + 'static), exit: Exit, speech: &Speech) -> PyErr {
    let text = match error.downcast_ref() {
        // what the function said is its own
        Some(EngineError::Stopped { .. }) => chain(error),
        _ => speech.of(py, why(error)),
    };
    raised(py, if exit == Exit::SetUp { "SetUpError" } else { "RunError" }, (text, exit.code()))
}

/// The command line is wrong.
pub fn set_up(py: Python<'_>, text: String) -> PyErr {
    raised(py, "SetUpError", (text, Exit::SetUp.code()))
}

/// The error class of this name.
pub fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("datamill._errors")?.getattr(name)
}

/// The error of this class.
pub fn raised<'py>(py: Python<'py>, name: &str, arguments: impl pyo3::call::PyCallArgs<'py>) -> PyErr {
    match class(py, name).and_then(|class| class.call1(arguments)) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}
