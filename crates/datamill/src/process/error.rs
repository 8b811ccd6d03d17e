//! How user code says that something went wrong.

use std::error::Error;
use std::fmt;

use crate::report::chain;

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

/// An error of user code. Any error and any text turns into one of kind [`ErrorKind::FileFailed`] by
/// `?` and by `into()`.
///
/// ```
/// # use datamill::process::{ErrorKind, ProcessingError};
/// fn angle(line: &str) -> Result<f64, ProcessingError> {
///     let (angle, _) = line.split_once(',').ok_or("no comma in the line")?;
///     Ok(angle.parse()?)
/// }
/// assert_eq!(angle("10").unwrap_err().to_string(), "no comma in the line");
/// assert_eq!(angle("x,1").unwrap_err().kind(), ErrorKind::FileFailed);
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

// `ProcessingError` is no `std::error::Error` itself, so that this conversion can exist. It takes texts,
// errors, and boxed errors of any library.
impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for ProcessingError {
    fn from(error: E) -> Self {
        Self::file_failed(chain(error.into().as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_errors_become_failures_of_the_file() {
        fn text(line: Option<&str>) -> Result<&str, ProcessingError> {
            Ok(line.ok_or("no header")?)
        }
        fn owned(line: &str) -> Result<(&str, &str), ProcessingError> {
            Ok(line.split_once(',').ok_or_else(|| format!("no pair: `{line}`"))?)
        }
        fn boxed() -> Result<(), ProcessingError> {
            let outer = datamill_broker::Error::with_source(
                datamill_broker::ErrorKind::Fatal,
                "outer",
                std::io::Error::other("inner"),
            );
            Ok(Err(Box::<dyn Error + Send + Sync>::from(outer))?)
        }
        for (error, message) in [
            (text(None).unwrap_err(), "no header"),
            (owned("x").unwrap_err(), "no pair: `x`"),
            (boxed().unwrap_err(), "outer: inner"),
        ] {
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::FileFailed, message));
        }
    }
}
