//! What a running engine shows of itself over HTTP: how far its group is behind.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

use crate::common::{Bench, Place, StopAtEnd, Told, chunks, content, on_both_logs, wait_for};
use datamill::broker::{Log, NewTopic};
use datamill::engine::{Control, EngineSettings};
use datamill::facts::{Fact, Facts, Hold, Listener};
use datamill::rekey::{RekeySettings, rekey};
use datamill::report::clock::now_ms;
use datamill::report::heartbeat::ProgramKind;
use datamill::status::{Recent, Server, Shown, Source};
use datamill::survey::{GroupStatus, group_status};
use datamill_testkit::http::{Answer, get};
use datamill_testkit::kafka::Kafka;

on_both_logs! {
    each_lag_is_right_while_the_function_is_held_and_falls_to_nothing,
    a_topic_that_is_written_in_transactions_has_no_lag_left_at_its_end,
    the_page_says_what_became_of_each_file_and_no_name_is_markup,
    an_upload_that_was_cut_off_is_named_once_with_what_sends_the_rest,
    what_a_repeated_upload_leaves_over_is_no_lag,
    an_upload_whose_chunks_still_come_is_not_cut_off_however_old_they_are,
    a_part_of_a_file_that_was_sent_again_and_is_whole_is_nothing_to_look_after,
}

/// Serves the status of an engine on this topic. What is told to the facts that it answers is on the page.
pub fn serve(bench: &Bench, topic: &str) -> (Server, Facts) {
    serve_on(&bench.log, topic, &bench.group)
}

/// The same for an engine that has a log of its own.
pub fn serve_on(log: &Arc<dyn Log>, topic: &str, group: &str) -> (Server, Facts) {
    let recent = Arc::<Recent>::default();
    let facts = Facts::default().heard_by(recent.clone());
    let source =
        Source { topic: topic.to_owned(), group: group.to_owned(), instance: "one".to_owned(), log: Arc::clone(log) };
    let (counters, kind) = (Arc::clone(facts.counters()), ProgramKind::Reproducer);
    let log = Some(Arc::clone(log));
    let shown = Shown { program: "test".to_owned(), kind, counters, log, source: Some(source), recent };
    (Server::start("0".parse().unwrap(), shown).unwrap(), facts)
}

fn metrics(server: &Server) -> Answer {
    let answer = get(server.address(), "/metrics");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

/// Messages, files and bytes, and the largest number of seconds.
fn lag(answer: &Answer) -> Option<[f64; 4]> {
    let seconds = answer.body.lines().filter(|line| line.starts_with("datamill_lag_seconds{"));
    let seconds = seconds.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).reduce(f64::max);
    let sum = |name: &str| answer.sum(&format!("datamill_lag_{name}{{"));
    Some([sum("messages")?, sum("files")?, sum("bytes")?, seconds?])
}

const FILES: usize = 1000;
const CHUNKS: usize = 2;
const BYTES: usize = 6000;

/// Some files are read and wait for the function; for the others there is no room, and they are not read.
fn each_lag_is_right_while_the_function_is_held_and_falls_to_nothing(place: &Place) {
    let bench = Bench::new(place, 2);
    let sent_ms = now_ms() - 1_000_000;
    let files: Vec<_> = (0..FILES)
        .flat_map(|i| chunks((i % 2) as i32, &format!("f{i}"), &content(i as u64, BYTES), BYTES / CHUNKS))
        .collect();
    bench.send_at(&files, Some(sent_ms));
    let (control, code) = (Control::default(), Told::default());
    code.holds.store(true, SeqCst);
    let settings = EngineSettings { exit_at_end: false, memory_limit: 8 << 20, ..bench.settings() };
    let (server, facts) = serve(&bench, &bench.topic);
    let crowded = || facts.counters().snapshot().state.held.is_some_and(|(hold, _)| hold == Hold::Crowded);
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&control);
        let told = code.clone();
        let run = scope.spawn(|| bench.run_counted(&settings, told, &control, &facts));
        wait_for("the function not to catch up", crowded);
        let is_near = |value: f64, expected: f64| (value - expected).abs() <= 0.2 * expected;
        let expected = [FILES * CHUNKS, FILES, FILES * BYTES].map(|count| count as f64);
        wait_for("the lag of all files", || {
            let Some([messages, files, bytes, seconds]) = lag(&metrics(&server)) else { return false };
            let age = (now_ms() - sent_ms) as f64 / 1000.0;
            [messages, files, bytes].iter().zip(expected).all(|(value, expected)| is_near(*value, expected))
                && is_near(seconds, age)
        });
        let answer = metrics(&server);
        let estimated = answer.body.lines().filter(|line| line.contains("estimated=\"true\""));
        let estimated: f64 = estimated.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum();
        assert!(estimated > 0.0, "all was read, nothing is estimated: {}", answer.body);
        code.holds.store(false, SeqCst);
        wait_for("no lag", || lag(&metrics(&server)) == Some([0.0; 4]));
        assert_eq!(metrics(&server).series("datamill_files_total{outcome=\"done\"}"), Some(FILES as f64));
        drop(stop);
        assert_eq!(run.join().unwrap().unwrap().succeeded, FILES as u64);
    });
    assert_eq!(code.calls(), FILES as u64);
}

/// On Kafka the last offset of such a topic is a marker.
fn a_topic_that_is_written_in_transactions_has_no_lag_left_at_its_end(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&(0..20).flat_map(|i| chunks(0, &format!("f{i}"), &content(i, 50), 20)).collect::<Vec<_>>());
    let copy = bench.topic.replace("files", "copy");
    let new = NewTopic { name: copy.clone(), partitions: 1, replication: 1, settings: BTreeMap::new() };
    bench.log.create_topic(&new).unwrap();
    let copying = RekeySettings {
        source: bench.topic.clone(),
        destination: copy.clone(),
        group: format!("{}-copy", bench.group),
        instance: "one".to_owned(),
        exit_at_end: true,
    };
    rekey(&bench.log, &copying, &Control::default(), &Facts::default()).unwrap();
    let control = Control::default();
    let settings = EngineSettings { topic: copy.clone(), exit_at_end: false, ..bench.settings() };
    let (server, facts) = serve(&bench, &copy);
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&control);
        let run = scope.spawn(|| bench.run_counted(&settings, Told::default(), &control, &facts));
        wait_for("all results", || facts.counters().counts().done == 20);
        wait_for("no lag", || lag(&metrics(&server)) == Some([0.0; 4]));
        drop(stop);
        run.join().unwrap().unwrap();
    });
}

/// A number of the page, by the id of its box.
fn number(page: &str, id: &str) -> Option<u64> {
    let (_, from) = page.split_once(&format!("<div id=\"{id}\">"))?;
    from.split_once("<data value=\"")?.1.split('"').next()?.parse().ok()
}

fn the_page_says_what_became_of_each_file_and_no_name_is_markup(place: &Place) {
    let bench = Bench::new(place, 1);
    for (path, size) in [("good", 10), ("<i>name & \"co\"", 20), ("bad/one", 30)] {
        bench.send(&chunks(0, path, &content(1, size), 100));
    }
    bench.send(&chunks(0, "half", &content(2, 200), 100)[..1]);
    let (server, facts) = serve(&bench, &bench.topic);
    let page = || get(server.address(), "/").body;
    let (control, code) = (Control::default(), Told::to_fail_in("bad"));
    let settings = EngineSettings { exit_at_end: false, ..bench.settings() };
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&control);
        let told = code.clone();
        let run = scope.spawn(|| bench.run_counted(&settings, told, &control, &facts));
        let numbers = || ["done", "failed", "filling", "in-hand"].map(|id| number(&page(), id).unwrap());
        wait_for("all outcomes on the page", || numbers() == [2, 1, 1, 0]);
        let page = page();
        assert!(page.contains("&lt;i&gt;name &amp; &quot;co&quot;") && !page.contains("<i>name"), "{page}");
        assert!(page.contains("<b>the function failed:</b> ") && page.contains("no calibration for one"), "{page}");
        let retry = format!("retry --topic_name {} --consumer_group_id {}", bench.topic, bench.group);
        assert!(page.contains(&retry), "{page}");
        let half = "<data value=\"1\">1</data> of <data value=\"2\">2</data></td><td><data value=\"100\">100 B</data>";
        assert!(page.contains(half), "{page}");
        drop(stop);
        assert_eq!(run.join().unwrap().unwrap().failed, 1);
    });
    code.fails.store(false, SeqCst);
    bench.run_counted(&bench.settings(), code, &Control::default(), &facts).unwrap();
    let page = page();
    assert_eq!((number(&page, "done"), number(&page, "failed")), (Some(3), Some(1)), "{page}");
    assert!(!page.contains("Failed files"), "it has its result, and is on the list of failed files: {page}");
}

/// Keeps the files that are told to be cut off.
#[derive(Default)]
struct CutOff(Mutex<Vec<String>>);

impl Listener for CutOff {
    fn hear(&self, fact: &Fact<'_>) {
        if let Fact::CutOff(files) = fact {
            let told = files.iter().map(|file| format!("{} {}", file.row.rel_filepath, file.there));
            self.0.lock().unwrap().extend(told);
        }
    }
}

fn an_upload_that_was_cut_off_is_named_once_with_what_sends_the_rest(place: &Place) {
    let bench = Bench::new(place, 1);
    let hour_ago = now_ms() - 3_600_000;
    let half = chunks(0, "half.dat", &content(1, 300), 100);
    bench.send_at(&half[..2], Some(hour_ago));
    bench.send_at(&chunks(0, "changed.dat", &content(2, 300), 100)[..2], Some(hour_ago));
    bench.send_at(&chunks(0, "changed.dat", &content(3, 200), 100), Some(hour_ago));
    bench.send(&chunks(0, "comes.dat", &content(4, 200), 100)[..1]);
    let (server, facts) = serve(&bench, &bench.topic);
    let told = Arc::<CutOff>::default();
    let facts = facts.heard_by(told.clone());
    let (control, code) = (Control::default(), Told::default());
    let settings = EngineSettings { exit_at_end: false, ..bench.settings() };
    let page = || get(server.address(), "/").body;
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&control);
        let run = scope.spawn(|| bench.run_counted(&settings, code, &control, &facts));
        let cut_off = || metrics(&server).series("datamill_files_cut_off");
        wait_for("the upload that was cut off", || cut_off() == Some(1.0));
        wait_for("the newer version", || number(&page(), "done") == Some(1));
        wait_for("the lag", || lag(&metrics(&server)).is_some_and(|lag| lag[..3] == [3.0, 2.0, 300.0]));
        wait_for("the page", || page().contains("waiting for the rest of 1 file</p>"));
        let shown = page();
        let (_, section) = shown.split_once("Uploads that were probably cut off").unwrap();
        let (section, rest) = section.split_once("</section>").unwrap();
        let parts = ["half.dat", "<data value=\"2\">2</data> of <data value=\"3\">3</data>", "1 h "];
        let commands = ["reconcile DIR --topic_name T --problems", "upload DIR --topic_name T --only-missing"];
        for part in parts.map(str::to_owned).into_iter().chain(commands.map(|of| of.replace("T", &bench.topic))) {
            assert!(section.contains(&part), "{part}: {section}");
        }
        assert!(!section.contains("changed.dat") && !section.contains("comes.dat"), "{section}");
        let (_, fills_up) = rest.split_once("Files that fill up").unwrap();
        assert!(fills_up.contains(" min ago; a newer version came"), "{fills_up}");

        bench.send(&half[2..]);
        wait_for("the rest of the file", || number(&page(), "done") == Some(2) && cut_off() == Some(0.0));
        wait_for("the page without it", || !page().contains("probably cut off"));
        drop(stop);
        run.join().unwrap().unwrap();
    });
    assert_eq!(*told.0.lock().unwrap(), ["half.dat 2"]);
}

fn what_a_repeated_upload_leaves_over_is_no_lag(place: &Place) {
    let bench = Bench::new(place, 1);
    let file = chunks(0, "file.dat", &content(1, 500), 100);
    bench.send(&file[..3]);
    let (server, facts) = serve(&bench, &bench.topic);
    let (control, code) = (Control::default(), Told::default());
    let settings = EngineSettings { exit_at_end: false, ..bench.settings() };
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&control);
        let run = scope.spawn(|| bench.run_counted(&settings, code, &control, &facts));
        wait_for("the lag of a part", || lag(&metrics(&server)).is_some_and(|lag| lag[..3] == [3.0, 1.0, 300.0]));
        bench.send(&file);
        wait_for("the result", || facts.counters().counts().done == 1);
        wait_for("no lag", || lag(&metrics(&server)) == Some([0.0; 4]));
        let page = || get(server.address(), "/").body;
        wait_for("the page", || page().contains("has its outcome") && !page().contains("Files that fill up"));
        drop(stop);
        run.join().unwrap().unwrap();
    });
}

fn an_upload_whose_chunks_still_come_is_not_cut_off_however_old_they_are(place: &Place) {
    let bench = Bench::new(place, 1);
    let hour_ago = Some(now_ms() - 3_600_000);
    let file = chunks(0, "slow.dat", &content(1, 500), 100);
    bench.send_at(&file[..2], hour_ago);
    let (server, facts) = serve(&bench, &bench.topic);
    let (control, code) = (Control::default(), Told::default());
    let settings = EngineSettings { exit_at_end: false, ..bench.settings() };
    let cut_off = || metrics(&server).series("datamill_files_cut_off");
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&control);
        let run = scope.spawn(|| bench.run_counted(&settings, code, &control, &facts));
        wait_for("the upload that was cut off", || cut_off() == Some(1.0));
        // as from a clock that is behind, or over a link on which they wait for long
        bench.send_at(&file[2..3], hour_ago);
        wait_for("the upload to go on", || cut_off() == Some(0.0));
        bench.send_at(&file[3..], hour_ago);
        wait_for("the result", || facts.counters().counts().done == 1);
        drop(stop);
        run.join().unwrap().unwrap();
    });
}

fn a_part_of_a_file_that_was_sent_again_and_is_whole_is_nothing_to_look_after(place: &Place) {
    let bench = Bench::new(place, 1);
    let hour_ago = Some(now_ms() - 3_600_000);
    let file = chunks(0, "file.dat", &content(1, 500), 100);
    bench.send_at(&file, hour_ago);
    bench.send_at(&file[..3], hour_ago);
    let status = || {
        group_status(&bench.log, &bench.topic, &bench.group, false, &Default::default(), &Control::default()).unwrap()
    };
    let waits = |status: &GroupStatus| (status.lag.files.unwrap(), status.lag.messages, status.cut_off);
    assert_eq!(waits(&status()), (1, 5, 0), "the first upload has no outcome yet");
    let (server, facts) = serve(&bench, &bench.topic);
    let (control, code) = (Control::default(), Told::default());
    let incomplete_after = std::time::Duration::from_secs(1800);
    let settings = EngineSettings { exit_at_end: false, incomplete_after, ..bench.settings() };
    let counts = || facts.counters().counts();
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&control);
        let run = scope.spawn(|| bench.run_counted(&settings, code, &control, &facts));
        wait_for("the result", || counts().done == 1);
        wait_for("no lag", || lag(&metrics(&server)) == Some([0.0; 4]));
        wait_for("the page", || get(server.address(), "/").body.contains("; the file is there without this upload"));
        assert_eq!(metrics(&server).series("datamill_files_cut_off"), Some(0.0));
        wait_for("the position", || status().partitions[0].position == Some(5));
        assert_eq!(waits(&status()), (0, 0, 0), "it is not seen from the position on that the file is whole");
        // it ends without a failure
        bench.send(&chunks(0, "next.dat", &content(2, 100), 100));
        wait_for("the end of it", || counts().replaced == 1);
        drop(stop);
        let summary = run.join().unwrap().unwrap();
        assert_eq!((summary.succeeded, summary.failed, summary.incomplete.len()), (2, 0, 0), "{summary}");
    });
    assert_eq!((waits(&status()), status().incomplete), ((0, 0, 0), Some(0)));
}

#[test]
fn a_program_whose_commits_do_not_go_through_is_not_ready_until_they_do() {
    let bench = Bench::new(&Place::Embedded, 1);
    bench.send(&chunks(0, "first", &content(1, 10), 100));
    let (server, facts) = serve(&bench, &bench.topic);
    let (control, code) = (Control::default(), Told::default());
    let settings = EngineSettings { exit_at_end: false, ..bench.settings() };
    let counters = facts.counters();
    let readyz = || get(server.address(), "/readyz");
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&control);
        let told = code.clone();
        let run = scope.spawn(|| bench.run_counted(&settings, told, &control, &facts));
        wait_for("the first result", || counters.counts().done == 1);
        wait_for("the program to be ready", || readyz().status == 200);
        code.holds.store(true, SeqCst);
        bench.send(&chunks(0, "second", &content(2, 10), 100));
        wait_for("the second file in hand", || counters.snapshot().state.in_hand == 1);
        // nobody else can write to the log
        let other = rusqlite::Connection::open(bench.folder.path().join("log.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        code.holds.store(false, SeqCst);
        wait_for("the program to be ready no longer", || {
            readyz().status == 503 && readyz().body.contains("what is done cannot be committed")
        });
        let page = get(server.address(), "/").body;
        assert!(page.contains("holding: what is done cannot be committed"), "{page}");
        other.execute_batch("ROLLBACK").unwrap();
        wait_for("the second result", || counters.counts().done == 2);
        wait_for("the program to be ready again", || readyz().status == 200);
        drop(stop);
        run.join().unwrap().unwrap();
    });
}

#[test]
fn a_broker_that_is_killed_is_shown_as_away_and_not_as_one_that_throttles() {
    const FILES: u64 = 10;
    let kafka = Kafka::start_own();
    let bench = Bench::on(&kafka, &[], 1);
    for number in 0..FILES {
        bench.send(&chunks(0, &format!("f{number}"), &content(number, 1 << 20), 1 << 19));
    }
    kafka.quota("consumer_byte_rate=300000");
    let (server, facts) = serve(&bench, &bench.topic);
    let control = Control::default();
    let settings = EngineSettings { exit_at_end: false, ..bench.settings() };
    let counters = facts.counters();
    let held = || counters.snapshot().state.held.map(|(hold, _)| hold);
    let readyz = || get(server.address(), "/readyz");
    let shown = |reason: &str| metrics(&server).series(&format!("datamill_held{{reason=\"{reason}\"}}"));
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&control);
        let run = scope.spawn(|| bench.run_counted(&settings, Told::default(), &control, &facts));
        wait_for("the quota", || held() == Some(Hold::Throttled));
        assert_eq!((shown("throttled"), readyz().status), (Some(1.0), 200));
        kafka.kill9();
        wait_for("the outage", || held() == Some(Hold::Broker));
        assert_eq!((shown("throttled"), shown("broker")), (Some(0.0), Some(1.0)));
        let answer = readyz();
        let away = format!("holding: broker `{}` is away", kafka.address());
        let next = "Nothing is lost meanwhile, and it goes on by itself once the broker is back.";
        let (said, why) = answer.body.split_once(". ").expect(&answer.body);
        assert_eq!((answer.status, said), (503, &*format!("not ready: {away}")), "{}", answer.body);
        assert!(why.starts_with("It ") && why.contains(". Since ") && why.trim_end().ends_with(next), "{why}");
        let page = get(server.address(), "/").body;
        assert!(page.contains(&away) && page.contains(next) && !page.contains("embedded log"), "{page}");
        kafka.restart();
        kafka.quota("none");
        wait_for("all results", || counters.counts().done == FILES);
        wait_for("the program to be ready again", || readyz().status == 200);
        drop(stop);
        run.join().unwrap().unwrap();
    });
}
