//! Kills and disturbs real programs on a real log, and counts at the end what became of every file.
//!
//! ```text
//!  seed ─▶ plan.rs ─────▶ run.rs ──signals──▶ members.rs: workers, started again whenever they end
//!      └─▶ files.rs ─▶ upload.rs: `datamill upload`, several at once      │
//!                            │                                            ▼
//!                            └──────────▶ topic ─────────▶ result topic, state of the group
//!                                           └─▶ log.rs ─▶ check.rs ◀─┘ ─▶ report.rs, exit code
//! ```
//!
//! With `--job download` the workers are `datamill download` in one folder, and `mirror.rs` takes the place
//! of the count of results.
//!
//! What is expected is counted in the topic itself, so that an uploader may be killed as well. The plan
//! and the files follow from the seed; how the processes meet does not.

mod check;
mod files;
mod log;
mod members;
mod mirror;
mod options;
mod plan;
mod random;
mod report;
mod run;
mod upload;
mod worker;

use std::process::ExitCode;

use options::Command;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|arg| arg == "worker") {
        return worker::main();
    }
    let Command::Run(options) = Command::read();
    match run::run(&options) {
        Ok(verdict) if verdict.is_good() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
