//! Python functions from the Rust program, which hands them to a Python. What that does is tested with the package.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::common::Place;

/// A program that stands for a Python with the package, and does this when it is to run a function.
fn python(place: &Place, at: &str, script: &str) -> PathBuf {
    let text = format!("#!/bin/sh\nif [ \"$1\" = -c ]; then echo found; exit; fi\n{script}\n");
    place.write(at, text.as_bytes());
    let path = place.path(at);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_function_runs_in_the_python_that_was_named_with_the_words_that_were_typed() {
    let place = Place::new();
    python(&place, "a python", "for word; do echo \"[$word]\"; done; echo $$ >&2; exit 7");
    let words = [
        "reproduce",
        "my extract.py:metadata",
        "--consumer_t",
        "files",
        "--producer_topic_name",
        "metadata",
        "--python",
    ];
    let child = place.command(&[&words[..], &["./a python"]].concat()).output().unwrap();
    assert_eq!(child.status.code(), Some(7), "the exit code is that of the Python");
    let lines = String::from_utf8(child.stdout).unwrap();
    let wanted = ["-P", "-m", "datamill._here"].iter().chain(&words).chain(&["./a python"]);
    assert_eq!(lines.lines().collect::<Vec<_>>(), wanted.map(|word| format!("[{word}]")).collect::<Vec<_>>());
}

#[test]
fn the_python_takes_the_place_of_the_program() {
    let place = Place::new();
    python(&place, "python", "echo $$");
    let mut command = place.command(&["process", "store.py", "--topic_name", "files", "--python", "./python"]);
    let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let id = child.id().to_string();
    let said = child.wait_with_output().unwrap().stdout;
    assert_eq!(String::from_utf8(said).unwrap().trim(), id);
}

#[test]
fn the_active_virtual_environment_comes_before_what_is_on_the_path() {
    let place = Place::new();
    python(&place, "venv/bin/python", "echo active");
    python(&place, "bin/python3", "echo on the path");
    let run = |active: Option<&str>| {
        let mut command = place.command(&["try", "extract.py:metadata", "a.csv"]);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", place.path("bin").display())).env_remove("VIRTUAL_ENV");
        command.envs(active.map(|folder| ("VIRTUAL_ENV", place.path(folder))));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(run(Some("venv")), "active\n");
    assert_eq!(run(Some("a folder that is gone")), "on the path\n");
    assert_eq!(run(None), "on the path\n");
}

#[test]
fn without_a_python_the_command_that_installs_the_package_is_named() {
    let place = Place::new();
    let ended = place.run(&["try", "extract.py:metadata", "a.csv", "--python", "./no_python"]);
    assert_eq!(ended.code(), 2);
    let said = ended.stderr();
    assert!(
        said.starts_with("error: no Python with the package datamill was found, which runs `extract.py:metadata`"),
        "{said}"
    );
    assert!(said.contains("`./no_python` (from --python) is no program") && said.contains("-m pip install"), "{said}");
}

#[test]
fn the_command_line_of_a_function_is_checked_before_a_python_is_looked_for() {
    let place = Place::new();
    let ended =
        place.run(&["process", "store.py:store", "--topic_nam", "files", "--mode", "ram", "--python", "./no_python"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr().contains("invalid value 'ram' for '--mode <MODE>'"), "{}", ended.stderr());
}

#[test]
fn the_version_says_that_this_is_the_rust_program() {
    for words in [&["--version"][..], &["upload", "--version"]] {
        let said = Place::new().run(words).stdout();
        assert!(said.trim_end().ends_with(concat!(env!("CARGO_PKG_VERSION"), " (Rust program)")), "{said}");
    }
}
