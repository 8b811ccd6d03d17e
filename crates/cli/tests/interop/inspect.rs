//! The processor of the tests, with the logic of `crates/testkit/peer/process.py`: a file whose content begins with
//! `fail` fails.

use datamill::prelude::*;

struct Inspect;

impl DataFileStreamProcessor for Inspect {
    fn process_downloaded_data_file(&self, file: &DownloadDataFile, _: &Lock) -> Result<(), ProcessingError> {
        match file.bytes()?.starts_with(b"fail") {
            true => Err(ProcessingError::file_failed("the content begins with `fail`")),
            false => Ok(()),
        }
    }
}

fn main() -> ExitCode {
    Inspect.run_from_command_line()
}
