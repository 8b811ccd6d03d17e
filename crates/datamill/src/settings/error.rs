//! What is wrong with the settings, where, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::config::SECTIONS;
use super::locate::CONFIG_DIR_VARIABLE;

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
    #[error(
        "{place}: the environment variable `{variable}` is not set: set it before the start, or write the value into the file"
    )]
    UnsetVariable {
        /// Where.
        place: Box<Place>,
        /// The variable.
        variable: String,
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
    #[error("{place}: `{found}` is in quotation marks, which count as a part of the value: remove them")]
    Quoted {
        /// Where.
        place: Box<Place>,
        /// The value.
        found: String,
    },
    /// A comment behind a value.
    #[error(
        "{place}: in `{found}`, what looks like a comment counts as a part of the value: put it into a line of its own"
    )]
    CommentBehind {
        /// Where.
        place: Box<Place>,
        /// The value.
        found: String,
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
    /// A value of the wrong kind.
    #[error("{place}: `{found}` is not {expected}")]
    BadValue {
        /// Where.
        place: Box<Place>,
        /// The value, redacted.
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
