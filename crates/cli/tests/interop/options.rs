//! Command lines that the peer takes work here with only the program's name changed.

use datamill_testkit::peer;

use crate::common::{Bench, Files, files_in, noise};

/// Everything that a program of the peer has beside its own options.
const SHARED: &str = "--logger_stream_level DEBUG --logger_file_level 30 --logger_file_path here.log --update_seconds 5 \
    --heartbeat_topic_name {beats} --heartbeat_program_id lab --heartbeat_interval_secs 0.5 \
    --log_topic_name {lines} --log_program_id lab --log_interval_secs 2 \
    --treat_undecryptable_as_plaintext --max_wait_per_decrypt 1.5 --max_initial_wait_per_decrypt 60";

const REPRODUCER: [&str; 6] = [
    "--config read.config --consumer_topic_name {files} --producer_topic_name {results}",
    "--config read --consumer_topic_name {files} --producer_topic_name {results} --consumer_group_id {group} \
     --n_consumer_threads 3 --n_producer_threads 2 --download_regex ^(?!a\\.).*$ --output_dir out/1 --mode both {shared}",
    "--config=lab --topic_name {files} --producer_topic_name={results} --mode=disk --output_dir=out/2",
    "--config lab.config --topic_name {results} --consumer_topic_name {files} --output_dir out/3 --update_seconds -1",
    "--conf read.config --consumer_topic {files} --prod {results} --n_cons 1 --out out/4",
    "--config upload.config --config read.config --consumer_topic_name {files} --producer_topic_name {results} \
     --consumer_group_id create_new --output_dir out/5 --mode memory",
];

const UPLOAD: [&str; 3] = [
    "in/a.dat --config upload.config --topic_name {files}",
    "--config upload --topic_name {files} --chunk_size 1024 --n_threads 4 --logger_stream_level critical in/run/b.dat",
    "in/a.dat --config upload.config --topic_name {files} --logger_file_level notset --logger_file_path here.log",
];

const DIRECTORY: [&str; 3] = [
    "in/1 --config upload.config --topic_name {files}",
    "--config upload --topic_name {files} --upload_regex ^.*\\.dat$ --upload_existing --chunk_size 2048 --queue_max_size 20 \
     --watchdog_lag_time 1 --use_polling_observer --n_threads 3 {shared} in/2",
    "in/3 --upload_existing --config upload.config --topic_name x --producer_topic_name {files} --consumer_topic_name y --consumer_group_id z",
];

const DOWNLOAD: [&str; 3] = [
    "out/1 --config read.config --topic_name {files}",
    "--config read --consumer_topic_name {files} --consumer_group_id {group} --n_threads 3 --download_regex ^run/ {shared} out/2",
    "out/3 --config read.config --topic_name {files} --producer_topic_name x --update_seconds 10",
];

struct Lines {
    bench: Bench,
    names: Vec<(&'static str, String)>,
}

impl Lines {
    fn new() -> Self {
        let bench = Bench::new();
        let files: Files =
            [("a.dat", 10), ("run/b.dat", 5000)].map(|(path, len)| (path.to_owned(), noise(1, len))).into();
        bench.write_all("in", &files);
        bench.write("lab.config", std::fs::read(bench.path("read.config")).unwrap());
        let topics = ["files", "results", "beats", "lines"].map(|name| (name, bench.topic(name, 1)));
        let group = ("group", bench.name("group"));
        Self { names: topics.into_iter().chain([group]).collect(), bench }
    }

    /// The arguments of a line.
    fn arguments(&self, line: &str) -> Vec<String> {
        let mut line = line.replace("{shared}", SHARED);
        for (name, value) in &self.names {
            line = line.replace(&format!("{{{name}}}"), value);
        }
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// The peer takes these arguments, and our program with `before` and `after` around them runs well.
    fn check(&self, class: &str, before: &[&str], line: &str, after: &[&str]) -> String {
        let arguments = self.arguments(line);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut theirs = peer::command("accepts.py", &[&[class], &arguments[..]].concat());
        // The peer cannot be imported where OPENMSISTREAM_CONFIG_FILE_DIR is set.
        theirs.current_dir(self.bench.path("")).env_remove("OPENMSISTREAM_CONFIG_FILE_DIR");
        let output = theirs.output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        let ours = [before, &arguments, after].concat();
        let ended = if before.is_empty() { self.bench.describe(&ours) } else { self.bench.datamill(&ours) };
        assert_eq!(ended.code(), 0, "{line}: {}", ended.stderr());
        ended.stderr()
    }
}

#[test]
fn command_lines_of_reproducers_work_here() {
    let lines = Lines::new();
    let args = ["upload", "in", "--config", "upload.config", "--topic_name", &lines.names[0].1];
    lines.bench.datamill(&args).with_code(0);
    for line in REPRODUCER {
        let said = lines.check("Reproducer", &[], line, &["--exit-at-end"]);
        let ignored = said.matches("options without effect here").count();
        assert_eq!(ignored, usize::from(line.contains("{shared}")), "{said}");
    }
    // The filter left one of the two files out, and the others took both.
    assert_eq!(lines.bench.read(&lines.names[1].1).len(), 2 * (REPRODUCER.len() - 1) + 1);
}

#[test]
fn command_lines_of_uploads_work_here() {
    let lines = Lines::new();
    for line in UPLOAD {
        lines.check("UploadDataFile", &["upload"], line, &[]);
    }
    assert_eq!(lines.bench.read(&lines.names[0].1).len(), 1 + 5 + 1);
}

#[test]
fn command_lines_of_watched_folders_work_here() {
    let lines = Lines::new();
    for folder in ["in/1", "in/2", "in/3"] {
        lines.bench.write(&format!("{folder}/b.dat"), noise(2, 5000));
    }
    for line in DIRECTORY {
        lines.check("DataFileUploadDirectory", &["watch"], line, &["--exit-at-end"]);
    }
    // The first one does not say that what is there already is wanted; the others cut it into 3 chunks and 1.
    assert_eq!(lines.bench.read(&lines.names[0].1).len(), 3 + 1);
}

#[test]
fn command_lines_of_downloads_work_here() {
    let lines = Lines::new();
    let args = ["upload", "in", "--config", "upload.config", "--topic_name", &lines.names[0].1];
    lines.bench.datamill(&args).with_code(0);
    for (line, files) in DOWNLOAD.into_iter().zip([2, 1, 2]) {
        lines.check("DataFileDownloadDirectory", &["download"], line, &["--exit-at-end"]);
        let folder = line.split_whitespace().find(|word| word.starts_with("out/")).unwrap();
        assert_eq!(files_in(&lines.bench.path(folder)).len(), files, "{line}");
    }
}
