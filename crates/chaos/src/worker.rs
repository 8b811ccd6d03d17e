//! The worker: an ordinary program on the library, whose function takes a moment and fails for some files.

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
        let sha512 = match file.path() {
            Some(path) => sha512(&std::fs::read(path)?),
            None => sha512(file.bytes()?),
        };
        std::thread::sleep(Duration::from_millis(u64::from(sha512[0]) / 16));
        if file.filename().ends_with(FAILS) {
            return Err(ProcessingError::file_failed("failed on purpose"));
        }
        Ok(Some(ReproducerMessage::new(hex(&sha512))))
    }
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
