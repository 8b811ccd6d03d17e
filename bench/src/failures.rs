//! Failed files that are tried again: how many a second, on both logs, in turn with an earlier build.
//!
//! The function is that of the example `xrd_metadata`, which fails at once for the files here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::place::{Place, PlaceArgs};

/// Files of a turn with an earlier build, and of one with this build alone.
const FEW: usize = 300;
const MANY: usize = 20_000;

/// Prints a line for each turn; `before` is an earlier build of the example.
pub(crate) fn run(args: &PlaceArgs, before: Option<&Path>, repeat: usize) -> Result<()> {
    println!("failed files tried again, a second (start and end included):");
    for embedded in [false, true] {
        for _ in 0..repeat {
            let ours = args.example("xrd_metadata");
            let earlier = before.map(|program| ("before", program.to_owned(), FEW));
            let all = earlier.into_iter().chain([("datamill", ours.clone(), FEW), ("datamill", ours, MANY)]);
            for (who, program, files) in all {
                let seconds = measure(args, &program, files, embedded)?;
                let log = if embedded { "embedded" } else { "kafka" };
                println!("{log:9} {who:9} {files:6} files {seconds:8.2} s {:8.0} /s", files as f64 / seconds);
            }
        }
    }
    Ok(())
}

fn measure(args: &PlaceArgs, program: &PathBuf, files: usize, embedded: bool) -> Result<f64> {
    let place = Place::make(args, "failures")?;
    for i in 0..files {
        let path = place.path("files").join((i / 1000).to_string()).join(format!("{i}.dat"));
        std::fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        std::fs::write(path, format!("no header in file {i}"))?;
    }
    let config = place.path("failures.config");
    let (source, results) = if embedded {
        std::fs::write(&config, format!("[broker]\nbootstrap.servers = sqlite:{}\n", place.path("log.db").display()))?;
        ("files".to_owned(), "results".to_owned())
    } else {
        std::fs::copy(&place.config, &config)?;
        (place.topic("source")?, place.topic("results")?)
    };
    let mut upload = place.datamill();
    upload.args(["upload", "files", "--topic_name", &source, "--config"]).arg(&config);
    ensure!(timed(&mut upload)?.1 == Some(0), "the upload failed");
    let retry = |policy: &str| {
        let mut command = Command::new(std::path::absolute(program)?);
        command.current_dir(place.path("files")).args(["--consumer_topic_name", &source, "--producer_topic_name"]);
        command.args([&results, "--consumer_group_id", &results, "--retry_failed", policy, "--config"]).arg(&config);
        command.args(["--max_attempts", "1", "--exit-at-end", "--output_dir"]).arg(place.path("output"));
        let (seconds, code) = timed(&mut command)?;
        // some files failed: all of them
        ensure!(code == Some(1), "{} ended with {code:?}", program.display());
        Ok(seconds)
    };
    retry("now")?;
    retry("only")
}

fn timed(command: &mut Command) -> Result<(f64, Option<i32>)> {
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    Ok((start.elapsed().as_secs_f64(), status.code()))
}
