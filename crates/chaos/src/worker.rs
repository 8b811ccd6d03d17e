//! The worker: an ordinary program on the library, whose function takes a moment and fails for some files. The same is a
//! command for one file.

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

/// Runs with the options that follow the word `worker`.
pub fn main() -> ExitCode {
    let command = <ReproducerArgs as clap::Args>::augment_args(Command::new("datamill-chaos worker"));
    let matches = accept_dashes(command).get_matches_from(std::env::args_os().skip(1));
    match ReproducerArgs::from_arg_matches(&matches) {
        Ok(args) => run_program(&args, "chaos", datamill::process::UserCode::reproducer(Hash)).into(),
        Err(error) => error.exit(),
    }
}
