//! The module `datamill._engine`: the engine as Python sees it.

#![allow(missing_docs, reason = "the names of this crate are documented in _engine.pyi")]

use pyo3::prelude::*;

#[pymodule]
mod _engine {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
