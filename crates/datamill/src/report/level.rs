//! Levels of log lines under the names that Python gives them.

use std::fmt;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;

/// The least level of the lines that are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// What helps to find an error (10).
    Debug,
    /// Start, stop, assignment, file done (20).
    #[default]
    Info,
    /// Odd, but nothing is lost (30).
    Warning,
    /// Data is lost or somebody must act (40).
    Error,
    /// Only what Python code says at this level (50): datamill says nothing of it in a line, and why a program ends in
    /// any case.
    Critical,
}

/// A name that is no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a level: use {names}", names = LogLevel::NAMES)]
pub struct UnknownLevel(String);

impl LogLevel {
    /// The names and numbers that are accepted, for people.
    pub const NAMES: &'static str =
        "`debug`, `info`, `warning`, `error`, `critical`, or a number from 10 (debug) to 50 (critical)";

    pub(super) fn filter(self) -> LevelFilter {
        match self {
            Self::Debug => LevelFilter::DEBUG,
            Self::Info => LevelFilter::INFO,
            Self::Warning => LevelFilter::WARN,
            Self::Error => LevelFilter::ERROR,
            Self::Critical => LevelFilter::OFF,
        }
    }
}

impl FromStr for LogLevel {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_lowercase().as_str() {
            "debug" | "notset" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warning" | "warn" => Ok(Self::Warning),
            "error" => Ok(Self::Error),
            "critical" | "fatal" => Ok(Self::Critical),
            number => match number.parse::<u8>() {
                Ok(0..=10) => Ok(Self::Debug),
                Ok(11..=20) => Ok(Self::Info),
                Ok(21..=30) => Ok(Self::Warning),
                Ok(31..=40) => Ok(Self::Error),
                Ok(41..=50) => Ok(Self::Critical),
                _ => Err(UnknownLevel(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_of_python_are_levels() {
        for (text, wanted) in [
            ("debug", LogLevel::Debug),
            ("INFO", LogLevel::Info),
            ("Warning", LogLevel::Warning),
            ("error", LogLevel::Error),
            ("critical", LogLevel::Critical),
            ("10", LogLevel::Debug),
            ("20", LogLevel::Info),
            ("25", LogLevel::Warning),
            ("30", LogLevel::Warning),
            ("40", LogLevel::Error),
            ("50", LogLevel::Critical),
        ] {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
        for text in ["", "loud", "-1", "51", "1e1"] {
            assert!(text.parse::<LogLevel>().unwrap_err().to_string().contains("`warning`"), "{text}");
        }
        for level in [LogLevel::Warning, LogLevel::Critical] {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
    }
}
