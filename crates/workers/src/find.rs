//! The program of a command: where it is, whether it can be started, and what datamill calls it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::CommandError;
use crate::words::Word;

/// Programs that run a script or code from their command line, without a version behind the name.
const INTERPRETERS: [&str; 18] = [
    "bash", "dash", "java", "julia", "ksh", "lua", "node", "octave", "perl", "php", "pypy", "python", "r", "rscript",
    "ruby", "sh", "tclsh", "zsh",
];

/// The longest first line of a script that Linux reads.
const FIRST_LINE: u64 = 256;

/// The absolute path of the program that a word names, as a shell finds it.
pub(crate) fn program(word: &OsStr) -> Result<PathBuf, CommandError> {
    let found = if word.as_bytes().contains(&b'/') { here(Path::new(word)) } else { on_path(word)? };
    let about = match fs::metadata(&found) {
        Ok(about) => about,
        Err(_) => return Err(CommandError::Missing(found)),
    };
    if !about.is_file() {
        return Err(CommandError::NotAFile(found));
    }
    if access(&found, Access::EXEC_OK).is_err() {
        return Err(CommandError::NotExecutable(found));
    }
    check_first_line(&found)?;
    Ok(found)
}

/// A link stays one: programs look at the name by which they were started.
fn here(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn on_path(word: &OsStr) -> Result<PathBuf, CommandError> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let found: Vec<PathBuf> =
        env::split_paths(&folders).map(|folder| here(&folder.join(word))).filter(|path| path.is_file()).collect();
    let runs = found.iter().find(|path| access(*path, Access::EXEC_OK).is_ok());
    // one that may not be executed is named as such
    let Some(path) = runs.or(found.first()) else {
        return Err(CommandError::NotOnPath(word.to_string_lossy().into_owned()));
    };
    Ok(path.clone())
}

/// Refuses a script that the system cannot start. What is no text is left to the system.
fn check_first_line(path: &Path) -> Result<(), CommandError> {
    let mut start = Vec::new();
    // one that may be executed and not read cannot be looked at
    if File::open(path).and_then(|file| file.take(FIRST_LINE).read_to_end(&mut start)).is_err() {
        return Ok(());
    }
    let Some(line) = start.strip_prefix(b"#!") else {
        // what is cut in the middle of a character is text as well
        let is_utf8 = std::str::from_utf8(&start).map_or_else(|error| error.error_len().is_none(), |_| true);
        let is_text = is_utf8 && !start.contains(&0) && !start.starts_with(b"\x7fELF");
        return if is_text { Err(CommandError::NoInterpreterLine(path.to_owned())) } else { Ok(()) };
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.ends_with(b"\r") {
        return Err(CommandError::WindowsLines(path.to_owned()));
    }
    let interpreter = line.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let interpreter = Path::new(OsStr::from_bytes(interpreter));
    if interpreter.exists() {
        return Ok(());
    }
    let interpreter = interpreter.display().to_string();
    Err(CommandError::NoInterpreter { script: path.to_owned(), interpreter })
}

/// Whether it is an interpreter, of whatever version.
fn is_interpreter(program: &OsStr) -> bool {
    INTERPRETERS.contains(&bare_name(program).as_str())
}

/// The name of a program without its folder and its version.
fn bare_name(program: &OsStr) -> String {
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-')).to_owned()
}

/// What datamill calls the command: the name of its script, or of its program.
pub(crate) fn name(words: &[OsString]) -> String {
    let program = words.first().map(OsString::as_os_str).unwrap_or_default();
    let scripts = || {
        let is_script = |word: &&OsString| Word::parse(word).names().next().is_none() && Path::new(word).is_file();
        words.iter().skip(1).find(is_script)
    };
    let script = if is_interpreter(program) { scripts() } else { None };
    let stem = Path::new(script.map_or(program, OsString::as_os_str)).file_stem().unwrap_or_default();
    let name: String = stem
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' })
        .collect();
    // a folder of this name is made
    if name.trim_matches('.').is_empty() { "command".to_owned() } else { name }
}

/// Refuses names that uploaders choose where a program would run them as code, as an interpreter does behind `-c` or `-e`. Which
/// programs run words as code nobody knows in full; these are the usual ones.
pub(crate) fn refuse_names_in_code(words: &[OsString]) -> Result<(), CommandError> {
    for (at, program) in words.iter().enumerate() {
        let code = code_of(program, &words[at + 1..])
            .into_iter()
            .flat_map(|word| Word::parse(word).names().collect::<Vec<_>>());
        if let Some(name) = code.into_iter().find(|name| name.is_chosen_by_uploaders()) {
            return Err(CommandError::NameInCode {
                program: program.to_string_lossy().into_owned(),
                placeholder: name.placeholder(),
                variable: name.variable(),
            });
        }
    }
    Ok(())
}

/// The words that a program runs as code.
fn code_of<'w>(program: &OsStr, words: &'w [OsString]) -> Vec<&'w OsString> {
    let behind = |option: &str| words.iter().skip_while(|word| *word != option).nth(1).into_iter().collect();
    match bare_name(program).as_str() {
        "awk" | "gawk" | "mawk" | "nawk" | "sed" => first_code(words).into_iter().collect(),
        "script" | "flock" | "su" | "runuser" => behind("-c"),
        "env" => behind("-S"),
        "ssh" => words.iter().collect(),
        _ if is_interpreter(program) => interpreted(words),
        _ => Vec::new(),
    }
}

/// What awk and sed run: behind `-e`, or the first word that is no option; nothing of the command line with `-f`.
fn first_code(words: &[OsString]) -> Option<&OsString> {
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match word.as_bytes() {
            b"-e" | b"--expression" | b"--source" => return rest.next(),
            b"-f" | b"--file" => return None,
            b"-v" | b"-F" => drop(rest.next()),
            option if option.starts_with(b"-") => {}
            _ => return Some(word),
        }
    }
    None
}

/// Options of interpreters whose value is the next word.
const WITH_VALUE: [&str; 12] =
    ["-o", "+o", "-O", "+O", "--rcfile", "--init-file", "-W", "-X", "-I", "-r", "--require", "-l"];

/// What an interpreter runs of its command line: behind `-c` or `-e`, also where other options are in the same word.
fn interpreted(words: &[OsString]) -> Vec<&OsString> {
    let mut rest = words.iter().peekable();
    while let Some(option) = rest.next_if(|word| word.as_bytes().starts_with(b"-") || word.as_bytes().starts_with(b"+"))
    {
        let is_long = option.as_bytes().starts_with(b"--");
        if matches!(option.as_bytes().last(), Some(b'c' | b'e')) && !is_long {
            return rest.find(|word| !word.as_bytes().starts_with(b"-")).into_iter().collect();
        }
        let ends_with_its_option = |with: &&str| {
            *option == **with || !is_long && with.len() == 2 && option.as_bytes().ends_with(&with.as_bytes()[1..])
        };
        // some take one in one interpreter, and none in another
        if WITH_VALUE.iter().any(ends_with_its_option) {
            rest.next_if(|word| !word.as_bytes().starts_with(b"-"));
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(folder: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn what_keeps_a_program_from_being_started_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for (path, said) in [
            (file(folder, "plain.sh", b"#!/bin/sh\n", 0o644), "chmod +x"),
            (file(folder, "none.sh", b"echo hello\n", 0o755), "#!/bin/sh"),
            (file(folder, "gone.sh", b"#!/no/such/shell -e\n", 0o755), "names `/no/such/shell`"),
            (file(folder, "windows.sh", b"#!/bin/sh\r\necho\r\n", 0o755), "end as on Windows"),
            (folder.join("missing.sh"), "there is no program"),
            (folder.to_owned(), "not a program but a folder"),
        ] {
            let text = program(path.as_os_str()).unwrap_err().to_string();
            assert!(text.contains(said) && text.contains(path.to_str().unwrap()), "{text}");
        }
        let text = program(OsStr::new("datamill-no-such-program")).unwrap_err().to_string();
        assert!(text.contains("`datamill-no-such-program` in a folder of PATH"), "{text}");
    }

    #[test]
    fn programs_are_found_by_path_and_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let script = file(folder.path(), "works.sh", b"#!/bin/sh\n", 0o755);
        assert_eq!(program(script.as_os_str()).unwrap(), script);
        assert!(program(OsStr::new("sh")).unwrap().ends_with("sh"));
        // another format, which the system may know how to run
        let other = file(folder.path(), "other.exe", b"MZ\0\x90", 0o755);
        assert!(program(other.as_os_str()).is_ok());
    }

    #[test]
    fn a_command_is_called_by_its_script_or_its_program() {
        let folder = tempfile::tempdir().unwrap();
        let script = file(folder.path(), "my analysis.py", b"", 0o644);
        let script = script.to_str().unwrap();
        for (command, wanted) in [
            (&["/usr/bin/convert", "--in", "{path}"][..], "convert"),
            (&["./store.sh", "{path}"], "store"),
            (&["python3.12", "-u", script, "{path}"], "my_analysis"),
            (&["python3", "-m", "tool", "{path}"], "python3"),
            (&["sh", "-c", "true"], "sh"),
            (&["tool", script], "tool"),
            (&["..."], "command"),
        ] {
            assert_eq!(name(&words(command)), wanted, "{command:?}");
        }
    }

    #[test]
    fn names_that_uploaders_choose_never_become_code() {
        for command in [
            &["sh", "-c", "gzip < {path}"][..],
            &["/bin/bash", "-lc", "cat '{filename}'"],
            &["nice", "python3", "-I", "-c", "open('{relative_path}')"],
            &["Rscript", "-e", "read.csv('{path}')"],
            &["bash", "-o", "pipefail", "-c", "cat {filename}"],
            &["bash", "-eo", "pipefail", "-c", "cat {filename}"],
            &["bash", "--rcfile", "x.rc", "-c", "cat {filename}"],
            &["python3", "-W", "ignore", "-c", "open('{path}')"],
            &["sh", "-c", "-e", "cat {path}"],
            &["awk", "BEGIN { print \"{filename}\" }"],
            &["sed", "-n", "-e", "s/a/{filename}/"],
            &["script", "-q", "-c", "cat {path}"],
            &["ssh", "host", "cat {path}"],
        ] {
            let text = refuse_names_in_code(&words(command)).unwrap_err().to_string();
            assert!(text.contains("\"$DATAMILL_"), "{text}");
        }
        for command in [
            &["sh", "-c", "gzip < \"$DATAMILL_PATH\"", "{path}"][..],
            &["sh", "-c", "echo {size}"],
            &["python3", "tool.py", "-c", "{path}"],
            &["python3", "-W", "ignore", "tool.py", "-c", "{path}"],
            &["awk", "-f", "sums.awk", "{path}"],
            &["awk", "-v", "name={filename}", "{ print $1 }", "{path}"],
            &["convert", "-e", "{path}"],
        ] {
            assert!(refuse_names_in_code(&words(command)).is_ok(), "{command:?}");
        }
    }
}
