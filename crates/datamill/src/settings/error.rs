//! What is wrong with the settings, where, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use datamill_broker::may_hold_secret;

use super::config::SECTIONS;
use super::locate::CONFIG_DIR_VARIABLE;
use super::redact::Redacted;

/// Where a setting stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// The section.
    pub section: String,
    /// The key.
    pub key: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` line {}, key `{}` in `[{}]`", self.file.display(), self.line, self.key, self.section)
    }
}

/// Why the settings cannot be used. Nothing was started. No text holds the value of a secret key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// There is no such file.
    #[error("{}", not_found(.name, .looked, *.folder_is_set))]
    NotFound {
        /// What was asked for.
        name: String,
        /// The paths that were tried.
        looked: Vec<PathBuf>,
        /// The folder of configuration files is named in the environment.
        folder_is_set: bool,
    },
    /// The file is there but cannot be read.
    #[error("cannot read the configuration file `{}`", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not text.
    #[error("the configuration file `{}` is not UTF-8 text in line {line}: save it as UTF-8", .file.display())]
    NotText {
        /// The file.
        file: PathBuf,
        /// The first line that is not.
        line: usize,
    },
    /// A line that means nothing, or the same thing twice.
    #[error("`{}` line {line}: {problem}", .file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A value that refers to another key the wrong way.
    #[error("{place}: {problem}")]
    Reference {
        /// Where.
        place: Box<Place>,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The environment variable that a value names is not set.
    #[error("{place}: {}", unset(.variable.as_deref()))]
    UnsetVariable {
        /// Where.
        place: Box<Place>,
        /// The variable; `None` where it may be a secret that begins with `$`.
        variable: Option<String>,
    },
    /// A value that begins with `$` without the name of a variable that is set behind it.
    #[error(
        "{place}: a value that begins with `$` must begin with the name of an environment variable that is set (letters, digits and `_`); put a value that is meant literally into such a variable"
    )]
    NotAVariable {
        /// Where.
        place: Box<Place>,
    },
    /// A section that no program reads.
    #[error("`{}` line {line}: there is no section `[{section}]`{}", .file.display(), sections(.nearest.as_deref()))]
    UnknownSection {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The section.
        section: String,
        /// The section that looks most like it.
        nearest: Option<String>,
    },
    /// The file names no broker.
    #[error(
        "`{}` names no broker: write `bootstrap.servers = HOST:PORT` below a line `[broker]`, or \
        `bootstrap.servers = sqlite:FILE` for a log in a file of this machine",
        .file.display()
    )]
    NoServers {
        /// The file.
        file: PathBuf,
    },
    /// A value in quotation marks.
    #[error("{place}: {found} is in quotation marks, which count as a part of it: remove them")]
    Quoted {
        /// Where.
        place: Box<Place>,
        /// The value, or `the value` where it may be secret.
        found: String,
    },
    /// A comment behind a value.
    #[error(
        "{place}: in {found}, what looks like a comment counts as a part of the value: put it into a line of its own"
    )]
    CommentBehind {
        /// Where.
        place: Box<Place>,
        /// The value, or `the value` where it may be secret.
        found: String,
    },
    /// A line break in an environment variable.
    #[error("{place}: {}", line_break(*.at_end))]
    LineBreak {
        /// Where.
        place: Box<Place>,
        /// Nothing stands behind it.
        at_end: bool,
    },
    /// Nothing where there has to be something.
    #[error("{place}: {}", empty(*.variable))]
    Empty {
        /// Where.
        place: Box<Place>,
        /// The value is that of an environment variable.
        variable: bool,
    },
    /// A value that goes on in the next line.
    #[error(
        "{place}: a line below it is indented, so it counts as a part of this value: remove the blanks before it if it \
        is a setting of its own, or write the value in one line"
    )]
    SeveralLines {
        /// Where.
        place: Box<Place>,
    },
    /// A key and a value with nothing but a blank between them.
    #[error("{place}: write `=` between the key and its value")]
    NoDelimiter {
        /// Where.
        place: Box<Place>,
    },
    /// A key that neither librdkafka nor datamill knows.
    #[error("{place}: there is no such setting{}", did_you_mean(.nearest.as_deref()))]
    UnknownKey {
        /// Where.
        place: Box<Place>,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A line whose beginning looks like no key. It is not shown, since it may be a piece of a secret.
    #[error(
        "`{}` line {line}: what stands before the `=` or `:` is no setting; write each value in one line, behind its key",
        .file.display()
    )]
    NotAKey {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A value of the wrong kind.
    #[error("{place}: {found} is not {expected}")]
    BadValue {
        /// Where.
        place: Box<Place>,
        /// The value, redacted, or `the value` where it may be secret.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// Encryption was asked for.
    #[error(
        "`{}` has a section `[kafkacrypto]`, but encrypted messages are not supported: remove the section and use TLS (`security.protocol = SSL` or `SASL_SSL`)",
        .file.display()
    )]
    Encryption {
        /// The file.
        file: PathBuf,
    },
    /// Readers and writers on different clusters.
    #[error(
        "{place}: another `bootstrap.servers` than in `[{other}]`: results and progress are committed together, so a program reads and writes one cluster; name it once, in `[broker]`"
    )]
    TwoClusters {
        /// Where the second one stands.
        place: Box<Place>,
        /// The section of the first one.
        other: String,
    },
}

/// A refused value for people. What may be a secret in the wrong line is not shown.
pub(super) fn shown(key: &str, value: &str) -> String {
    match may_hold_secret(key) || value.contains('@') {
        true => "the value".to_owned(),
        false => format!("`{}`", Redacted { key, value }),
    }
}

fn unset(variable: Option<&str>) -> String {
    match variable {
        Some(name) => format!(
            "the environment variable `{name}` is not set: set it before the start, or write the value into the file"
        ),
        None => "the value begins with `$`, so it names an environment variable, and none of this name is set: set it \
            before the start. A password that begins with `$` itself cannot be written here: put it into a variable"
            .to_owned(),
    }
}

fn line_break(at_end: bool) -> &'static str {
    match at_end {
        true => {
            "the environment variable ends with a line break, which counts as a part of the value: make it without, for \
            example with `printf %s` in the place of `echo` where the secret is written"
        }
        false => "the environment variable has several lines, and this value has one",
    }
}

fn empty(variable: bool) -> &'static str {
    match variable {
        true => "the environment variable is set, but empty: is the secret there where the program is started?",
        false => "there is no value behind the `=`",
    }
}

fn not_found(name: &str, looked: &[PathBuf], folder_is_set: bool) -> String {
    if Path::new(name).is_dir() {
        return format!("`{name}` is a folder: name the configuration file in it");
    }
    if folder_is_set {
        let others: Vec<String> = looked.iter().skip(1).map(|path| format!("`{}`", path.display())).collect();
        return format!(
            "there is no configuration file `{name}` in this folder, and none at {} either",
            others.join(" or ")
        );
    }
    let elsewhere = match name.contains(std::path::is_separator) {
        true => String::new(),
        false => format!(" in this folder; `{CONFIG_DIR_VARIABLE}`, which can name another folder, is not set"),
    };
    format!("there is no configuration file `{name}`{elsewhere}")
}

fn sections(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `[{nearest}]`"),
        None => format!(": the sections are {}", SECTIONS.map(|name| format!("`[{name}]`")).join(", ")),
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`"))
}
