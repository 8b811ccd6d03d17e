//! The port for workers that stay, without a topic: content in memory goes to workers, and their answers come back.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use datamill_workers::{CommandSettings, KeeperStart, PortAlone, Results};

#[derive(Debug, Args)]
pub struct PortArgs {
    /// Bytes of each file
    #[arg(long, default_value_t = 1 << 20)]
    size: usize,
    /// Workers at once
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Seconds of each turn
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Turns
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// The worker [default: one in Rust that reads the content and answers its size]
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

pub fn run(args: &PortArgs) -> Result<()> {
    let mut rates = (0..args.turns).map(|_| turn(args)).collect::<Result<Vec<f64>>>()?;
    rates.sort_by(f64::total_cmp);
    let median = rates.get(rates.len() / 2).context("no turn")?;
    println!("median {:.0} files/s, {:.3} GB/s", median, median * args.size as f64 / 1e9);
    Ok(())
}

/// Files in a second.
fn turn(args: &PortArgs) -> Result<f64> {
    let own = || vec![std::env::current_exe().unwrap_or_default().into_os_string(), "stay".into()];
    let words = if args.command.is_empty() { own() } else { args.command.clone() };
    let settings = CommandSettings {
        words,
        stdin: false,
        stdout: false,
        worker: true,
        restart_after: None,
        results: Results::Each,
        memory: None,
        address_space: None,
        shutdown_timeout: Duration::from_secs(10),
        keeper: KeeperStart::this_program(),
    };
    let (begin, time) = (Barrier::new(args.workers), Duration::from_secs(args.seconds));
    let rates: Vec<Result<f64>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..args.workers)
            .map(|_| {
                scope.spawn(|| -> Result<f64> {
                    let started = PortAlone::start(settings.clone());
                    let content = vec![7; args.size];
                    begin.wait();
                    let (mut port, since, mut files) = (started?, Instant::now(), 0_u32);
                    while since.elapsed() < time {
                        ensure!(port.run(&content), "the worker did not answer");
                        files += 1;
                    }
                    Ok(f64::from(files) / since.elapsed().as_secs_f64())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?).collect()
    });
    let rate: f64 = rates.into_iter().collect::<Result<Vec<f64>>>()?.iter().sum();
    println!("{rate:.0} files/s, {:.3} GB/s", rate * args.size as f64 / 1e9);
    Ok(rate)
}

/// A worker that reads all content and answers with its size.
pub fn stay() -> Result<()> {
    let place = |variable| std::env::var(variable).map(|number| format!("/dev/fd/{number}"));
    let mut source = File::open(place("DATAMILL_INPUT")?)?;
    let mut target = File::options().write(true).open(place("DATAMILL_OUTPUT")?)?;
    let mut say = |header: String, payload: &str| {
        let length = u32::try_from(header.len())?.to_be_bytes();
        target.write_all(&[&length[..], header.as_bytes(), payload.as_bytes()].concat())?;
        anyhow::Ok(())
    };
    say(r#"{"type":"hello","version":1}"#.to_owned(), "")?;
    let (mut length, mut header, mut content) = ([0; 4], Vec::new(), Vec::new());
    while source.read_exact(&mut length).is_ok() {
        header.resize(u32::from_be_bytes(length) as usize, 0);
        source.read_exact(&mut header)?;
        let file: serde_json::Value = serde_json::from_slice(&header)?;
        content.resize(file["size"].as_u64().unwrap_or_default().try_into()?, 0);
        match file["path"].as_str() {
            Some(path) => File::open(path)?.read_exact(&mut content)?,
            None => source.read_exact(&mut content)?,
        }
        let size = content.len().to_string();
        say(format!(r#"{{"type":"result","id":{},"bytes":{}}}"#, file["id"], size.len()), &size)?;
    }
    Ok(())
}
