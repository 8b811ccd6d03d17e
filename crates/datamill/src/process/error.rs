//! How user code says that something went wrong.

use std::error::Error;
use std::fmt;

/// What the program does about a [`ProcessingError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// This file failed: recorded, and the program goes on with other files.
    FileFailed,
    /// Something that all files need is not available: the program holds, keeps its place in the
    /// group, and tries again; the file is neither skipped nor counted as failed.
    NotAvailable,
    /// The program stops. The file counts as not processed.
    Stop,
}

/// An error of user code. Any error turns into one of kind [`ErrorKind::FileFailed`] by `?`.
///
/// ```
/// # use datamill::process::{ErrorKind, ProcessingError};
/// fn parse(text: &str) -> Result<f64, ProcessingError> {
///     Ok(text.parse::<f64>()?)
/// }
/// assert_eq!(parse("x").unwrap_err().kind(), ErrorKind::FileFailed);
/// ```
#[derive(Debug)]
pub struct ProcessingError {
    kind: ErrorKind,
    message: String,
}

impl ProcessingError {
    /// This file failed.
    pub fn file_failed(message: impl fmt::Display) -> Self {
        Self { kind: ErrorKind::FileFailed, message: message.to_string() }
    }

    /// Something that all files need is not available for the moment.
    pub fn not_available(message: impl fmt::Display) -> Self {
        Self { kind: ErrorKind::NotAvailable, message: message.to_string() }
    }

    /// The program must stop.
    pub fn stop(message: impl fmt::Display) -> Self {
        Self { kind: ErrorKind::Stop, message: message.to_string() }
    }

    /// What the program does about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for ProcessingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// `ProcessingError` is no `std::error::Error` itself, so that this conversion can exist.
impl<E: Error + Send + Sync + 'static> From<E> for ProcessingError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            cause = inner.source();
        }
        Self { kind: ErrorKind::FileFailed, message }
    }
}
