//! The stable names of a process: its group, its place in the group.

use std::path::Path;

use datamill_wire::{hex, sha512};

/// A name for this process's place in its group: the host and a short hash of the output folder, so
/// that a restart is the same member and two folders are two members.
pub fn instance(output_dir: &Path) -> String {
    let folder = output_dir.canonicalize().unwrap_or_else(|_| output_dir.to_owned());
    let host = gethostname::gethostname();
    let hash = hex(&sha512(folder.as_os_str().as_encoded_bytes())[..4]);
    format!("{}-{hash}", legal(&host.to_string_lossy()))
}

/// A name for the place in its group of a process without an output folder: the host and a short hash of
/// what it does.
pub fn instance_name(what: &str) -> String {
    let hash = hex(&sha512(what.as_bytes())[..4]);
    format!("{}-{hash}", legal(&gethostname::gethostname().to_string_lossy()))
}

/// The group of a program that was given none: the same after a restart.
pub(super) fn default_group(program: &str, topic: &str) -> String {
    format!("{}_{}", legal(program), topic)
}

/// A group that no one has used.
pub(super) fn fresh_group(program: &str, now_ms: i64) -> String {
    format!("{}_{now_ms}_{}", legal(program), std::process::id())
}

fn legal(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' }).collect()
}
