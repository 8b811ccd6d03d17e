//! Kills and disturbs real programs on a real log, and counts at the end what became of every file.
//!
//! ```text
//!  seed ─▶ plan.rs ─────▶ run.rs ──signals──▶ members.rs: workers, started again whenever they end
//!      └─▶ files.rs ─▶ upload.rs: `datamill upload`, several at once      │
//!                            │         (or spread.rs)                     ▼
//!                            └──────────▶ topic ─────────▶ result topic, state of the group
//!                                           └─▶ log.rs ─▶ check.rs ◀─┘ ─▶ report.rs, exit code
//! ```
//!
//! With `--job command` they are `datamill reproduce` with a command for each file, with `--job worker` with a worker that stays,
//! and what is below them is killed, too.
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
mod spread;
mod upload;
mod worker;

use std::process::ExitCode;

use options::Command;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("worker") => return worker::main(),
        Some("hash") => return worker::hash_one(),
        Some("stay") => return worker::stay(),
        _ => {}
    }
    let done = match Command::read() {
        Command::Run(options) => run::run(&options).map(|verdict| verdict.is_good()),
        Command::Spread(options) => spread::run(&options).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
