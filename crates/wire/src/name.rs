//! Names that a message brings, and the rebuilt name that follows from them. What passes here, joined
//! to an output folder part by part, stays inside that folder; on Windows, where it passes [`fault_on_windows`] too.
//!
//! ```text
//! subdir           "" or "." (the root), or parts joined by "/"
//! filename         one part
//! filename_append  any text without "/" and NUL
//! part             not empty, not ".", not "..", no "/", no NUL
//! rebuilt path     subdir "/" stem(filename) filename_append suffix(filename),
//!                  at most 4096 bytes; the rebuilt name is a part too
//! ```
//! Messages mean the same on every system, so what Windows alone cannot hold is no fault of a message: it is looked for where
//! a file is placed.
//!
//! Which length of a part and which further characters a file system takes is left to the file system.

use std::borrow::Cow;
use std::fmt;

use crate::error::ChunkError;

/// Longest rebuilt path in bytes.
pub const MAX_PATH_BYTES: usize = 4096;

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NameFault {
    /// It, or a part of it, is empty.
    Empty,
    /// It holds the part `.`.
    Dot,
    /// It holds the part `..`.
    Parent,
    /// It starts at the root of the file system.
    Absolute,
    /// It holds a `/` where one part is wanted.
    Slash,
    /// It holds a NUL.
    Nul,
    /// On Windows: it holds a backslash.
    Backslash,
    /// On Windows: it holds a colon (a drive or a stream).
    Colon,
    /// On Windows: it is the name of a device.
    Device,
    /// On Windows: a part ends in a dot or a space, which Windows drops.
    Ending,
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty or has an empty part",
            Self::Dot => "has the part `.`",
            Self::Parent => "has the part `..`, which leaves the folder",
            Self::Absolute => "is absolute",
            Self::Slash => "holds a `/`",
            Self::Nul => "holds a NUL",
            Self::Backslash => "holds a `\\`, which separates folders on Windows",
            Self::Colon => "holds a `:`, which Windows keeps for drives and streams",
            Self::Device => "has a part that is the name of a device on Windows",
            Self::Ending => "has a part with a dot or a space at its end, which Windows drops",
        })
    }
}

/// True where `subdir` is the producer's root itself.
pub fn is_root(subdir: &str) -> bool {
    subdir.is_empty() || subdir == "."
}

/// The name between whose stem and suffix `append` has been put.
///
/// The suffix starts at the last dot, unless that is the first or the last character: `a.tar.gz` has
/// the stem `a.tar`; `.hidden` and `name.` have no suffix.
pub fn rebuilt_filename<'a>(filename: &'a str, append: &str) -> Cow<'a, str> {
    if append.is_empty() {
        return Cow::Borrowed(filename);
    }
    let (stem, suffix) = stem_and_suffix(filename);
    Cow::Owned(format!("{stem}{append}{suffix}"))
}

/// `filename` in `subdir`, joined by `/`; only the name at the root.
pub fn relative_path(subdir: &str, filename: &str) -> String {
    if is_root(subdir) { filename.to_owned() } else { format!("{subdir}/{filename}") }
}

/// Checks the three names of a chunk, the rebuilt name and the length of the rebuilt path.
pub(crate) fn check(subdir: &str, filename: &str, append: &str) -> Result<(), ChunkError> {
    let refuse = |field, name, fault| ChunkError::unsafe_name(field, name, fault);
    if !is_root(subdir) {
        if subdir.starts_with('/') {
            return Err(refuse("subdir", subdir, NameFault::Absolute));
        }
        if let Some(fault) = subdir.split('/').find_map(fault_of_part) {
            return Err(refuse("subdir", subdir, fault));
        }
    }
    if let Some(fault) = fault_of_part(filename) {
        return Err(refuse("filename", filename, fault));
    }
    if append.contains('/') {
        return Err(refuse("filename_append", append, NameFault::Slash));
    }
    if append.contains('\0') {
        return Err(refuse("filename_append", append, NameFault::Nul));
    }
    let folder = if is_root(subdir) { 0 } else { subdir.len() + 1 };
    let length = folder + filename.len() + append.len();
    if length > MAX_PATH_BYTES {
        return Err(ChunkError::PathTooLong { length });
    }
    let rebuilt = rebuilt_filename(filename, append);
    match fault_of_part(&rebuilt) {
        Some(fault) => Err(refuse("rebuilt filename", &rebuilt, fault)),
        None => Ok(()),
    }
}

fn stem_and_suffix(filename: &str) -> (&str, &str) {
    match filename.rfind('.') {
        Some(dot) if dot > 0 && dot + 1 < filename.len() => filename.split_at(dot),
        _ => (filename, ""),
    }
}

fn fault_of_part(part: &str) -> Option<NameFault> {
    match part {
        "" => return Some(NameFault::Empty),
        "." => return Some(NameFault::Dot),
        ".." => return Some(NameFault::Parent),
        _ => {}
    }
    if part.contains('\0') {
        Some(NameFault::Nul)
    } else if part.contains('/') {
        Some(NameFault::Slash)
    } else {
        None
    }
}

/// Why no file can have this path below a folder on Windows: a part of it holds a backslash or a colon, is the name of a
/// device (`CON`, `NUL`, `COM1`, …, with or without a suffix), or ends in a space or a dot.
///
/// Whoever joins names from messages to a folder on Windows asks this before: such a path may lead out of the folder.
pub fn fault_on_windows(path: &str) -> Option<NameFault> {
    path.split('/').find_map(fault_of_part_on_windows)
}

fn fault_of_part_on_windows(part: &str) -> Option<NameFault> {
    if part.contains('\\') {
        Some(NameFault::Backslash)
    } else if part.contains(':') {
        Some(NameFault::Colon)
    } else if part.ends_with(['.', ' ']) {
        Some(NameFault::Ending)
    } else if is_device(part) {
        Some(NameFault::Device)
    } else {
        None
    }
}

/// Windows takes a device name with any suffix, in any case and with spaces before the dot.
fn is_device(part: &str) -> bool {
    let base = part.split('.').next().unwrap_or(part).trim_end_matches(' ');
    let upper = base.to_ascii_uppercase();
    if let Some(number) = upper.strip_prefix("COM").or_else(|| upper.strip_prefix("LPT")) {
        let mut digits = number.chars();
        return matches!(digits.next(), Some('0'..='9' | '¹' | '²' | '³')) && digits.next().is_none();
    }
    matches!(upper.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(subdir: &str, filename: &str, append: &str) -> Option<(&'static str, NameFault)> {
        match check(subdir, filename, append) {
            Ok(()) => None,
            Err(ChunkError::UnsafeName { field, fault, .. }) => Some((field, fault)),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn names_that_stay_inside_pass() {
        for (subdir, filename, append) in [
            ("", "a", ""),
            (".", "a", ""),
            ("a/b c/ü", "x.csv", "_reduced"),
            ("...", "..a", ""),
            ("a", "-rf *", ".."),
            ("~", "$HOME", ""),
        ] {
            assert_eq!(fault(subdir, filename, append), None, "{subdir:?} {filename:?} {append:?}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        use NameFault::*;
        for (subdir, filename, append, expected) in [
            ("", "", "", ("filename", Empty)),
            ("", ".", "", ("filename", Dot)),
            ("", "..", "", ("filename", Parent)),
            ("", ".", ".", ("filename", Dot)),
            ("", "a/b", "", ("filename", Slash)),
            ("", "a\0", "", ("filename", Nul)),
            ("/", "a", "", ("subdir", Absolute)),
            ("/etc", "a", "", ("subdir", Absolute)),
            ("..", "a", "", ("subdir", Parent)),
            ("a/../b", "a", "", ("subdir", Parent)),
            ("a/.", "a", "", ("subdir", Dot)),
            ("./a", "a", "", ("subdir", Dot)),
            ("a//b", "a", "", ("subdir", Empty)),
            ("a/", "a", "", ("subdir", Empty)),
            ("a\0", "a", "", ("subdir", Nul)),
            ("", "a", "/../b", ("filename_append", Slash)),
            ("", "a", "\0", ("filename_append", Nul)),
        ] {
            assert_eq!(fault(subdir, filename, append), Some(expected), "{subdir:?} {filename:?} {append:?}");
        }
    }

    #[test]
    fn the_whole_path_has_a_longest_length() {
        let folder = "d".repeat(MAX_PATH_BYTES - 6);
        assert!(check(&folder, "a.csv", "").is_ok());
        assert!(matches!(check(&folder, "a.csv", "x"), Err(ChunkError::PathTooLong { length: 4097 })));
        assert!(check("", &"f".repeat(MAX_PATH_BYTES), "").is_ok());
        assert!(check("", &"f".repeat(MAX_PATH_BYTES + 1), "").is_err());
    }

    #[test]
    fn windows_has_further_faults() {
        use NameFault::*;
        for (part, expected) in [
            ("a\\b", Some(Backslash)),
            ("C:", Some(Colon)),
            ("a.txt:stream", Some(Colon)),
            ("name.", Some(Ending)),
            ("name ", Some(Ending)),
            ("... ", Some(Ending)),
            ("nul", Some(Device)),
            ("NUL.tar.gz", Some(Device)),
            ("con .txt", Some(Device)),
            ("Com1", Some(Device)),
            ("LPT².csv", Some(Device)),
            ("CONOUT$", Some(Device)),
            ("COM10", None),
            ("COM", None),
            ("console.log", None),
            ("null", None),
            (".con", None),
            ("a/b/c.csv", None),
            ("a/nul/c.csv", Some(Device)),
            ("..\\..\\a", Some(Backslash)),
        ] {
            assert_eq!(fault_on_windows(part), expected, "{part:?}");
        }
    }

    #[test]
    fn a_message_means_the_same_on_every_system() {
        for name in ["a:b.csv", "a\\b", "nul", "name.", "name "] {
            assert_eq!((fault("", name, ""), fault(name, "a", "")), (None, None), "{name:?}");
            assert!(fault_on_windows(name).is_some(), "{name:?}");
        }
    }

    #[test]
    fn the_text_goes_between_stem_and_suffix() {
        for (filename, expected) in [
            ("frame.raw", "frame_r.raw"),
            ("a.tar.gz", "a.tar_r.gz"),
            (".hidden", ".hidden_r"),
            (".hidden.txt", ".hidden_r.txt"),
            ("name.", "name._r"),
            ("a..", "a.._r"),
            ("..a", "._r.a"),
            ("plain", "plain_r"),
            ("é.ü", "é_r.ü"),
        ] {
            assert_eq!(rebuilt_filename(filename, "_r"), expected);
            assert!(matches!(rebuilt_filename(filename, ""), Cow::Borrowed(name) if name == filename));
        }
    }

    #[test]
    fn a_path_at_the_root_is_the_name() {
        assert_eq!(relative_path("", "a"), "a");
        assert_eq!(relative_path(".", "a"), "a");
        assert_eq!(relative_path("b/c", "a"), "b/c/a");
    }
}
