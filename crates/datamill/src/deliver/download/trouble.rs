//! What goes wrong with a folder, in words, and whether it passes: what concerns the folder holds
//! everything and is tried again; what one file's name or size causes is that file's failure.

use std::io::{self, ErrorKind as Io};
use std::path::Path;

pub(super) use super::super::folder::with_folder;
use crate::process::ProcessingError;

/// Something that came up when the content was written.
pub(super) fn with_content(folder: &Path, error: &io::Error) -> ProcessingError {
    match error.kind() {
        Io::FileTooLarge => ProcessingError::file_failed("it is larger than the file system allows"),
        _ => with_folder(folder, error),
    }
}

/// Something that came up when the path was looked at or made.
pub(super) fn with_name(folder: &Path, path: &str, error: &io::Error) -> ProcessingError {
    let why = match error.kind() {
        Io::InvalidFilename | Io::InvalidInput => "its file system cannot hold this name (is it too long?)",
        Io::NotADirectory | Io::AlreadyExists => "a file is where one of its folders must be",
        Io::IsADirectory | Io::DirectoryNotEmpty => "a folder has its name",
        Io::PermissionDenied => "this account may not write in its folder; the next start tries again",
        Io::CrossesDevices => "its folder is on another file system; download that folder by a program of its own",
        _ => return with_folder(folder, error),
    };
    ProcessingError::file_failed(format_args!("`{path}` cannot be put into `{}`: {why}", folder.display()))
}
