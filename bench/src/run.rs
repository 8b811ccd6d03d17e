//! The measurements of one run, workload by workload.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::child::{self, Taken, ourselves};
use crate::place::{Place, PlaceArgs};
use crate::report::{Report, Row};
use crate::visible::{Found, Visible};
use crate::workload::Workload;

/// Bytes of file content in a message: OpenMSIStream's default.
const CHUNK_SIZE: usize = 524_288;
/// Time for what has no limit of its own.
const LONG: Duration = Duration::from_secs(1200);

/// What is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Workloads
    #[arg(long, value_enum, value_delimiter = ',', default_value = "small,large16,mixed")]
    workloads: Vec<Workload>,
    /// How often each is measured; the medians are reported
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Python interpreter that has the package `openmsistream`: it is measured as well
    #[arg(long)]
    peer: Option<PathBuf>,
    /// Seconds for each measurement of the peer
    #[arg(long = "peer_limit", default_value_t = 300)]
    peer_limit: u64,
    /// Writes all figures as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &RunArgs) -> Result<()> {
    let mut report = Report::default();
    for workload in &args.workloads {
        for row in Bench::prepare(args, *workload)?.measure()? {
            eprintln!("{row}");
            report.rows.push(row);
        }
    }
    print!("{report}");
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(())
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

    fn measure(&self) -> Result<Vec<Row>> {
        let source = self.place.topic("source")?;
        let mut rows = Vec::new();
        for turn in 0..self.args.repeat {
            let uploaded = if turn == 0 { source.clone() } else { self.place.topic(&format!("upload-{turn}"))? };
            rows.push(self.row("upload", "floor", self.floor_send(&self.place.topic(&format!("floor-{turn}"))?)?));
            rows.push(self.row("upload", "datamill", self.upload(&uploaded)?));
        }
        for turn in 0..self.args.repeat {
            rows.push(self.row("reproduce", "floor", self.floor_read(&source)?));
            rows.push(self.reproduce(&source, turn)?);
        }
        if let Some(python) = &self.args.peer {
            rows.push(self.peer_upload(python)?);
            rows.push(self.peer_reproduce(python, &source)?);
        }
        Ok(rows)
    }

    fn row(&self, job: &'static str, who: &'static str, taken: Taken) -> Row {
        Row {
            workload: self.workload.name(),
            job,
            who,
            files: self.files,
            bytes: self.bytes,
            work: None,
            visible: None,
            taken,
        }
    }

    fn upload(&self, topic: &str) -> Result<Taken> {
        let mut command = self.place.datamill();
        command
            .args(["upload", "--topic_name", topic, "--config"])
            .arg(&self.place.config)
            .arg(self.place.path("files"));
        command.args(["--logger_stream_level", "error"]);
        child::measure(&mut command, LONG, || false)
    }

    fn floor_send(&self, topic: &str) -> Result<Taken> {
        let mut command = ourselves()?;
        command.args(["floor-send", "--kafka", &self.args.place.kafka, "--topic", topic]);
        command.args(["--chunk_size", &CHUNK_SIZE.to_string()]).arg(self.place.path("files"));
        child::measure(&mut command, LONG, || false)
    }

    fn floor_read(&self, topic: &str) -> Result<Taken> {
        let mut command = ourselves()?;
        let records = self.workload.messages(CHUNK_SIZE).to_string();
        command.args(["floor-read", "--kafka", &self.args.place.kafka, "--topic", topic, "--records", &records]);
        child::measure(&mut command, LONG, || false)
    }

    fn reproduce(&self, source: &str, turn: usize) -> Result<Row> {
        let results = self.place.topic(&format!("results-{turn}"))?;
        let visible = Visible::watch(&self.args.place.kafka, &results)?;
        let mut command = self.place.extract(source, &results)?;
        command.arg("--exit-at-end");
        let taken = child::measure(&mut command, LONG, || false)?;
        self.judge("datamill", taken, visible)
    }

    /// The row of a reproducer, once all its results can be read.
    fn judge(&self, who: &'static str, taken: Taken, visible: Visible) -> Result<Row> {
        let Found { last_us, results, keys } = visible.finish()?;
        if !taken.did_not_finish && (results != self.files || keys != self.files) {
            bail!("{who}: {results} results with {keys} keys for {} files", self.files);
        }
        let since = |began: u64| last_us.saturating_sub(began) as f64 / 1e6;
        let mut row = self.row("reproduce", who, taken);
        row.visible = Some(since(row.taken.began_us));
        row.work = row.taken.printed.get("first").map(|first| since(*first));
        Ok(row)
    }

    fn peer_upload(&self, python: &Path) -> Result<Row> {
        let topic = self.place.topic("peer-upload")?;
        let mut command = self.python(python, "upload.py");
        command.arg(&self.place.config).arg(&topic).arg(self.place.path("files")).arg(CHUNK_SIZE.to_string());
        let limit = Duration::from_secs(self.args.peer_limit);
        Ok(self.row("upload", "peer", child::measure(&mut command, limit, || false)?))
    }

    fn peer_reproduce(&self, python: &Path, source: &str) -> Result<Row> {
        let results = self.place.topic("peer-results")?;
        let visible = Visible::watch(&self.args.place.kafka, &results)?;
        let mut command = self.python(python, "reproduce.py");
        command.arg(&self.place.config).args([source, &results, &results]).arg(self.place.path("peer-output"));
        let limit = Duration::from_secs(self.args.peer_limit);
        let taken = child::measure(&mut command, limit, || visible.records() >= self.files)?;
        self.judge("peer", taken, visible)
    }

    fn python(&self, python: &Path, script: &str) -> Command {
        let mut command = Command::new(python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peer").join(script));
        command.stderr(Stdio::null());
        command
    }
}
