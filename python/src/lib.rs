//! The module `datamill._engine`: the engine as Python sees it.
//!
//! ```text
//!  Python: threading.Thread ──▶ Engine.work: takes a job, calls the function, says what it answered
//!                                   ▲ │
//!                              Desk │ │ a channel of each job
//!                                   │ ▼
//!  Rust: the engine's threads ──▶ port.rs: puts a whole file on the desk, and waits for the answer
//! ```
//!
//! No thread of the engine ever touches an object of Python, so none of them waits for the interpreter, and the
//! interpreter may end while they run. What they print is kept in `lines.rs`, until a thread of Python prints it.

#![allow(missing_docs, reason = "what Python sees is documented in _engine.pyi")]

mod command;
mod command_line;
mod engine;
mod errors;
mod file;
mod leave;
mod lines;
mod local;
mod read;
mod sending;
mod serve;
mod status;
mod to_json;

use pyo3::prelude::*;

#[pymodule]
mod _engine {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::command::{FunctionCommand, RustCommand, keep, keep_warm, parse_command};
    #[pymodule_export]
    use crate::command_line::options;
    #[pymodule_export]
    use crate::engine::{Ended, Engine};
    #[pymodule_export]
    use crate::file::DownloadDataFile;
    #[pymodule_export]
    use crate::leave::leave_within;
    #[pymodule_export]
    use crate::lines::{log, print_text, printing, take_lines};
    #[pymodule_export]
    use crate::local::{largest_entry, try_file};
    #[pymodule_export]
    use crate::read::{Message, Messages};
    #[pymodule_export]
    use crate::sending::{Sending, Uploaded};
    #[pymodule_export]
    use crate::serve::serve;
    #[pymodule_export]
    use crate::status::status_ports;
    #[pymodule_export]
    use crate::to_json::{to_json, to_json_counted};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("EMBEDDED_TAKES", datamill::broker::LARGEST_EMBEDDED)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
