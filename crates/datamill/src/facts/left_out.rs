//! Why a file was left out.

/// Why something was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A part of its path starts with `.`; on Windows also what has the hidden attribute or is the Explorer's.
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
    /// Another program has it open, and lets nobody else read it.
    HeldOpen,
    /// It would be cut into more chunks than a file may have.
    TooManyChunks,
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
                | Self::HeldOpen
                | Self::TooManyChunks
                | Self::Size
                | Self::Changing
                | Self::Restless
                | Self::Stopped
        )
    }
}

impl Reason {
    /// What is said of so many files or folders behind their number.
    pub(crate) fn of(self, count: u64) -> &'static str {
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
            Self::HeldOpen => "open in another program that lets nobody read it",
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
            Self::HeldOpen => "open in other programs that let nobody read them",
            Self::TooManyChunks => "with more chunks than a file may have",
            Self::Size => "with a size that is not that of the bytes that can be read",
            Self::Vanished => "gone before they were read to the end",
            Self::Changing => "changing all the time",
            Self::Restless => "held back, since they change after each of their deliveries",
            Self::Stopped => "when the program was stopped",
        }
    }
}
