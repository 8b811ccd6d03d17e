//! What packages get: a page for each command, and completions that the shell can read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::process::Command;

fn written() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_datamill-pages")).arg(folder.path()).status().unwrap();
    assert!(ended.success());
    folder
}

/// The names of the pages of a command and all below it.
fn names(command: &clap::Command, name: &str) -> Vec<String> {
    let below = command.get_subcommands().flat_map(|below| names(below, &format!("{name}-{}", below.get_name())));
    [name.to_owned()].into_iter().chain(below).collect()
}

#[test]
fn each_command_has_a_page_with_its_options() {
    let folder = written();
    let mut pages: Vec<String> = fs::read_dir(folder.path().join("man"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut wanted: Vec<String> =
        names(&datamill_cli::command_line(), "datamill").iter().map(|name| format!("{name}.1")).collect();
    pages.sort();
    wanted.sort();
    assert_eq!(pages, wanted);
    assert!(pages.contains(&"datamill-service-install.1".to_owned()));
    let upload = fs::read_to_string(folder.path().join("man/datamill-upload.1")).unwrap();
    assert!(upload.contains("topic_name"), "{upload}");
}

#[test]
fn bash_completes_commands_and_options() {
    let folder = written();
    // as bash calls it: the program, the word that is typed, the word before
    let script = "source \"$1\" && COMP_WORDS=(\"${@:2}\") COMP_CWORD=$(($# - 2)) \
        && _datamill datamill \"${!#}\" \"${COMP_WORDS[COMP_CWORD - 1]}\" && echo \"${COMPREPLY[*]}\"";
    let completed = |words: &[&str]| {
        let path = folder.path().join("completions/datamill.bash");
        let shell = Command::new("bash").args(["-c", script, "bash"]).arg(path).args(words).output().unwrap();
        assert!(shell.status.success(), "{}", String::from_utf8_lossy(&shell.stderr));
        String::from_utf8(shell.stdout).unwrap()
    };
    assert_eq!(completed(&["datamill", "upl"]), "upload\n");
    assert_eq!(completed(&["datamill", "upload", "--topic_n"]), "--topic_name\n");
    assert_eq!(completed(&["datamill", "service", "inst"]), "install\n");
}

#[test]
fn each_shell_has_its_file() {
    let folder = written();
    for name in ["datamill.bash", "_datamill", "datamill.fish"] {
        let path = folder.path().join("completions").join(name);
        assert!(path.metadata().unwrap().len() > 1000, "{name}");
    }
}
