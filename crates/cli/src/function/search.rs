//! The search for a Python that has the package.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Asks a Python, of whatever version, for the package. What stands in the working folder does not count: a checkout of
/// datamill there would be found by its name.
const QUESTION: &str = "import sys
sys.path[:] = [place for place in sys.path if place]
if sys.version_info < (3, 11):
    print('old', '.'.join(map(str, sys.version_info[:3])))
else:
    import importlib.util
    try:
        found = importlib.util.find_spec('datamill._here')
    except ModuleNotFoundError as error:
        if error.name != 'datamill':
            raise
        found = None
    print('found' if found else 'none')
";

/// No Python was found.
#[derive(Debug, thiserror::Error)]
pub(super) struct NoPython {
    function: OsString,
    looked: Vec<(Candidate, Lack)>,
}

/// A Python that was found cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start `{}`, which has the package datamill", python.display())]
pub(super) struct CannotStart {
    /// The program.
    pub python: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// A Python that may have the package.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    python: PathBuf,
    /// Where its name is from.
    from: &'static str,
}

/// Why a Python cannot run a function.
#[derive(Debug, PartialEq, Eq)]
enum Lack {
    Program,
    Start(String),
    Version(String),
    Package,
    /// It answers something else, with the last line of what it says.
    Answer(String),
}

/// The Python for a function: the one that was asked for, that of the active virtual environment, or `python3`.
pub(super) fn search(given: Option<&Path>, function: &OsStr) -> Result<PathBuf, NoPython> {
    first(candidates(given, env::var_os("VIRTUAL_ENV").as_deref()), function)
}

fn candidates(given: Option<&Path>, virtual_env: Option<&OsStr>) -> Vec<Candidate> {
    if let Some(given) = given {
        let python = if given.is_dir() { python_of(given) } else { given.to_owned() };
        return vec![Candidate { python, from: "--python" }];
    }
    let active = virtual_env.filter(|folder| !folder.is_empty());
    let active = active.map(|folder| Candidate { python: python_of(Path::new(folder)), from: "VIRTUAL_ENV" });
    let on_path = Candidate { python: if cfg!(windows) { "python" } else { "python3" }.into(), from: "PATH" };
    active.into_iter().chain([on_path]).collect()
}

/// The program of a virtual environment.
fn python_of(folder: &Path) -> PathBuf {
    folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" })
}

fn first(candidates: Vec<Candidate>, function: &OsStr) -> Result<PathBuf, NoPython> {
    let mut looked = Vec::new();
    for candidate in candidates {
        match ask(&candidate.python) {
            Ok(()) => return Ok(candidate.python),
            Err(lack) => looked.push((candidate, lack)),
        }
    }
    Err(NoPython { function: function.to_owned(), looked })
}

fn ask(python: &Path) -> Result<(), Lack> {
    let answer = Command::new(python).args(["-c", QUESTION]).stdin(Stdio::null()).output().map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound { Lack::Program } else { Lack::Start(error.to_string()) }
    })?;
    let said = String::from_utf8_lossy(&answer.stdout);
    // what the start of an interpreter prints may stand above
    let said = said.lines().last().unwrap_or_default().trim();
    match said.split_once(' ').unwrap_or((said, "")) {
        ("found", "") => Ok(()),
        ("none", "") => Err(Lack::Package),
        ("old", version) => Err(Lack::Version(version.to_owned())),
        _ => {
            let error = String::from_utf8_lossy(&answer.stderr);
            let line = error.lines().map(str::trim).rfind(|line| !line.is_empty());
            Err(Lack::Answer(line.unwrap_or("it says nothing").to_owned()))
        }
    }
}

impl fmt::Display for NoPython {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no Python with the package datamill was found, which runs `{}`: ", self.function.display())?;
        for (number, (candidate, lack)) in self.looked.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}`{}` (from {}) {lack}", candidate.python.display(), candidate.from)?;
        }
        let lacks_it = self.looked.iter().find(|(_, lack)| *lack == Lack::Package);
        let python = lacks_it.map_or(Path::new("python3"), |(candidate, _)| &candidate.python).display();
        write!(
            f,
            ". Install the package with `{python} -m pip install ./python` in a checkout of datamill, or with `{python} -m \
             pip install` and the file of the wheel; or name another Python with --python"
        )
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("is no program"),
            Self::Start(error) => write!(f, "cannot be started ({error})"),
            Self::Version(version) => write!(f, "is Python {version}, and the package needs 3.11 or later"),
            Self::Package => f.write_str("does not have the package"),
            Self::Answer(line) => write!(f, "does not say whether it has the package ({line})"),
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Writes a program that stands for a Python.
    fn python(path: &Path, script: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn refused(candidates: Vec<Candidate>) -> String {
        first(candidates, OsStr::new("extract.py:metadata")).unwrap_err().to_string()
    }

    fn named(python: &Path) -> Vec<Candidate> {
        candidates(Some(python), None)
    }

    #[test]
    fn the_first_python_with_the_package_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (without, with) = (folder.path().join("bin/python"), folder.path().join("other"));
        python(&without, "echo none");
        python(&with, "echo a line of sitecustomize; echo found");
        let candidates = [&without, &with].map(|python| Candidate { python: python.clone(), from: "PATH" });
        assert_eq!(first(candidates.to_vec(), OsStr::new("f.py")).unwrap(), with);
    }

    #[test]
    fn a_python_that_was_named_is_the_only_one_that_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let names = |given, active: Option<&str>| -> Vec<PathBuf> {
            candidates(given, active.map(OsStr::new)).into_iter().map(|candidate| candidate.python).collect()
        };
        assert_eq!(names(Some(Path::new("python3.12")), Some("/venv")), [Path::new("python3.12")]);
        assert_eq!(names(Some(folder.path()), None), [folder.path().join("bin/python")]);
        assert_eq!(names(None, Some("/venv")), [Path::new("/venv/bin/python"), Path::new("python3")]);
        assert_eq!(names(None, Some("")), [Path::new("python3")]);
    }

    #[test]
    fn what_keeps_each_python_from_it_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("python");
        let shown = path.display().to_string();
        for (script, said) in [
            ("echo none", "does not have the package"),
            ("echo old 3.9.2", "is Python 3.9.2, and the package needs 3.11 or later"),
            ("echo >&2; echo 'ImportError: libz.so' >&2; exit 1", "(ImportError: libz.so)"),
            ("exit 0", "(it says nothing)"),
        ] {
            python(&path, script);
            let text = refused(named(&path));
            assert!(text.contains(&format!("`{shown}` (from --python) ")) && text.contains(said), "{text}");
            assert!(text.contains("runs `extract.py:metadata`") && text.contains("-m pip install"), "{text}");
        }
        let text = refused(named(&folder.path().join("nothing")));
        assert!(text.contains("nothing` (from --python) is no program"), "{text}");
    }

    #[test]
    fn the_command_that_installs_the_package_is_for_the_python_that_lacks_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("python");
        python(&path, "echo none");
        let text = refused(vec![
            Candidate { python: folder.path().join("nothing"), from: "VIRTUAL_ENV" },
            Candidate { python: path.clone(), from: "PATH" },
        ]);
        assert!(text.contains(&format!("`{} -m pip install ./python`", path.display())), "{text}");
    }

    #[test]
    fn a_real_python_answers_the_question() {
        let answer = ask(Path::new("python3"));
        assert!(matches!(answer, Ok(()) | Err(Lack::Package)), "{answer:?}");
    }
}
