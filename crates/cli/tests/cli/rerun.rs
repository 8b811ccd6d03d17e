//! `datamill rerun`: which files it chooses, what it says, and that programs run them again.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;

use datamill::assemble::DownloadDataFile;
use datamill::broker::{Log, Properties};
use datamill::engine::{Control, EngineSettings};
use datamill::facts::Facts;
use datamill::process::{ProcessingError, ReproducerMessage, UserCode};
use datamill::program::{ProgramArgs, ReproducerArgs};
use datamill::settings::Config;
use serde_json::Value;

use crate::common::{Ended, Place};

/// A folder with a log, on which group `g` has a result of three files.
struct Bench {
    place: Place,
    log: Arc<dyn Log>,
}

impl Bench {
    fn new() -> Self {
        let place = Place::new();
        for name in ["one.dat", "sub/two.dat", "three.dat"] {
            place.write(&format!("data/{name}"), name.as_bytes());
        }
        assert_eq!(place.run(&["upload", "data", "--topic_name", "t"]).code(), 0);
        let servers = format!("sqlite:{}", place.path("datamill.db").display());
        let broker = BTreeMap::from([("bootstrap.servers".to_owned(), servers)]);
        let log = datamill::broker::open(&Properties { broker, ..Properties::default() }).unwrap();
        let bench = Self { place, log };
        bench.run(Some("1.9"));
        bench
    }

    /// Runs a program of the group to the end of the topic.
    fn run(&self, version: Option<&str>) -> u64 {
        self.run_with(version, |file| Ok(Some(ReproducerMessage::new(file.size().to_string()))))
    }

    fn run_with(
        &self,
        version: Option<&str>,
        function: impl Fn(&DownloadDataFile) -> Result<Option<ReproducerMessage>, ProcessingError> + Send + Sync + 'static,
    ) -> u64 {
        let output = self.place.path("output").display().to_string();
        let mut words = vec!["p", "--consumer_topic_name", "t", "--producer_topic_name", "results"];
        words.extend(["--consumer_group_id", "g", "--exit-at-end", "--max_attempts", "1", "--output_dir", &output]);
        words.extend(version.iter().flat_map(|version| ["--processor_version", version]));
        let matches = datamill::program::command_line::<ReproducerArgs>("p").get_matches_from(words);
        let args = <ReproducerArgs as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
        let settings: EngineSettings = args.engine_settings("p", &Config::load(None).unwrap()).unwrap();
        let code = UserCode::function(Default::default(), move |file, _| function(file));
        datamill::engine::run(&self.log, &settings, code, &Control::default(), &Facts::default()).unwrap().rerun
    }

    fn rerun(&self, args: &[&str]) -> Ended {
        self.place.run(&[&["rerun", "--topic_name", "t", "--consumer_group_id", "g"], args].concat())
    }

    /// Paths that are listed, with the version of their results, and whether they are asked for.
    fn listed(&self, args: &[&str]) -> Vec<(String, Option<String>, bool)> {
        let ended = self.rerun(&[&["--list", "--json"], args].concat());
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        let files = ended.stdout();
        let files = files.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let text = |value: &Value| value.as_str().map(str::to_owned);
        files
            .map(|file| (text(&file["path"]).unwrap(), text(&file["version"]), file["requested"].as_bool().unwrap()))
            .collect()
    }

    fn paths(&self, args: &[&str]) -> Vec<String> {
        self.listed(args).into_iter().map(|(path, ..)| path).collect()
    }
}

#[test]
fn files_are_shown_and_chosen_by_path_time_and_version() {
    let bench = Bench::new();
    let table = bench.rerun(&["--list"]);
    assert_eq!(table.code(), 0, "{}", table.stderr());
    for part in ["path", "sub/two.dat", "1.9", "results:0:", "no"] {
        assert!(table.stdout().contains(part), "{part}: {}", table.stdout());
    }
    assert_eq!(bench.paths(&["--path", "sub/"]), ["sub/two.dat"]);
    assert_eq!(bench.paths(&["--version_below", "1.10"]).len(), 3);
    assert_eq!(bench.paths(&["--version-below", "1.9"]), [] as [&str; 0]);
    assert_eq!(bench.paths(&["--since", "2020-01-01"]).len(), 3);
    let none = bench.rerun(&["--since", "2100-01-01 10:00"]);
    assert_eq!(none.code(), 0);
    assert!(none.stderr().contains("none of the 3 files of group `g`"), "{}", none.stderr());
}

#[test]
fn it_says_how_many_files_are_run_again_and_asks_before() {
    let bench = Bench::new();
    let typed = |answer: &str| {
        let args = ["rerun", "--topic-name", "t", "--consumer-group-id", "g", "--path", "(?!sub)"];
        let mut command = bench.place.command(&args);
        let piped = command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for answer in ["", "no\n"] {
        let (code, said) = typed(answer);
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("2 of 3 files with a result will be run again") && said.contains("nothing was asked for")
        );
    }
    let (code, said) = typed("yes\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("another result of 2 files is asked for; no program of group `g` runs"), "{said}");
    let asked = |path: &str, asked| (path.to_owned(), Some("1.9".to_owned()), asked);
    assert_eq!(bench.listed(&[]), [asked("one.dat", true), asked("sub/two.dat", false), asked("three.dat", true)]);
    assert_eq!((bench.run(Some("1.10")), bench.run(None)), (2, 0));
    assert_eq!(bench.paths(&["--version_below", "1.10"]), ["sub/two.dat"]);
    let ended = bench.rerun(&["--yes"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert_eq!(bench.run(None), 3);
    assert_eq!(bench.listed(&[])[0], ("one.dat".to_owned(), None, false));

    let read = |args: &[&str]| {
        let ended = bench.place.run(&[&["read", "results"], args].concat());
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        ended.stdout().lines().count()
    };
    assert_eq!((read(&["--exit-at-end"]), read(&["--newest"])), (8, 3));
    let reconciled = bench.place.run(&["reconcile", "data", "--topic_name", "t", "--results", "results", "--json"]);
    assert_eq!(reconciled.code(), 0, "{}{}", reconciled.stdout(), reconciled.stderr());
    let newest: Vec<Value> = bench.place.run(&["read", "results", "--newest"]).stdout().lines().map(parsed).collect();
    for row in reconciled.stdout().lines().map(parsed) {
        let place = row["result"].as_str().unwrap();
        let is_newest = |line: &Value| format!("{}:{}", line["partition"], line["offset"]) == place;
        assert!(newest.iter().any(is_newest), "{row}");
    }
}

#[test]
fn a_file_that_fails_when_it_is_run_again_is_told_by_reconcile() {
    let bench = Bench::new();
    assert_eq!(bench.rerun(&["--path", "one", "--yes"]).code(), 0);
    bench.run_with(None, |file| match file.filename() {
        "one.dat" => Err(ProcessingError::file_failed("no calibration")),
        _ => Ok(Some(ReproducerMessage::new("again"))),
    });
    let args = ["reconcile", "data", "--topic_name", "t", "--consumer_group_id", "g", "--results", "results"];
    let reconciled = bench.place.run(&[&args[..], &["--problems", "--json"]].concat());
    assert_eq!(reconciled.code(), 1, "{}", reconciled.stderr());
    let rows: Vec<Value> = reconciled.stdout().lines().map(parsed).collect();
    assert_eq!((rows.len(), &rows[0]["path"], &rows[0]["state"]), (1, &"one.dat".into(), &"result".into()));
    let reason = rows[0]["reason"].as_str().unwrap();
    let told = "running it again failed: computing_result_message_failed: no calibration";
    assert!(reason.contains(told), "{reason}");
    assert_eq!(bench.run(None), 1, "the next start tries it again");
    assert_eq!(bench.place.run(&args).code(), 0);
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

#[test]
fn mistakes_are_named() {
    let bench = Bench::new();
    for (args, said) in [
        (&["--consumer_group_id", "other"][..], "group `other` has never read topic `t`: check --consumer_group_id"),
        (&["--path", "(("], "--path cannot be used"),
        (&["--since", "yesterday"], "write a time as"),
        (&["--version_below", "2.x"], "write numbers with points between"),
        (&["--json"], "--list"),
        (&["--topic_name", "none"], "none"),
    ] {
        let ended = bench.rerun(args);
        assert_eq!(ended.code(), 2, "{args:?}: {}", ended.stderr());
        assert!(ended.stderr().contains(said), "{said}: {}", ended.stderr());
    }
    let ended =
        bench.place.run(&["download", "mirror", "--topic_name", "t", "--consumer_group_id", "m", "--exit-at-end"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    let ended = bench.rerun(&["--consumer_group_id", "m"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr().contains("`--consumer_group_id NEW_GROUP --start_from earliest`"), "{}", ended.stderr());
}
