//! Which files of a folder are uploaded: their path goes in, the reason to leave them out comes out.
//!
//! One rule always holds: nothing whose path has a part that starts with `.`. Beyond it, either the default rules or
//! the user's pattern decides. What is datamill's own is told by what it is, not by its name: see
//! [`super::own_folders`].

use crate::settings::{Pattern, PatternError};

/// Usual name of the folder at the root of a watched folder where datamill keeps its own files.
pub(super) const LOGS_FOLDER: &str = "LOGS";

/// Why something was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A part of its path starts with `.`.
    Hidden,
    /// It is a folder in which datamill or OpenMSIStream keeps files of its own.
    OwnFolder,
    /// It is a folder that a download or a transfer fills.
    Filled,
    /// It is a file of the embedded log, which holds the topics.
    OwnTopics,
    /// Default rules: `*.log`.
    LogFile,
    /// Default rules: `~$…`, by which office programs mark an open document.
    OfficeLock,
    /// Default rules: `*.tmp`, `*.part`, `*.crdownload` and `*~`, names of unfinished copies.
    Unfinished,
    /// The user's pattern does not match.
    Pattern,
    /// A link to a folder.
    FolderLink,
    /// A link that leads out of the root.
    LinkOutside,
    /// A link that leads nowhere.
    BrokenLink,
    /// A socket, a named pipe or a device.
    Special,
    /// It was there at the first start of a watch without `--upload_existing`.
    Existing,
    /// Its name is not UTF-8.
    NotUtf8,
    /// A chunk message cannot carry its name.
    Name,
    /// It cannot be read.
    Unreadable,
    /// Its size is not that of the bytes that can be read.
    Size,
    /// It vanished while it was read.
    Vanished,
    /// It kept changing while it was read.
    Changing,
    /// It changes after each of its deliveries.
    Restless,
    /// The program was stopped before.
    Stopped,
}

impl Reason {
    /// Whether a user who asked for the file has reason to complain: it was wanted and not sent.
    pub fn is_failure(self) -> bool {
        matches!(
            self,
            Self::NotUtf8
                | Self::Name
                | Self::Unreadable
                | Self::Size
                | Self::Changing
                | Self::Restless
                | Self::Stopped
        )
    }
}

impl Reason {
    /// What is said of so many files or folders behind their number.
    pub(super) fn of(self, count: u64) -> &'static str {
        match self {
            _ if count != 1 => self.of_many(),
            Self::OwnFolder => "datamill's or OpenMSIStream's own folder",
            Self::Filled => "folder that a download or transfer fills (name it itself to send its files)",
            Self::LogFile => "log file",
            Self::OfficeLock => "lock file of an office program",
            Self::Unfinished => "unfinished copy, by its name",
            Self::FolderLink => "link to a folder",
            Self::LinkOutside => "link that leads out of the folder",
            Self::BrokenLink => "link that leads nowhere",
            Self::Special => "socket, pipe or device",
            Self::Vanished => "gone before it was read to the end",
            Self::Restless => "held back, since it changes after each of its deliveries",
            _ => self.of_many(),
        }
    }

    fn of_many(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::OwnFolder => "datamill's or OpenMSIStream's own folders",
            Self::Filled => "folders that a download or transfer fills (name such a folder itself to send its files)",
            Self::OwnTopics => "datamill's own, which hold the topics",
            Self::LogFile => "log files",
            Self::OfficeLock => "lock files of office programs",
            Self::Unfinished => "unfinished copies, by their names",
            Self::Pattern => "not matched by `--upload_regex`",
            Self::FolderLink => "links to folders",
            Self::LinkOutside => "links that lead out of the folder",
            Self::BrokenLink => "links that lead nowhere",
            Self::Special => "sockets, pipes or devices",
            Self::Existing => "there at the first start (`--upload_existing` sends such files)",
            Self::NotUtf8 => "with a name that is not UTF-8",
            Self::Name => "with a name that no message can carry",
            Self::Unreadable => "not readable",
            Self::Size => "with a size that is not that of the bytes that can be read",
            Self::Vanished => "gone before they were read to the end",
            Self::Changing => "changing all the time",
            Self::Restless => "held back, since they change after each of their deliveries",
            Self::Stopped => "when the program was stopped",
        }
    }
}

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
    pub fn has_pattern(&self) -> bool {
        self.pattern.is_some()
    }

    /// Why the file with this relative path is left out by its name, the rules that always hold
    /// aside; `None` is "taken".
    pub fn leaves_out(&self, relative: &str) -> Option<Reason> {
        if let Some(pattern) = &self.pattern {
            return (!pattern.matches(relative)).then_some(Reason::Pattern);
        }
        let name = relative.rsplit('/').next().unwrap_or(relative).to_ascii_lowercase();
        if name.ends_with(".log") {
            Some(Reason::LogFile)
        } else if name.starts_with("~$") {
            Some(Reason::OfficeLock)
        } else if [".tmp", ".part", ".crdownload", "~"].iter().any(|end| name.ends_with(end)) {
            Some(Reason::Unfinished)
        } else {
            None
        }
    }
}

/// Whether a relative path is left out by the rule that always holds.
pub fn is_hidden(relative: &str) -> bool {
    relative.split('/').any(|part| part.starts_with('.'))
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
    fn hidden_parts_are_never_taken() {
        assert!(is_hidden(".git/config") && is_hidden("a/.b"));
        assert!(!is_hidden("LOGS/x") && !is_hidden("a/b.c"));
    }
}
