//! Command lines of classes: they may have options that this program does not know.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::error::ErrorKind;

use super::{FunctionCall, What};

impl FunctionCall {
    /// What was typed, where a class in Python may know the words that clap refused.
    pub fn of_a_class(typed: &[OsString], refused: &clap::Error) -> Option<Self> {
        if !matches!(refused.kind(), ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument) {
            return None;
        }
        let (first, words) = typed.split_first()?;
        let what = [What::Reproduce, What::Process].into_iter().find(|what| first == what.name())?;
        // behind `--` it may be the program of a command
        let function = words.iter().take_while(|word| *word != "--").find(|word| is_python_file(word))?.clone();
        let (own, python) = parted(typed, &function);
        let refusal = Some(refused.to_string());
        Some(Self {
            what,
            function,
            options: Vec::new(),
            own,
            refusal,
            files: Vec::new(),
            python,
            typed: typed.to_vec(),
        })
    }
}

/// Whether it is `FILE.py` or `FILE.py:NAME`.
fn is_python_file(word: &OsStr) -> bool {
    let word = word.to_string_lossy();
    !word.starts_with('-') && file_of(&word).ends_with(".py")
}

/// The file in `FILE.py` or `FILE.py:NAME`.
pub(super) fn file_of(function: &str) -> &str {
    function.rsplit_once(':').map(|(file, _)| file).filter(|file| file.ends_with(".py")).unwrap_or(function)
}

/// The words behind the subcommand without the function and without `--python`, and the value of that.
pub(crate) fn parted(typed: &[OsString], function: &OsStr) -> (Vec<OsString>, Option<PathBuf>) {
    let mut words = typed.iter().skip(1);
    let (mut own, mut python, mut is_found) = (Vec::new(), None, false);
    while let Some(word) = words.next() {
        if word == "--" {
            own.push(word.clone());
            own.extend(words.cloned());
            break;
        }
        if word == "--python" {
            python = words.next().map(PathBuf::from);
        } else if let Some(value) = word.to_str().and_then(|word| word.strip_prefix("--python=")) {
            python = Some(value.into());
        } else if !is_found && word == function {
            is_found = true;
        } else {
            own.push(word.clone());
        }
    }
    (own, python)
}
