//! Short runs of the program itself; `dev/chaos` makes long ones.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Each run starts a dozen programs, so they do not run side by side.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn run(args: &[&str]) -> (Option<i32>, String) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(env!("CARGO_BIN_EXE_datamill-chaos")).arg("run").args(args).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    (output.status.code(), text)
}

#[test]
fn on_kafka_each_upload_has_one_outcome_whatever_is_killed() {
    let (code, _) = run(&["--seed", "4", "--seconds", "40"]);
    assert_eq!(code, Some(0));
}

#[test]
fn on_the_embedded_log_each_upload_has_one_outcome_whatever_is_killed() {
    let (code, _) = run(&["--seed", "4", "--seconds", "15", "--embedded", "--kills", "12"]);
    assert_eq!(code, Some(0));
}

#[test]
fn with_commands_each_upload_has_one_outcome_whatever_is_killed_of_them() {
    let kills = ["--kills", "6", "--kills-below", "25"];
    let (code, text) =
        run(&[&["--job", "command", "--seed", "5", "--seconds", "8", "--embedded"][..], &kills].concat());
    assert_eq!(code, Some(0));
    assert!(text.contains("below workers"), "commands and keepers were killed as well");
}

#[test]
fn with_workers_that_stay_each_upload_has_one_outcome_whatever_is_killed_of_them() {
    let kills = ["--kills", "6", "--kills-below", "25"];
    let (code, text) = run(&[&["--job", "worker", "--seed", "7", "--seconds", "8", "--embedded"][..], &kills].concat());
    assert_eq!(code, Some(0));
    assert!(text.contains("below workers"), "workers and keepers were killed as well");
}

#[test]
fn a_folder_holds_each_file_whole_and_once_whatever_is_killed() {
    let (code, text) = run(&["--job", "download", "--seed", "6", "--seconds", "8", "--embedded", "--kills", "8"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("rows in the registry files"));
}

#[test]
fn positions_without_their_progress_are_found_out() {
    let quiet = ["--kills", "0", "--broker-kills", "0", "--pauses", "0", "--leaves", "0", "--terms", "0"];
    let args = ["--seed", "4", "--seconds", "12", "--control", "--joins", "0", "--twins", "0", "--uploader-kills", "0"];
    let (code, text) = run(&[&args[..], &quiet[..]].concat());
    assert_eq!(code, Some(1));
    let doubled = text.lines().find_map(|line| line.strip_prefix("doubled ")).unwrap().trim();
    assert_ne!(doubled, "0", "the count finds what was done twice");
    assert!(text.contains("NOT EXACTLY ONCE"));
}
