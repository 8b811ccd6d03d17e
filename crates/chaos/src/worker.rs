//! The worker: an ordinary program on the library, whose function takes a moment and fails for some files. The same is a
//! command for one file, and a worker that stays.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Command, FromArgMatches};
use datamill::prelude::*;
use datamill::program::{ReproducerArgs, accept_dashes, run_program};
use datamill::wire::{hex, sha512};

use crate::files::FAILS;

struct Hash;

impl DataFileStreamReproducer for Hash {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        let hash = match file.path() {
            Some(path) => hash(&std::fs::read(path)?),
            None => hash(file.bytes()?),
        };
        if file.filename().ends_with(FAILS) {
            return Err(ProcessingError::file_failed("failed on purpose"));
        }
        Ok(Some(ReproducerMessage::new(hash)))
    }
}

fn hash(content: &[u8]) -> String {
    let sha512 = sha512(content);
    std::thread::sleep(Duration::from_millis(u64::from(sha512[0]) / 16));
    hex(&sha512)
}

/// Runs as a command: `hash FILE` prints the hash, or fails.
pub fn hash_one() -> ExitCode {
    let path = std::env::args().nth(2).unwrap_or_default();
    match std::fs::read(&path) {
        Ok(content) if !path.ends_with(FAILS) => print!("{}", hash(&content)),
        Ok(_) => return ExitCode::from(3),
        Err(error) => {
            eprintln!("cannot read `{path}`: {error}");
            return ExitCode::from(4);
        }
    }
    ExitCode::SUCCESS
}

/// Runs as a worker that stays, as docs/workers.md has it.
pub fn stay() -> ExitCode {
    match stay_until_the_end() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the worker cannot go on: {error:#}");
            ExitCode::from(4)
        }
    }
}

fn stay_until_the_end() -> anyhow::Result<()> {
    let place = |variable| std::env::var(variable).map(|number| format!("/dev/fd/{number}"));
    let mut source = BufReader::new(File::open(place("DATAMILL_INPUT")?)?);
    let mut target = File::options().write(true).open(place("DATAMILL_OUTPUT")?)?;
    let mut say = |header: serde_json::Value, payload: &[u8]| {
        let header = header.to_string().into_bytes();
        target.write_all(&[&u32::try_from(header.len())?.to_be_bytes()[..], &header, payload].concat())?;
        anyhow::Ok(())
    };
    say(serde_json::json!({ "type": "hello", "version": 1, "program": "chaos" }), b"")?;
    let mut length = [0; 4];
    while source.read_exact(&mut length).is_ok() {
        let mut header = vec![0; u32::from_be_bytes(length) as usize];
        source.read_exact(&mut header)?;
        let file: serde_json::Value = serde_json::from_slice(&header)?;
        let content = match file["path"].as_str() {
            Some(path) => std::fs::read(path)?,
            None => {
                let mut content = vec![0; file["size"].as_u64().unwrap_or_default().try_into()?];
                source.read_exact(&mut content)?;
                content
            }
        };
        let (id, hash) = (&file["id"], hash(&content));
        if file["filename"].as_str().is_some_and(|name| name.ends_with(FAILS)) {
            say(serde_json::json!({ "type": "failed", "id": id, "reason": "failed on purpose" }), b"")?;
        } else {
            say(serde_json::json!({ "type": "result", "id": id, "bytes": hash.len() }), hash.as_bytes())?;
        }
    }
    Ok(())
}

/// Runs with the options that follow the word `worker`.
pub fn main() -> ExitCode {
    let command = <ReproducerArgs as clap::Args>::augment_args(Command::new("datamill-chaos worker"));
    let matches = accept_dashes(command).get_matches_from(std::env::args_os().skip(1));
    match ReproducerArgs::from_arg_matches(&matches) {
        Ok(args) => run_program(&args, "chaos", datamill::process::UserCode::reproducer(Hash)).into(),
        Err(error) => error.exit(),
    }
}
