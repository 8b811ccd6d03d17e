//! A folder before the relative path of each file: two instruments that write the same names have a folder each on the
//! topic.

use std::str::FromStr;

use super::filter::is_hidden;
use super::scan::refusal;
use crate::mark::is_reserved;
use crate::report::text::shell_word;

/// Most bytes of a name that usual file systems take.
const LONGEST_NAME: usize = 255;

/// Folder, such as `lab1/microscope`, below which files are rebuilt; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathPrefix {
    /// With `/` at its end, or empty.
    folder: String,
}

/// A text that is no folder before paths, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("write a relative path such as `lab1/microscope`: {0}")]
pub struct PathPrefixError(String);

impl PathPrefix {
    /// The relative path of a file, or of the root where it is empty, with this folder before it.
    pub(super) fn before(&self, relative: &str) -> String {
        format!("{}{relative}", self.folder)
    }

    /// Whether a path has this folder before it.
    pub(crate) fn is_before(&self, path: &str) -> bool {
        path.starts_with(&*self.folder)
    }

    /// The folder, without `/` at its end; empty where there is none.
    pub(crate) fn as_str(&self) -> &str {
        self.folder.strip_suffix('/').unwrap_or_default()
    }

    /// The option of a command line that gives this folder, with a space before it; nothing where there is none.
    pub(crate) fn option(&self) -> String {
        option(self.as_str())
    }

    /// The path without this folder. What is above the folder is the root.
    pub(super) fn cut<'a>(&self, path: &'a str) -> &'a str {
        path.strip_prefix(&*self.folder).unwrap_or_default()
    }
}

/// The option of a command line that gives a prefix, with a space before it; nothing for an empty one.
fn option(prefix: &str) -> String {
    if prefix.is_empty() { String::new() } else { format!(" --path_prefix {}", shell_word(prefix)) }
}

/// A prefix as a sentence has it, behind "was watched".
pub(crate) fn words(prefix: &str) -> String {
    match option(prefix).trim_start() {
        "" => "without `--path_prefix`".to_owned(),
        option => format!("with `{option}`"),
    }
}

impl FromStr for PathPrefix {
    type Err = PathPrefixError;

    fn from_str(text: &str) -> Result<Self, PathPrefixError> {
        let subdir = text.strip_suffix('/').unwrap_or(text);
        let refused = match refusal(&format!("{subdir}/file")) {
            // such as a variable that is not set
            _ if subdir.is_empty() => Some("it is empty".to_owned()),
            _ if is_reserved(subdir) => {
                Some("programs that rebuild files keep a folder of that name for themselves".to_owned())
            }
            _ if subdir.split('/').any(|part| part.len() > LONGEST_NAME) => {
                Some(format!("a name in it has more than {LONGEST_NAME} bytes, which most file systems refuse"))
            }
            _ if is_hidden(subdir) => Some("what is in a folder whose name starts with `.` is left out".to_owned()),
            refused => refused,
        };
        if let Some(why) = refused {
            return Err(PathPrefixError(why));
        }
        Ok(Self { folder: format!("{subdir}/") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_before_each_path_and_can_be_cut_off_again() {
        for text in ["lab 1/é", "lab 1/é/"] {
            let prefix: PathPrefix = text.parse().unwrap();
            assert_eq!(prefix.before("a/b.csv"), "lab 1/é/a/b.csv");
            assert_eq!(prefix.cut("lab 1/é/a/b.csv"), "a/b.csv");
            assert_eq!(prefix.cut("lab 1/é"), "");
            assert_eq!(prefix.cut("lab 1"), "");
        }
        assert_eq!(PathPrefix::default().before("a/b.csv"), "a/b.csv");
        assert_eq!(PathPrefix::default().cut("a/b.csv"), "a/b.csv");
    }

    #[test]
    fn what_is_no_relative_path_is_refused() {
        for text in ["", "/", "/lab", "..", "a/../b", "a//b", "./a", "a\0", ".hidden", "a/.b", "LOGS", "logs/a"] {
            assert!(text.parse::<PathPrefix>().is_err(), "{text:?}");
        }
        assert!("x".repeat(256).parse::<PathPrefix>().is_err() && "x".repeat(255).parse::<PathPrefix>().is_ok());
    }
}
