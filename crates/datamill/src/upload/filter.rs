//! Which files of a folder are uploaded: their path goes in, the reason to leave them out comes out.
//!
//! One rule always holds: nothing whose path has a part that starts with `.`, or on Windows what has the hidden attribute.
//! Beyond it, either the default rules or
//! the user's pattern decides. What is datamill's own is told by what it is, not by its name: see
//! [`super::own_folders`].

use std::fs::Metadata;

pub use crate::facts::Reason;
use crate::settings::{Pattern, PatternError};

/// The rules by which names are chosen.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pattern: Option<Pattern>,
}

impl Filter {
    /// The default rules: no log files, no lock files of office programs, no unfinished copies.
    pub fn default_rules() -> Self {
        Self::default()
    }

    /// The user's pattern in place of the default rules. It is matched from the start of the path
    /// relative to the root, with `/` between its parts.
    ///
    /// # Errors
    /// Where the pattern is not one that Python's `re` would take.
    pub fn from_python(pattern: &str) -> Result<Self, PatternError> {
        Ok(Self { pattern: Some(Pattern::from_python(pattern)?) })
    }

    /// Whether the user gave a pattern.
    pub(crate) fn has_pattern(&self) -> bool {
        self.pattern.is_some()
    }

    /// Why the file with this relative path is left out by its name, the rules that always hold
    /// aside; `None` is "taken".
    pub(crate) fn leaves_out(&self, relative: &str) -> Option<Reason> {
        if let Some(pattern) = &self.pattern {
            return (!pattern.matches(relative)).then_some(Reason::Pattern);
        }
        let name = relative.rsplit('/').next().unwrap_or(relative).as_bytes();
        let ends_with = |end: &str| {
            let tail = name.len().checked_sub(end.len()).map(|at| &name[at..]);
            tail.is_some_and(|tail| tail.eq_ignore_ascii_case(end.as_bytes()))
        };
        if cfg!(windows) && is_of_explorer(name) {
            Some(Reason::Hidden)
        } else if ends_with(".log") {
            Some(Reason::LogFile)
        } else if name.starts_with(b"~$") {
            Some(Reason::OfficeLock)
        } else if [".tmp", ".part", ".crdownload", "~"].into_iter().any(ends_with) {
            Some(Reason::Unfinished)
        } else {
            None
        }
    }
}

/// Whether a relative path is left out by the rule that always holds.
pub(super) fn is_hidden(relative: &str) -> bool {
    relative.split('/').any(|part| part.starts_with('.'))
}

/// Whether the system says that a file or folder is not to be shown.
#[cfg(windows)]
pub(super) fn has_hidden_attribute(metadata: &Metadata) -> bool {
    use windows_sys::Win32::Storage::FileSystem::FILE_ATTRIBUTE_HIDDEN;

    std::os::windows::fs::MetadataExt::file_attributes(metadata) & FILE_ATTRIBUTE_HIDDEN != 0
}

/// There is no such attribute.
#[cfg(not(windows))]
pub(super) fn has_hidden_attribute(_: &Metadata) -> bool {
    false
}

/// Whether Windows' Explorer makes a file of this name where it shows a folder.
fn is_of_explorer(name: &[u8]) -> bool {
    [&b"Thumbs.db"[..], b"desktop.ini"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_rules_leave_out_what_is_not_data() {
        let rules = Filter::default_rules();
        for (name, reason) in [
            ("a.csv", None),
            ("sub/übung 1.xrdml", None),
            ("catalog", None),
            ("a.log.csv", None),
            ("run.log", Some(Reason::LogFile)),
            ("sub/RUN.LOG", Some(Reason::LogFile)),
            ("~$report.docx", Some(Reason::OfficeLock)),
            ("a.csv.part", Some(Reason::Unfinished)),
            ("a.tmp", Some(Reason::Unfinished)),
            ("a.crdownload", Some(Reason::Unfinished)),
            ("a.csv~", Some(Reason::Unfinished)),
        ] {
            assert_eq!(rules.leaves_out(name), reason, "{name}");
        }
    }

    #[test]
    fn a_pattern_takes_the_place_of_the_default_rules() {
        let only_logs = Filter::from_python(r".*\.log$").unwrap();
        assert_eq!(only_logs.leaves_out("sub/run.log"), None);
        assert_eq!(only_logs.leaves_out("a.csv"), Some(Reason::Pattern));
    }

    #[test]
    fn files_of_the_explorer_are_known_in_any_case() {
        assert!([&b"Thumbs.db"[..], b"thumbs.db", b"Desktop.ini"].into_iter().all(is_of_explorer));
        assert!(!is_of_explorer(b"my Thumbs.db") && !is_of_explorer(b"desktop.ini.csv"));
        assert_eq!(Filter::default_rules().leaves_out("a/desktop.ini").is_some(), cfg!(windows));
    }

    #[test]
    fn hidden_parts_are_never_taken() {
        assert!(is_hidden(".git/config") && is_hidden("a/.b"));
        assert!(!is_hidden("LOGS/x") && !is_hidden("a/b.c"));
    }
}
