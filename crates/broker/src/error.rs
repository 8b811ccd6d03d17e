//! The error of this crate: what happened, where, and what the caller can do.

use std::fmt;

use crate::examined::Operation;
use crate::permission::Permission;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// It passes by itself: try the same again later (a broker that is away, a busy file).
    Retry,
    /// The queue of a publisher is full: poll, then send again.
    QueueFull,
    /// A topic or partition that does not exist.
    UnknownTopic,
    /// The topic was deleted, and another one was created under its name.
    TopicReplaced,
    /// The topic was deleted while it was used, and there is no other one under its name.
    TopicDeleted,
    /// The file of an embedded log is not at its path any more, or another one is there.
    LogReplaced,
    /// What is to be created is there already.
    Exists,
    /// Another live process has what was asked for (the group of an embedded log).
    InUse,
    /// Another process took this member's place.
    Fenced,
    /// The account lacks a permission.
    Denied,
    /// The account lacks a permission that [`crate::DeliveryGuarantee::AtLeastOnce`] does not need.
    DeniedExactlyOnce,
    /// This one record can never be taken: its time, its form, or that it has no key.
    RecordRefused,
    /// This one record can never be taken: it is too large.
    RecordTooLarge,
    /// A setting is wrong; nothing was started.
    Settings,
    /// The position does not exist in the log any more.
    OffsetOutOfRange,
    /// What is stored cannot be understood.
    Corrupt,
    /// No room left to write.
    NoSpace,
    /// Nothing helps but to end this process.
    Fatal,
}

impl ErrorKind {
    /// Whether one record is refused, and others may be taken.
    pub fn refuses_record(self) -> bool {
        matches!(self, Self::RecordRefused | Self::RecordTooLarge)
    }
}

/// What went wrong in the log. The text says what and where; the cause is in `source()`.
pub struct Error {
    kind: ErrorKind,
    message: String,
    /// In a box, since other errors hold this one.
    why: Option<Box<Why>>,
}

enum Why {
    Source(Box<dyn std::error::Error + Send + Sync>),
    /// The account lacks this, which says all.
    Lacks(Permission),
}

impl Error {
    /// An error without a further cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), why: None }
    }

    /// An error with its cause. The message MUST NOT repeat the cause.
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, message: message.into(), why: Some(Box::new(Why::Source(source.into()))) }
    }

    /// The error for a missing permission. The message says what could not be done, and nothing else: what is needed
    /// and how it is given follows.
    pub(crate) fn denied(kind: ErrorKind, message: impl Into<String>, permission: Permission) -> Self {
        Self { kind, message: message.into(), why: Some(Box::new(Why::Lacks(permission))) }
    }

    /// The error of a question about a topic, for someone who asks in order to do this with it: an account that may not
    /// look at the topic is told the permission that it needs in the end, which includes `Describe`.
    #[must_use]
    pub fn for_use(self, operation: Operation) -> Self {
        self.with_permission(|permission| permission.for_use(operation))
    }

    /// The same, for a member of a group: a missing permission on the topic of the group's state is named with a command
    /// that gives all that a member needs there.
    #[must_use]
    pub fn of_member(self) -> Self {
        self.with_permission(Permission::of_member)
    }

    /// The same, with the name of the account that lacks a permission.
    #[must_use]
    pub(crate) fn of_account(self, account: &str) -> Self {
        self.with_permission(|permission| permission.of_account(Some(account)))
    }

    fn with_permission(self, change: impl FnOnce(Permission) -> Permission) -> Self {
        let why = self.why.map(|why| match *why {
            Why::Lacks(permission) => Box::new(Why::Lacks(change(permission))),
            source @ Why::Source(_) => Box::new(source),
        });
        Self { why, ..self }
    }

    pub(crate) fn permission(&self) -> Option<&Permission> {
        match self.why.as_deref() {
            Some(Why::Lacks(permission)) => Some(permission),
            _ => None,
        }
    }

    /// Whether the account lacks a permission.
    pub fn is_denied(&self) -> bool {
        matches!(self.kind, ErrorKind::Denied | ErrorKind::DeniedExactlyOnce)
    }

    /// The error for a topic that is another one than the one that is meant.
    pub fn topic_replaced(name: &str) -> Self {
        Self::new(ErrorKind::TopicReplaced, format!("topic `{name}` was deleted and created again"))
    }

    /// The error for a topic that was deleted while it was read.
    pub fn topic_deleted(name: &str) -> Self {
        Self::new(
            ErrorKind::TopicDeleted,
            format!(
                "topic `{name}` was deleted while it was read. Nothing that is committed is lost; a topic that is created \
                under this name is another one, and reading begins anew in it"
            ),
        )
    }

    /// The error for a topic that is not there: `log` is the log in words, `near` are the names of topics that were
    /// perhaps meant, `options` those of [`crate::Properties`]. A name that is like another one is probably mistyped, so the
    /// command that makes this very topic is only for someone who `writes` to a topic whose name is like no other one.
    pub(crate) fn unknown_topic(name: &str, log: &str, near: &[&str], options: &str, writes: bool) -> Self {
        let name = name.escape_debug();
        let mut text = format!("there is no topic `{name}` {log}");
        let make = |name: &str| command(&format!("topic create {name}"), options);
        text += &match near {
            [] if writes => format!(": {} makes it", make(&name.to_string())),
            [] => format!(": {} shows the topics that are there", command("topic list", options)),
            [only] => format!("; did you mean `{only}`?"),
            [before @ .., last] => {
                let before: Vec<String> = before.iter().map(|name| format!("`{name}`")).collect();
                format!("; did you mean {} or `{last}`?", before.join(", "))
            }
        };
        if writes && !near.is_empty() {
            text += &format!(" {} makes a new one", make("NAME"));
        }
        Self::new(ErrorKind::UnknownTopic, text)
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// A command of `datamill` for people to copy.
pub(crate) fn command(words: &str, options: &str) -> String {
    let blank = if options.is_empty() { "" } else { " " };
    format!("`datamill {words}{blank}{options}`")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.permission() {
            Some(permission) => write!(f, ": the account needs {permission}; `{}` gives it", permission.command()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.why.as_deref() {
            Some(Why::Source(source)) => Some(&**source),
            _ => None,
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
