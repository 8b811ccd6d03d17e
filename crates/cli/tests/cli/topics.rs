//! Topics that are not there, and topics that are deleted, on both logs.

use std::process::Stdio;

use datamill_testkit::kafka::Kafka;
use serde_json::Value;

use crate::common::{Ended, Place, Running, wait_until};

/// A folder with the configuration `my lab.config`, and names of topics that no other test uses.
struct Bench {
    place: Place,
    unique: String,
}

impl Bench {
    fn both() -> [Self; 2] {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        ["sqlite:lab.db".to_owned(), Kafka::from_env().address().to_owned()].map(|servers| {
            let place = Place::new();
            place.write("my lab.config", format!("[broker]\nbootstrap.servers = {servers}\n").as_bytes());
            place.write("x.csv", b"1");
            let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let unique = format!("{}-{}-{count}", datamill::report::clock::now_ms(), std::process::id());
            Self { place, unique }
        })
    }

    fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.unique)
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.place.run(&[args, &["--config", "my lab.config"]].concat())
    }

    fn done(&self, args: &[&str]) -> Ended {
        let ended = self.run(args);
        assert_eq!(ended.code(), 0, "{args:?}: {}", ended.stderr());
        ended
    }

    fn describe(&self, topic: &str) -> Value {
        serde_json::from_str(&self.done(&["topic", "describe", topic, "--json"]).stdout()).unwrap()
    }
}

/// The words of each command that only reads the topic of this name; none for a command that makes it, or asks about none.
/// A command that is not known here has no words: the test fails.
fn readers<'a>(command: &'a str, meant: &'a str, there: &'a str, store: &'a str) -> Vec<Vec<&'a str>> {
    match command {
        "read" => vec![vec!["read", meant], vec!["read", meant, "--exit-at-end"], vec!["read", meant, "--newest"]],
        "download" => vec![vec!["download", "mirror", "--topic_name", meant, "--exit-at-end"]],
        "ls" => vec![vec!["ls", meant]],
        "get" => vec![vec!["get", meant, "x.csv", "-o", "got.csv"]],
        "verify" => vec![vec!["verify", meant]],
        "reconcile" => vec![
            vec!["reconcile", ".", "--topic_name", meant],
            vec!["reconcile", ".", "--topic_name", there, "--results", meant],
        ],
        "status" => vec![
            vec!["status", "--topic_name", meant, "--consumer_group_id", "g"],
            vec!["status", ".", "--topic_name", meant],
        ],
        "check" => vec![vec!["check", "--topic_name", meant]],
        "topic" => vec![vec!["topic", "describe", meant], vec!["topic", "delete", meant, "--yes"]],
        "transfer" => vec![vec!["transfer", "--to", store, "--topic_name", meant, "--exit-at-end"]],
        "rekey" => vec![vec!["rekey", meant, there, "--exit-at-end"]],
        "retry" => vec![
            vec!["retry", "--topic_name", meant, "--consumer_group_id", "g"],
            vec!["retry", "--topic_name", meant, "--consumer_group_id", "g", "--list"],
        ],
        "rerun" => vec![vec!["rerun", "--topic_name", meant, "--consumer_group_id", "g"]],
        // they write, or read no topic; `s3-transfer` is a transfer, and functions in Python need a Python
        "upload" | "watch" | "demo" | "try" | "help" | "service" | "s3-transfer" | "reproduce" | "process" => {
            Vec::new()
        }
        other => panic!("what does `datamill {other}` say where its topic is not there?"),
    }
}

#[test]
fn an_unknown_topic_is_told_with_the_nearest_names_by_each_command_that_reads_one() {
    for bench in Bench::both() {
        let (there, meant) = (bench.name("files"), bench.name("fils"));
        bench.done(&["topic", "create", &there]);
        let near = format!("there is no topic `{meant}`");
        let hint = format!("; did you mean `{there}`");
        let store = format!("file://{}", bench.place.path("store").display());
        let help = bench.place.run(&["--help"]).stdout();
        let (_, commands) = help.split_once("Commands:\n").unwrap();
        let commands = commands.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
        for args in commands.flat_map(|line| readers(line.split_whitespace().next().unwrap(), &meant, &there, &store)) {
            let ended = bench.run(&args);
            // `check` looks at all things, and tells them on stdout
            let (code, said) = match args[0] {
                "check" => (1, ended.stdout()),
                _ => (2, ended.stderr()),
            };
            assert_eq!(ended.code(), code, "{args:?}: {said}");
            assert!(said.contains(&near) && said.contains(&hint), "{args:?}: {said}");
            assert!(!said.contains("topic create"), "{args:?}: {said}");
        }
        let listed = bench.done(&["topic", "list"]).stdout();
        assert!(listed.contains(&there) && !listed.contains(&meant), "no question makes a topic: {listed}");
        assert!(!bench.place.path("datamill.db").exists());
    }
}

#[test]
fn a_program_that_writes_names_the_command_that_makes_its_topic_and_no_mistyped_topic() {
    let [_, bench] = Bench::both();
    let there = bench.name("files");
    bench.done(&["topic", "create", &there]);
    let meant = bench.name("fils");
    let new = datamill::wire::hex(&datamill::wire::sha512(bench.unique.as_bytes()))[..100].to_owned();
    for (topic, says, makes) in [(&meant, format!("; did you mean `{there}`"), "NAME"), (&new, String::new(), &new)] {
        let makes = format!("`datamill topic create {makes} --config 'my lab.config'` makes ");
        for args in
            [&["upload", "x.csv"][..], &["upload", "x.csv", "--only-missing"], &["watch", "."], &["rekey", &there]]
        {
            let named = if args[0] == "rekey" { vec![topic.as_str()] } else { vec!["--topic_name", topic.as_str()] };
            let ended = bench.run(&[args, &named].concat());
            assert_eq!(ended.code(), 2, "{args:?}: {}", ended.stderr());
            assert!(ended.stderr().contains(&says) && ended.stderr().contains(&makes), "{args:?}: {}", ended.stderr());
        }
    }
    // a name that is like no other one tells a reader where to look
    let ended = bench.run(&["read", &new]);
    assert!(ended.stderr().contains("`datamill topic list --config 'my lab.config'` shows"), "{}", ended.stderr());
}

#[test]
fn a_topic_is_deleted_only_where_that_is_confirmed_and_is_another_one_when_it_is_made_again() {
    for bench in Bench::both() {
        let topic = bench.name("files");
        let sent = || {
            bench.run(&["topic", "create", &topic]);
            bench.done(&["upload", "x.csv", "--topic_name", &topic]);
            bench.describe(&topic)
        };
        let first = sent();
        let ended = bench.run(&["topic", "delete", &topic]);
        assert_eq!(ended.code(), 2, "{}", ended.stderr());
        assert!(ended.stderr().contains("there is no terminal to ask on, so add --yes"), "{}", ended.stderr());
        assert_eq!(bench.describe(&topic), first);
        let ended = bench.done(&["topic", "delete", &topic, "--yes"]);
        assert!(ended.stderr().contains(&format!("topic `{topic}` is deleted")), "{}", ended.stderr());
        let ended = bench.run(&["topic", "delete", &topic, "--yes"]);
        assert_eq!(ended.code(), 2, "{}", ended.stderr());
        assert!(ended.stderr().contains(&format!("there is no topic `{topic}`")), "{}", ended.stderr());
        let second = sent();
        assert_ne!(second["id"], first["id"]);
        assert_eq!(second["ends"], first["ends"], "one message");
    }
}

#[test]
fn a_retry_without_a_group_names_the_groups_of_the_topic() {
    for bench in Bench::both() {
        let (topic, group) = (bench.name("files"), bench.name("group"));
        bench.done(&["topic", "create", &topic]);
        let ended = bench.run(&["retry", "--topic_name", &topic]);
        assert!(ended.stderr().contains(&format!("No group has read topic `{topic}` yet")), "{}", ended.stderr());
        bench.done(&["upload", "x.csv", "--topic_name", &topic]);
        let download = ["download", "mirror", "--topic_name", &topic, "--consumer_group_id", &group, "--exit-at-end"];
        bench.done(&download);
        for more in [&[][..], &["--consumer_group_id", "other"]] {
            let ended = bench.run(&[&["retry", "--topic_name", &topic], more].concat());
            assert_eq!(ended.code(), 2, "{}", ended.stderr());
            assert!(
                ended.stderr().contains(&format!("Group `{group}` has read topic `{topic}`")),
                "{}",
                ended.stderr()
            );
        }
    }
}

/// A program that runs, and what it says in the file `said`.
fn start(bench: &Bench, args: &[&str]) -> Running {
    let said = std::fs::File::create(bench.place.path("said")).unwrap();
    let args = [args, &["--config", "my lab.config"]].concat();
    Running(bench.place.command(&args).stdout(Stdio::null()).stderr(said).spawn().unwrap())
}

fn said(bench: &Bench) -> String {
    std::fs::read_to_string(bench.place.path("said")).unwrap()
}

#[test]
fn a_reader_makes_no_topic_and_waits_for_it_where_the_first_upload_makes_it() {
    let [embedded, kafka] = Bench::both();
    let (there, topic) = (embedded.name("data"), embedded.name("dat"));
    embedded.done(&["topic", "create", &there]);
    let download = ["download", "mirror", "--topic_name", &topic];
    let running = start(&embedded, &download);
    wait_until("the warning", || said(&embedded).contains("Waiting for it"));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let listed = embedded.done(&["topic", "list"]).stdout();
    assert!(!listed.lines().any(|line| line.starts_with(&format!("{topic} "))), "{listed}");
    embedded.done(&["upload", "x.csv", "--topic_name", &topic]);
    wait_until("the file", || embedded.place.path("mirror/x.csv").exists());
    assert_eq!(running.end(), 0);
    let told = said(&embedded);
    assert_eq!(told.matches(&format!("did you mean `{there}`")).count(), 1, "{told}");
    assert!(told.find("started").unwrap() > told.find("the topic is there now").unwrap(), "{told}");

    let mut running = start(&kafka, &["download", "mirror", "--topic_name", &kafka.name("none")]);
    assert_eq!(running.0.wait().unwrap().code(), Some(2), "nothing would make it there");
    assert!(said(&kafka).contains("there is no topic") && !said(&kafka).contains("started"), "{}", said(&kafka));
}

#[test]
fn a_reader_that_waits_for_its_topic_can_be_stopped() {
    let [bench, _] = Bench::both();
    for args in [&["download", "mirror", "--topic_name", "none"][..], &["rekey", "none", "new"]] {
        let running = start(&bench, args);
        wait_until("the warning", || said(&bench).contains("Waiting for it"));
        assert_eq!(running.end(), 0, "{}", said(&bench));
    }
    assert_eq!(bench.done(&["topic", "list"]).stdout(), "", "no topic was made");
}

#[test]
fn what_is_refused_at_the_start_is_not_told_as_started() {
    let [bench, _] = Bench::both();
    bench.done(&["upload", "x.csv", "--topic_name", "t"]);
    let download = ["download", "mirror", "--topic_name", "t", "--consumer_group_id", "g"];
    let running = start(&bench, &download);
    wait_until("the start", || said(&bench).contains("started"));
    for (more, part) in [
        (&["--output_dir", "other"][..], "group `g` of log `lab.db` belongs to a process that runs"),
        (&["--take_over", "none"], "there is no folder `none`, which --take_over names"),
    ] {
        let ended = bench.run(&[&download[..], more].concat());
        assert_eq!(ended.code(), 2, "{}", ended.stderr());
        assert!(ended.stderr().contains(part) && !ended.stderr().contains("started"), "{}", ended.stderr());
    }
    assert_eq!(running.end(), 0);
}

#[test]
fn a_topic_that_is_deleted_or_created_again_while_it_is_read_is_named() {
    for (bench, again) in Bench::both().into_iter().chain(Bench::both()).zip([false, false, true, true]) {
        let topic = bench.name("read");
        bench.done(&["topic", "create", &topic]);
        bench.done(&["upload", "x.csv", "--topic_name", &topic]);
        let printed = bench.place.path("printed");
        let command = ["read", &topic, "--config", "my lab.config"];
        let mut command = bench.place.command(&command);
        command.stdout(std::fs::File::create(&printed).unwrap());
        command.stderr(std::fs::File::create(bench.place.path("said")).unwrap());
        let mut running = Running(command.spawn().unwrap());
        wait_until("the message", || std::fs::read_to_string(&printed).unwrap().lines().count() == 1);
        bench.done(&["topic", "delete", &topic, "--yes"]);
        if again {
            // a broker may be about to delete the files of the old one
            wait_until("the new topic", || bench.run(&["topic", "create", &topic]).code() == 0);
        }
        assert_eq!(running.0.wait().unwrap().code(), Some(2), "{}", said(&bench));
        let said = said(&bench);
        assert!(said.contains(&format!("topic `{topic}` was deleted")), "{said}");
        assert!(!said.contains("UnknownPartition"), "{said}");
    }
}

#[test]
fn a_setting_that_the_log_does_not_take_is_named() {
    for bench in Bench::both() {
        let refused = bench.run(&["topic", "create", &bench.name("set"), "--setting", "foo=bar"]);
        assert_eq!(refused.code(), 2, "{}", refused.stderr());
        assert!(refused.stderr().contains("`foo"), "{}", refused.stderr());
    }
}

#[test]
fn a_start_that_is_refused_makes_nothing_but_the_log_file_that_says_why() {
    for bench in Bench::both() {
        let (topic, group, place) = (bench.name("data"), bench.name("group"), &bench.place);
        bench.done(&["topic", "create", &topic]);
        bench.done(&["upload", "x.csv", "--topic_name", &topic]);
        let missing = bench.name("dta");
        let store = format!("file://{}", place.path("store").display());
        for program in [&["download", "mirror"][..], &["transfer", "--to", &store]] {
            let args = ["--topic_name", &missing, "--output_dir", "own", "--exit-at-end"];
            let refused = bench.run(&[program, &args].concat());
            assert_eq!(refused.code(), 2, "{}", refused.stderr());
        }
        let group = ["--topic_name", &topic, "--consumer_group_id", &group, "--exit-at-end", "--output_dir"];
        bench.done(&[&["transfer", "--to", &store], &group[..], &["own"]].concat());
        let refused = bench.run(&[&["download", "mirror"], &group[..], &["other"]].concat());
        assert_eq!(refused.code(), 2, "{}", refused.stderr());
        assert!(!place.path("mirror").exists(), "{}", refused.stderr());
        let made: Vec<_> = std::fs::read_dir(place.path("other")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(made, ["LOGS"]);
    }
}

#[test]
fn an_upload_that_finds_nothing_makes_no_topic() {
    let [embedded, _] = Bench::both();
    std::fs::create_dir(embedded.place.path("empty")).unwrap();
    for (args, code) in [(&["empty"][..], 1), (&["empty", "x.csv", "none"], 2)] {
        let ended = embedded.run(&[&["upload"], args, &["--topic_name", "mistyped"]].concat());
        assert_eq!(ended.code(), code, "{}", ended.stderr());
        let listed = embedded.done(&["topic", "list"]);
        assert!(!listed.stdout().contains("mistyped"), "{}", listed.stdout());
    }
}

#[test]
fn heartbeats_and_log_messages_share_a_topic_with_nothing_else() {
    let [bench, _] = Bench::both();
    bench.done(&["upload", "x.csv", "--topic_name", "files"]);
    let download = ["download", "mirror", "--topic_name", "files", "--exit-at-end"];
    let (beats, log) = ("--heartbeat_topic_name", "--log_topic_name");
    for (args, said) in [
        (&["upload", "x.csv", "--topic_name", "files", beats, "files"][..], "which is for the files"),
        (&["watch", ".", "--topic_name", "files", log, "files", "--exit-at-end"], "which is for the files"),
        (&["rekey", "files", "copies", beats, "copies", "--exit-at-end"], "which is for their copies"),
        (&[&download[..], &[beats, "files"]].concat(), "which is for the files"),
        (&[&download[..], &["--dead_letter_topic", "dead", log, "dead"]].concat(), "which is for dead letters"),
        (&[&download[..], &[beats, "own", log, "own"]].concat(), "which is for heartbeats"),
    ] {
        let refused = bench.run(args);
        assert_eq!(refused.code(), 2, "{args:?}: {}", refused.stderr());
        assert!(refused.stderr().contains(said) && refused.stderr().contains("another one with `--"), "{args:?}");
    }
    assert_eq!(bench.describe("files")["ends"][0]["end"], 1);
    // a topic of that name on another log is another one
    let config = "[broker]\nbootstrap.servers = sqlite:lab.db\n[heartbeat]\nbootstrap.servers = sqlite:other.db\n";
    bench.place.write("two.config", config.as_bytes());
    let sent = ["upload", "x.csv", "--topic_name", "files", beats, "files", "--config", "two.config"];
    let sent = bench.place.run(&sent);
    assert_eq!(sent.code(), 0, "{}", sent.stderr());
}

#[test]
fn a_topic_that_is_made_compacted_is_warned_of_unless_it_is_for_the_state_of_a_group() {
    let [_, bench] = Bench::both();
    for (name, is_warned) in [(bench.name("files"), true), (format!("datamill.{}.state", bench.name("g")), false)] {
        let made = bench.done(&["topic", "create", &name, "--setting", "cleanup.policy=compact"]);
        assert_eq!(
            made.stderr().contains("warning: a compacted topic is not for files"),
            is_warned,
            "{}",
            made.stderr()
        );
    }
}
