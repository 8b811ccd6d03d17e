//! The uploaders: each sends batch after batch with `datamill upload`, or spread over partitions, and may be
//! killed in between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use datamill::wire::{hex, sha512};

use crate::check::{Uploads, Version};
use crate::files::{Batches, Plan};
use crate::log::TOPIC;
use crate::members::{Place, last_line};
use crate::options::Options;
use crate::random::Random;

/// A batch that cannot be sent within this time is a fault.
const BATCH_WITHIN: Duration = Duration::from_secs(180);

/// What one uploader has sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// How often each version must be in the topic whole at least: uploads that said so.
    least: Uploads,
    /// And at most: with those that were cut off.
    most: Uploads,
    pub kills: u64,
    /// Uploads that said that not everything was sent.
    pub refused: Vec<String>,
    pub bytes: u64,
}

impl Sent {
    fn add(&mut self, other: Self) {
        for (mine, theirs) in [(&mut self.least, other.least), (&mut self.most, other.most)] {
            for (version, times) in theirs {
                *mine.entry(version).or_default() += times;
            }
        }
        self.kills += other.kills;
        self.refused.extend(other.refused);
        self.bytes += other.bytes;
    }

    pub fn sum(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().fold(Self::default(), |mut sum, one| {
            sum.add(one);
            sum
        })
    }

    /// Where the topic does not hold what the uploaders said.
    pub fn faults(&self, uploads: &Uploads) -> Vec<String> {
        let mut faults = Vec::new();
        for (version, &most) in &self.most {
            let least = self.least.get(version).copied().unwrap_or(0);
            let times = uploads.get(version).copied().unwrap_or(0);
            if times < least || times > most {
                let path = &version.0;
                faults
                    .push(format!("`{path}` is in the topic {times} times, but was uploaded {least} to {most} times"));
            }
        }
        faults.truncate(20);
        faults
    }
}

/// Sends batches until it is told to stop.
pub fn run(place: &Place, options: &Options, index: usize, stop: &AtomicBool, kill: &AtomicBool) -> Result<Sent> {
    let mut sent = Sent::default();
    let mut batches = Batches::new(options.seed, index);
    let mut random = Random::new(options.seed, 200 + index as u64);
    let root = root(place, index);
    while !stop.load(Ordering::Relaxed) {
        let batch = batches.next();
        let versions = write(&batch, &root, &mut sent)?;
        let mut attempts = 0;
        let until = Instant::now() + BATCH_WITHIN;
        loop {
            attempts += 1;
            if upload(place, options, index, kill, until, &mut sent)? {
                break;
            }
        }
        for version in versions {
            *sent.least.entry(version.clone()).or_default() += 1;
            *sent.most.entry(version).or_default() += attempts;
        }
        std::fs::remove_dir_all(&root)?;
        rest(Duration::from_millis(random.between(0, options.rest_ms)), stop);
    }
    Ok(sent)
}

fn root(place: &Place, index: usize) -> PathBuf {
    place.folder.join(format!("upload-{index}"))
}

fn rest(time: Duration, stop: &AtomicBool) {
    let until = Instant::now() + time;
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn write(batch: &[Plan], root: &Path, sent: &mut Sent) -> Result<Vec<Version>> {
    std::fs::create_dir_all(root)?;
    let mut versions = BTreeMap::new();
    for file in batch {
        file.write(root)?;
        let bytes = file.bytes();
        sent.bytes += bytes.len() as u64;
        versions.insert(file.path.clone(), hex(&sha512(&bytes)));
    }
    Ok(versions.into_iter().collect())
}

/// Uploads a folder once. `false` when it has to be done again.
fn upload(
    place: &Place,
    options: &Options,
    index: usize,
    kill: &AtomicBool,
    until: Instant,
    sent: &mut Sent,
) -> Result<bool> {
    let name = format!("uploader-{index}");
    let mut command = if options.spread { Command::new(&place.chaos) } else { Command::new(&place.datamill) };
    command
        .arg(if options.spread { "spread" } else { "upload" })
        .arg(root(place, index))
        .arg("--config")
        .arg(&place.config);
    if !options.spread {
        command.args(["--topic_name", TOPIC, "--chunk_size", "4096", "--logger_stream_level", "warning"]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(place.log(&name)?);
    let mut child = command.spawn().context("cannot start `datamill upload`")?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // In the middle of its work.
        if started.elapsed() > Duration::from_millis(60) && kill.swap(false, Ordering::Relaxed) {
            child.kill()?;
            child.wait()?;
            sent.kills += 1;
            return Ok(false);
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            bail!("{name} did not end within {} s: {}", BATCH_WITHIN.as_secs(), last_line(&place.log_path(&name)));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    if status.success() {
        return Ok(true);
    }
    sent.refused.push(format!("an uploader ended with {status}: {}", last_line(&place.log_path(&name))));
    std::thread::sleep(Duration::from_millis(500));
    Ok(false)
}
