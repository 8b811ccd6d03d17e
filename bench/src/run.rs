//! The measurements of one run, workload by workload.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::child::{self, Taken};
use crate::place::{Place, PlaceArgs};
use crate::report::{Machine, Report, Row};
use crate::visible::{Found, Visible};
use crate::workload::Workload;
use crate::{failures, latency, plot, restart};

/// Bytes of file content in a message: OpenMSIStream's default.
const CHUNK_SIZE: usize = 524_288;
/// Time for what has no limit of its own.
const LONG: Duration = Duration::from_secs(1200);

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Uploads and reproducers with each of the workloads
    Workloads,
    /// Downloads of each of the workloads into a folder
    Downloads,
    /// 2,000, 20,000 and 200,000 small files, datamill alone
    Growth,
    /// From a file's last chunk to its result, on an idle system
    Latency,
    /// What is read again after a kill, in a topic of 5 GiB
    Restart,
    /// Failed files that are tried again, on both logs
    Failures,
}

/// What is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Parts of the run
    #[arg(long, value_enum, value_delimiter = ',', default_value = "workloads,downloads,growth,latency,restart")]
    parts: Vec<Part>,
    /// Workloads of the first two parts
    #[arg(long, value_enum, value_delimiter = ',', default_value = "small,large16,large64,huge,mixed")]
    workloads: Vec<Workload>,
    /// Files that the latency is measured with
    #[arg(long = "latency_files", default_value_t = 300)]
    latency_files: usize,
    /// How often each is measured; the medians are reported
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Python interpreter that has the package `openmsistream`: it is measured as well
    #[arg(long)]
    peer: Option<PathBuf>,
    /// Seconds for each measurement of the peer
    #[arg(long = "peer_limit", default_value_t = 300)]
    peer_limit: u64,
    /// An earlier build of the example `xrd_metadata`: failed files are tried again with it as well
    #[arg(long)]
    before: Option<PathBuf>,
    /// Writes all figures as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draws the figures into this folder
    #[arg(long)]
    plots: Option<PathBuf>,
}

pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let mut report = Report { machine: Machine::look(), ..Report::default() };
    Bench::prepare(args, Workload::Small)?.warm_up()?;
    for part in &args.parts {
        match part {
            Part::Workloads => {
                for workload in &args.workloads {
                    report.rows.extend(Bench::prepare(args, *workload)?.measure()?);
                }
            }
            Part::Downloads => {
                for workload in &args.workloads {
                    report.rows.extend(Bench::prepare(args, *workload)?.measure_downloads()?);
                }
            }
            Part::Growth => {
                for workload in [Workload::Small2k, Workload::Small20k, Workload::Small200k] {
                    report.rows.extend(Bench::prepare(args, workload)?.measure_growth()?);
                }
            }
            Part::Latency => report.latency = Some(latency::run(&args.place, args.latency_files)?),
            Part::Failures => failures::run(&args.place, args.before.as_deref(), args.repeat)?,
            Part::Restart => report.restart = Some(restart::run(&args.place, Workload::Large160)?),
        }
    }
    print!("{report}");
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    if let Some(folder) = &args.plots {
        plot::write(&report, folder)?;
    }
    Ok(())
}

/// When the first record was read, microseconds since the epoch: the program's log file says it. What comes
/// before is start and join.
fn first_record_us(logs: &Path) -> Result<u64> {
    for entry in std::fs::read_dir(logs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let text = std::fs::read_to_string(&path)?;
            let line = text.lines().find(|line| line.contains("first record read")).unwrap_or_default();
            let time: jiff::Timestamp = line.split(' ').next().unwrap_or_default().parse()?;
            return Ok(u64::try_from(time.as_microsecond())?);
        }
    }
    bail!("there is no log file in `{}`", logs.display())
}

/// Figures of earlier runs.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Files that `run --json` wrote
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Draws the figures into this folder
    #[arg(long)]
    plots: Option<PathBuf>,
}

pub(crate) fn show(args: &ShowArgs) -> Result<()> {
    let mut all = Report::default();
    for file in &args.files {
        all = all.join(serde_json::from_slice(&std::fs::read(file)?)?);
    }
    print!("{all}");
    args.plots.as_ref().map_or(Ok(()), |folder| plot::write(&all, folder))
}

/// One workload, with a folder and topics of its own.
struct Bench<'a> {
    args: &'a RunArgs,
    workload: Workload,
    files: u64,
    bytes: u64,
    place: Place,
}

impl<'a> Bench<'a> {
    fn prepare(args: &'a RunArgs, workload: Workload) -> Result<Self> {
        let place = Place::make(&args.place, &workload.name())?;
        let bytes = workload.write(&place.path("files"))?;
        Ok(Self { args, workload, files: workload.files().len() as u64, bytes, place })
    }

    /// Lets the broker do once what is measured later: its code is compiled while it runs.
    fn warm_up(&self) -> Result<()> {
        let source = self.place.topic("source")?;
        self.upload(&source)?;
        self.floor_read(&source, &self.place.topic("no-results")?)?;
        self.reproduce(&source, &self.place.topic("results")?, 0)?;
        Ok(())
    }

    fn measure(&self) -> Result<Vec<Row>> {
        let source = self.place.topic("source")?;
        let mut rows = Vec::new();
        for turn in 0..self.args.repeat {
            let uploaded = if turn == 0 { source.clone() } else { self.place.topic(&format!("upload-{turn}"))? };
            rows.push(self.row("upload", "floor", self.floor_send(&self.place.topic(&format!("floor-{turn}"))?)?));
            rows.push(self.row("upload", "datamill", self.upload(&uploaded)?));
        }
        let (results, no_results) = (self.place.topic("results")?, self.place.topic("no-results")?);
        for turn in 0..self.args.repeat {
            rows.push(self.row("reproduce", "floor", self.floor_read(&source, &no_results)?));
            rows.push(self.reproduce(&source, &results, turn)?);
        }
        if let Some(python) = &self.args.peer {
            rows.push(self.peer_upload(python)?);
            rows.push(self.peer_reproduce(python, &source)?);
        }
        rows.iter().for_each(|row| eprintln!("{row}"));
        Ok(rows)
    }

    /// From a topic into a folder, until all files are there and durable.
    fn measure_downloads(&self) -> Result<Vec<Row>> {
        let source = self.place.topic("source")?;
        self.upload(&source)?;
        let records = self.workload.messages(CHUNK_SIZE).to_string();
        let mut rows = Vec::new();
        for turn in 0..self.args.repeat {
            let folders = [format!("floor-{turn}"), format!("mirror-{turn}")];
            let mut floor = child::floor("download")?;
            floor.args(["--kafka", &self.args.place.kafka, "--topic", &source, "--records", &records]);
            floor.arg(self.place.path(&folders[0]));
            rows.push(self.row("download", "floor", child::measure(&mut floor, LONG, || false)?));
            let mut download = self.place.download(&source, &folders[1]);
            let mut row = self.row("download", "datamill", child::measure(&mut download, LONG, || false)?);
            let first_us = first_record_us(&self.place.path(&folders[1]).join("LOGS"))?;
            let done_us = row.taken.began_us + (row.taken.seconds * 1e6) as u64;
            row.work = Some(done_us.saturating_sub(first_us) as f64 / 1e6);
            rows.push(row);
            for folder in &folders {
                std::fs::remove_dir_all(self.place.path(folder))?;
            }
        }
        rows.iter().for_each(|row| eprintln!("{row}"));
        Ok(rows)
    }

    /// Datamill alone: uploads, once without and once with a memory of what was sent, and reproduces.
    fn measure_growth(&self) -> Result<Vec<Row>> {
        let results = self.place.topic("results")?;
        let mut rows = Vec::new();
        for turn in 0..self.args.repeat {
            let source = self.place.topic(&format!("growth-{turn}"))?;
            let uploaded = child::measure(&mut self.place.upload(&source), LONG, || false)?;
            rows.push(self.row("upload", "datamill", uploaded));
            let watched = self.place.topic(&format!("watched-{turn}"))?;
            let taken = child::measure(&mut self.place.watch(&watched), LONG, || false)?;
            rows.push(self.row("watch", "datamill", taken));
            std::fs::remove_dir_all(self.place.path("files").join("LOGS"))?;
            rows.push(self.reproduce(&source, &results, turn)?);
        }
        rows.iter().for_each(|row| eprintln!("{row}"));
        Ok(rows)
    }

    fn row(&self, job: &str, who: &str, taken: Taken) -> Row {
        Row {
            workload: self.workload.name(),
            job: job.to_owned(),
            who: who.to_owned(),
            files: self.files,
            bytes: self.bytes,
            work: None,
            visible: None,
            share: None,
            taken,
        }
    }

    fn upload(&self, topic: &str) -> Result<Taken> {
        child::measure(&mut self.place.upload(topic), LONG, || false)
    }

    fn floor_send(&self, topic: &str) -> Result<Taken> {
        let mut command = child::floor("send")?;
        command.args(["--kafka", &self.args.place.kafka, "--topic", topic]);
        command.args(["--chunk_size", &CHUNK_SIZE.to_string()]).arg(self.place.path("files"));
        child::measure(&mut command, LONG, || false)
    }

    /// The look at results, of which there are none here, takes its time from the floor as it does from a reproducer.
    fn floor_read(&self, topic: &str, no_results: &str) -> Result<Taken> {
        let mut command = child::floor("read")?;
        let records = self.workload.messages(CHUNK_SIZE).to_string();
        command.args(["--kafka", &self.args.place.kafka, "--topic", topic, "--records", &records]);
        let visible = Visible::watch(&self.args.place.kafka, no_results)?;
        let taken = child::measure(&mut command, LONG, || false)?;
        visible.stop()?;
        Ok(taken)
    }

    /// All turns send to one topic: what the broker does at the first records of a new one is in the first turn alone.
    fn reproduce(&self, source: &str, results: &str, turn: usize) -> Result<Row> {
        let group = format!("{results}-{turn}");
        let visible = Visible::watch(&self.args.place.kafka, results)?;
        let mut command = self.place.extract(source, results, &group)?;
        command.arg("--exit-at-end");
        let taken = child::measure(&mut command, LONG, || false)?;
        let mut row = self.judge("datamill", taken, visible)?;
        let first_us = first_record_us(&self.place.path(&group).join("LOGS"))?;
        let done_us = row.taken.began_us + (row.seconds() * 1e6) as u64;
        row.work = Some(done_us.saturating_sub(first_us) as f64 / 1e6);
        Ok(row)
    }

    /// The row of a reproducer, once all its results can be read.
    fn judge(&self, who: &str, taken: Taken, visible: Visible) -> Result<Row> {
        let Found { last_us, results, keys } = visible.finish()?;
        if !taken.did_not_finish && (results != self.files || keys != self.files) {
            bail!("{who}: {results} results with {keys} keys for {} files", self.files);
        }
        let since = |began: u64| last_us.saturating_sub(began) as f64 / 1e6;
        let mut row = self.row("reproduce", who, taken);
        row.visible = Some(since(row.taken.began_us));
        Ok(row)
    }

    fn peer_upload(&self, python: &Path) -> Result<Row> {
        let topic = self.place.topic("peer-upload")?;
        let mut command = self.python(python, "bench/peer/upload.py");
        command
            .arg(&self.place.peer_upload_config)
            .arg(&topic)
            .arg(self.place.path("files"))
            .arg(CHUNK_SIZE.to_string());
        let limit = Duration::from_secs(self.args.peer_limit);
        // it watches the folder and does not end by itself
        let visible = Visible::watch(&self.args.place.kafka, &topic)?;
        let messages = self.workload.messages(CHUNK_SIZE);
        let taken = child::measure(&mut command, limit, || visible.records() >= messages)?;
        let share = visible.records() as f64 / messages as f64;
        visible.stop()?;
        Ok(Row { share: Some(share), ..self.row("upload", "peer", taken) })
    }

    fn peer_reproduce(&self, python: &Path, source: &str) -> Result<Row> {
        let results = self.place.topic("peer-results")?;
        let visible = Visible::watch(&self.args.place.kafka, &results)?;
        let mut command = self.python(python, "crates/testkit/peer/reproduce.py");
        command
            .arg("extract")
            .arg(&self.place.config)
            .args([source, &results, &results])
            .arg(self.place.path("peer-output"));
        let limit = Duration::from_secs(self.args.peer_limit);
        let taken = child::measure(&mut command, limit, || visible.records() >= self.files)?;
        let share = visible.records() as f64 / self.files as f64;
        Ok(Row { share: Some(share), ..self.judge("peer", taken, visible)? })
    }

    fn python(&self, python: &Path, script: &str) -> Command {
        let mut command = Command::new(python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(script));
        command.stderr(Stdio::null());
        command
    }
}
