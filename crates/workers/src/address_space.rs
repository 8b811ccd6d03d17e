//! RLIMIT_AS of what is started.

use std::ffi::OsString;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::CommandError;

/// A shell that limits the address space of what takes its place. What it is given are words, and none of them is code.
const SHELL: &str = "/bin/sh";
const LIMITED: &str = "ulimit -v \"$0\" && exec \"$@\"";

/// Refuses more than this process may hand on.
pub(crate) fn check(wanted: Option<u64>) -> Result<(), CommandError> {
    match (wanted, getrlimit(Resource::As).maximum) {
        (Some(wanted), Some(limit)) if wanted > limit => Err(CommandError::AddressSpace { wanted, limit }),
        _ => Ok(()),
    }
}

/// The program and the words that start it with so much address space, in bytes.
pub(crate) fn limited(
    program: &Path,
    words: impl Iterator<Item = OsString>,
    limit: Option<u64>,
) -> (OsString, Vec<OsString>) {
    let program = OsString::from(program);
    let Some(limit) = limit else { return (program, words.collect()) };
    let limit = (limit >> 10).max(1).to_string();
    let shell = ["-c".into(), LIMITED.into(), limit.into(), program];
    (SHELL.into(), shell.into_iter().chain(words).collect())
}
