//! `datamill demo`: sample files through the whole path, with nothing to set up.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use datamill::broker::{Log, Properties};
use datamill::engine::{self, Control, EngineSettings, Summary};
use datamill::facts::Facts;
use datamill::process::{MetadataJson, UserCode};
use datamill::program::Exit;
use datamill::read::{Start, TopicReader};
use datamill::report::text::{count, counted, shell_word};
use datamill::upload::{UploadSettings, upload_paths};
use datamill::wire::headers;
use include_dir::{Dir, include_dir};
use serde_json::Value;

#[path = "../../../../examples/xrd_metadata.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own, as users write it")]
mod xrd_metadata;

static SAMPLES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../examples/data");

/// A folder with this file in it was made by a demonstration and may be replaced by the next one.
const MARK: &str = ".made-by-datamill-demo";
const FILES_TOPIC: &str = "files";
const RESULTS_TOPIC: &str = "metadata";
const GROUP: &str = "xrd_metadata";

/// Stream sample files through the whole path and print the metadata of each
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder to make; one that an earlier demo made is replaced
    #[arg(long, value_name = "FOLDER", default_value = "datamill-demo")]
    folder: PathBuf,
}

/// `program` is how the command is called, as a word of a shell.
pub(crate) fn run(args: &DemoArgs, program: &str) -> anyhow::Result<Exit> {
    match show(args, program, &mut io::stdout().lock()) {
        // Whoever read the output has had enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            Ok(Exit::Done)
        }
        ended => ended,
    }
}

fn line(out: &mut impl Write, text: impl fmt::Display) -> anyhow::Result<()> {
    writeln!(out, "{text}").context("the demo cannot be printed")
}

fn show(args: &DemoArgs, program: &str, out: &mut impl Write) -> anyhow::Result<Exit> {
    let folder = prepare(&args.folder)?;
    let samples = folder.join("samples");
    let count = write_samples(&samples)?;
    line(out, format_args!("1. {count} sample files of an X-ray diffractometer are in `{}`", shown(&samples)))?;

    let config = folder.join("demo.config");
    // The path begins at the folder of the configuration: the two can be moved together.
    fs::write(&config, "[broker]\nbootstrap.servers = sqlite:datamill.db\n")
        .with_context(|| format!("cannot write `{}`", config.display()))?;
    let mut properties = Properties { options: format!("--config {}", shown(&config)), ..Properties::default() };
    let servers = format!("sqlite:{}", folder.join("datamill.db").display());
    properties.broker.insert("bootstrap.servers".to_owned(), servers);
    let log = datamill::broker::open(&properties)?;

    let (control, facts) = (Control::default(), Facts::default());
    let settings = UploadSettings::new(FILES_TOPIC);
    let uploaded = upload_paths(log.as_ref(), &[samples], &settings, &control, &facts)?;
    line(out, format_args!("2. {uploaded}"))?;

    let output_dir = folder.join("XrdMetadata_output");
    let summary = reproduce(&log, &output_dir, &control, &facts)?;
    line(out, format_args!("3. each file was rebuilt, and the example function read its header:"))?;
    let printed = print_results(&log, out)?;
    line(out, format_args!("\n4. {}", told(&summary)))?;
    print_failures(&output_dir, out)?;
    print_next_steps(program, &folder, &config, out)?;
    let as_expected = uploaded.is_complete() && summary.failed == 1 && printed + 1 == count;
    if !as_expected {
        let (files, results) = (counted(count as u64, "file"), counted(printed as u64, "result"));
        bail!("the demo did not go as it should: {files}, {results}, {}", counted(summary.failed, "failure"));
    }
    Ok(Exit::Done)
}

fn prepare(folder: &Path) -> anyhow::Result<PathBuf> {
    let write = |error: std::io::Error| {
        anyhow::Error::new(error)
            .context(format!("cannot make the folder `{}`; choose another one with --folder", folder.display()))
    };
    if folder.exists() {
        let is_empty = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
        if !is_empty && !folder.join(MARK).exists() {
            bail!("`{}` exists and was not made by a demo; choose another one with --folder", folder.display());
        }
        fs::remove_dir_all(folder).map_err(write)?;
    }
    fs::create_dir_all(folder).map_err(write)?;
    fs::write(folder.join(MARK), "").map_err(write)?;
    folder.canonicalize().map_err(write)
}

fn write_samples(to: &Path) -> anyhow::Result<u64> {
    let mut count = 0;
    let mut folders = vec![&SAMPLES];
    while let Some(folder) = folders.pop() {
        folders.extend(folder.dirs());
        for file in folder.files().filter(|file| file.path().extension().is_some_and(|e| e == "csv")) {
            let path = to.join(file.path());
            let made =
                path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, file.contents()));
            made.with_context(|| format!("cannot write `{}`", path.display()))?;
            count += 1;
        }
    }
    Ok(count)
}

fn reproduce(log: &Arc<dyn Log>, output_dir: &Path, control: &Control, facts: &Facts) -> anyhow::Result<Summary> {
    let settings = EngineSettings {
        result_topic: Some(RESULTS_TOPIC.to_owned()),
        program: "datamill demo".to_owned(),
        max_attempts: 1,
        incomplete_after: Duration::ZERO,
        exit_at_end: true,
        update_seconds: 0,
        ..EngineSettings::new(FILES_TOPIC, GROUP, "demo", output_dir)
    };
    let extractor = UserCode::reproducer(MetadataJson(xrd_metadata::XrdMetadata));
    Ok(engine::run(log, &settings, extractor, control, facts)?)
}

/// Prints each result's path and JSON, and counts them.
fn print_results(log: &Arc<dyn Log>, out: &mut impl Write) -> anyhow::Result<u64> {
    let mut reader = TopicReader::open(log, RESULTS_TOPIC, None, Start::Earliest, false)?;
    let mut printed = 0;
    while !reader.is_at_end() {
        let mut lines = Vec::new();
        reader.poll(Duration::from_secs(5), &mut |record| {
            let path = record.headers.iter().find(|(name, _)| *name == headers::SOURCE_PATH);
            let path = path.map_or("?".into(), |(_, value)| String::from_utf8_lossy(value).into_owned());
            lines.push((path, serde_json::from_slice::<Value>(record.value.unwrap_or_default())));
        })?;
        for (path, value) in lines {
            let json = value.and_then(|v| serde_json::to_string(&v))?;
            line(out, format_args!("\n   {path}\n   {json}"))?;
            printed += 1;
        }
    }
    Ok(printed)
}

fn told(summary: &Summary) -> String {
    format!(
        "{} of {} files have a result in topic `{RESULTS_TOPIC}`; {} is broken on purpose, to show a failure:",
        count(summary.succeeded),
        count(summary.succeeded + summary.failed),
        count(summary.failed)
    )
}

/// Prints what the registry says of the files that failed.
fn print_failures(output_dir: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let logs = output_dir.join("LOGS");
    for entry in fs::read_dir(&logs).with_context(|| format!("cannot read `{}`", logs.display()))? {
        let path = entry?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("failed_from_")) {
            continue;
        }
        let mut rows = csv::ReaderBuilder::new().delimiter(b';').from_path(&path)?;
        let columns = rows.headers()?.clone();
        for row in rows.records() {
            let row = row?;
            let column = |name| columns.iter().position(|c| c == name).and_then(|i| row.get(i)).unwrap_or("?");
            line(out, format_args!("   {}: {}", column("rel_filepath"), column("reason")))?;
        }
        line(out, format_args!("   (from `{}`)", shown(&path)))?;
    }
    Ok(())
}

fn print_next_steps(program: &str, folder: &Path, config: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let config = shown(config);
    line(out, format_args!("\nWhat to try next:"))?;
    line(
        out,
        format_args!("  read the results again:  {program} read {RESULTS_TOPIC} --config {config} --exit-at-end"),
    )?;
    line(out, format_args!("  look at the topics:      {program} topic list --config {config}"))?;
    line(
        out,
        format_args!(
            "  send files of your own:  {program} upload FILE_OR_FOLDER --topic_name {FILES_TOPIC} --config {config}"
        ),
    )?;
    line(
        out,
        format_args!("  send what appears:       {program} watch FOLDER --topic_name {FILES_TOPIC} --config {config}"),
    )?;
    line(out, format_args!("  write your own function: see `examples/xrd_metadata.rs` and README.md"))?;
    line(
        out,
        format_args!(
            "  on Apache Kafka:         the same commands, with its `bootstrap.servers` in the configuration file"
        ),
    )?;
    let mirror = shown(&folder.join("mirror"));
    line(
        out,
        format_args!(
            "  keep a folder like it:   {program} download {mirror} --topic_name {FILES_TOPIC} --config {config} --exit-at-end"
        ),
    )?;
    line(out, format_args!("\nEverything is in `{}`; delete it when you are done.", shown(folder)))
}

/// A path as a person in this folder would write it, quoted where a shell needs it.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
    shell_word(&path.strip_prefix(&here).unwrap_or(path).to_string_lossy()).into_owned()
}
