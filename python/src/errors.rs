//! The errors of `datamill._errors`, raised from here.

use std::error::Error;

use datamill::program::Exit;
use datamill::report::chain;
use pyo3::prelude::*;

/// What keeps a program from starting, or breaks it off, with the exit code that says which.
pub fn of_program(py: Python<'_>, error: &(dyn Error + 'static), exit: Exit) -> PyErr {
    raised(py, if exit == Exit::SetUp { "SetUpError" } else { "RunError" }, (chain(error), exit.code()))
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
