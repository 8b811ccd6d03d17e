//! Heartbeats and log messages: the same keys, fields and types as those that the peer sends, on another
//! broker where the configuration names one, and nothing secret in them.

use std::collections::BTreeMap;

use datamill::broker::{NewTopic, Properties};
use datamill_testkit::kafka::Kafka;
use datamill_testkit::peer;
use serde_json::Value;

use crate::common::{Bench, Files, Got, noise, read, wait_until};

/// A text with the digits of its numbers as 0.
fn form(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}

/// The fields of a message and what each holds.
fn shape(got: &Got) -> BTreeMap<String, String> {
    let value: Value = serde_json::from_str(&got.value).unwrap();
    let kind = |value: &Value| match value {
        Value::String(text) => form(text),
        Value::Number(number) if number.is_f64() => "float".to_owned(),
        Value::Number(_) => "integer".to_owned(),
        Value::Array(list) if list.iter().all(Value::is_string) => "texts".to_owned(),
        other => panic!("not expected in a report: {other}"),
    };
    value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), kind(value))).collect()
}

/// The sum of a count over the heartbeats of a program.
fn total(heartbeats: &[Got], field: &str) -> u64 {
    let count = |got: &Got| serde_json::from_str::<Value>(&got.value).unwrap()[field].as_u64().unwrap();
    heartbeats.iter().map(count).sum()
}

fn of(all: &[Got], key: &str) -> Vec<Got> {
    all.iter().filter(|got| got.key == key).cloned().collect()
}

fn files() -> Files {
    (0..5).map(|i| (format!("run/{i}.dat"), noise(i, 1500))).collect()
}

#[test]
fn heartbeats_and_log_messages_are_those_of_the_peer() {
    let bench = Bench::new();
    let topic = bench.topic("files", 1);
    let (theirs, ours) = (bench.topic("theirs", 1), bench.topic("ours", 1));
    let (beats, lines) = (bench.topic("beats", 1), bench.topic("lines", 1));
    let options = |id: &str| {
        let values = [("heartbeat_topic_name", &beats), ("log_topic_name", &lines)];
        let mut options: Vec<(String, String)> = values.map(|(n, v)| (n.to_owned(), v.clone())).into();
        options.extend(["heartbeat", "log"].map(|kind| (format!("{kind}_program_id"), id.to_owned())));
        options.extend(["heartbeat", "log"].map(|kind| (format!("{kind}_interval_secs"), "1.5".to_owned())));
        options
    };
    let typed = |id: &str| options(id).into_iter().flat_map(|(n, v)| [format!("--{n}"), v]).collect::<Vec<_>>();

    // watched folders, to two topics
    let config = bench.text("upload.config");
    let other = bench.topic("other", 1);
    for folder in ["their_in", "our_in"] {
        bench.write_all(folder, &files());
    }
    let folder = bench.text("their_in");
    let mut args: Vec<String> =
        ["DataFileUploadDirectory", &folder, "--config", &config, "--topic_name", &topic].map(str::to_owned).into();
    args.extend(["--upload_existing", "--chunk_size", "1024"].map(str::to_owned));
    args.extend(typed("their_watch"));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let watch = peer::start("run.py", &args, &bench.path("watch.said"));
    bench.wait_for_records(&topic, 10, || watch.said());
    watch.quit();
    let mut args: Vec<String> =
        ["watch", "our_in", "--config", &config, "--topic_name", &other].map(str::to_owned).into();
    args.extend(["--upload_existing", "--chunk_size", "1024", "--exit-at-end"].map(str::to_owned));
    args.extend(typed("our_watch"));
    bench.datamill(&args.iter().map(String::as_str).collect::<Vec<_>>()).with_code(0);

    // reproducers of the same topic
    let more: Vec<String> = options("their_reproducer").into_iter().map(|(n, v)| format!("{n}={v}")).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let reproducer = bench.peer_reproduces(&topic, &theirs, &bench.name("theirs"), "their_output", &more);
    bench.wait_for_records(&theirs, 5, || reproducer.said());
    let said = |key: &str| of(&bench.read(&beats), key).len();
    wait_until(|| reproducer.said(), || said("their_reproducer_heartbeat") >= 3);
    reproducer.quit();
    let more = typed("our_reproducer");
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    bench.reproduces(&topic, &ours, &bench.name("ours"), "our_output", &more).with_code(0);

    let (all_beats, all_lines) = (bench.read(&beats), bench.read(&lines));
    for kind in ["watch", "reproducer"] {
        let theirs = of(&all_beats, &format!("their_{kind}_heartbeat"));
        let ours = of(&all_beats, &format!("our_{kind}_heartbeat"));
        assert!(theirs.len() >= 2 && ours.len() >= 2, "the first at the start, the last at the end: {all_beats:?}");
        for got in &ours {
            assert_eq!(shape(got), shape(&theirs[0]));
        }
        let counts = shape(&theirs[0]).into_keys().filter(|field| field != "timestamp");
        for field in counts.filter(|field| field != "n_bytes_produced") {
            assert_eq!(total(&ours, &field), total(&theirs, &field), "{kind} {field}");
        }
        assert!(total(&ours, "n_bytes_produced") > 0);

        let theirs = of(&all_lines, &format!("their_{kind}_log"));
        let ours = of(&all_lines, &format!("our_{kind}_log"));
        assert!(!theirs.is_empty() && !ours.is_empty(), "{all_lines:?}");
        for got in &ours {
            assert_eq!(shape(got), shape(&theirs[0]));
        }
    }
}

#[test]
fn reports_go_to_the_broker_of_their_section_within_their_limits_and_hold_no_secret() {
    let bench = Bench::new();
    let elsewhere = Kafka::start_own();
    let broker = BTreeMap::from([("bootstrap.servers".to_owned(), elsewhere.address().to_owned())]);
    let other = datamill::broker::open(&Properties { broker, ..Properties::default() }).unwrap();
    for name in ["beats", "lines"] {
        let topic = NewTopic { name: name.to_owned(), partitions: 1, replication: 1, settings: BTreeMap::new() };
        other.create_topic(&topic).unwrap();
    }
    let topic = bench.topic("files", 1);
    let results = bench.topic("ours", 1);
    bench.write_all("in", &files());
    bench.datamill(&["upload", "in", "--config", "upload.config", "--topic_name", &topic]).with_code(0);
    bench.write(
        "secret.config",
        format!(
            "[broker]\nbootstrap.servers = {}\nsasl.username = lab\nsasl.password = hunter2-broker\n\
             [consumer]\nauto.offset.reset = earliest\n\
             [heartbeat]\nbootstrap.servers = {there}\nsasl.password = hunter2-beats\n\
             [log]\nbootstrap.servers = {there}\nssl.key.password = hunter2-lines\nmax.logs.per.message = 3\nlog.level = debug\n",
            bench.servers,
            there = elsewhere.address(),
        ),
    );
    let args = ["--config", "secret.config", "--consumer_topic_name", &topic, "--producer_topic_name", &results];
    let reports = ["--heartbeat_topic_name", "beats", "--log_topic_name", "lines", "--exit-at-end"];
    let levels = ["--logger_stream_level", "debug", "--logger_file_level", "debug"];
    let said = bench.describe(&[&args[..], &reports, &levels].concat()).with_code(0);

    let (beats, lines) = (read(other.as_ref(), "beats"), read(other.as_ref(), "lines"));
    assert_eq!(total(&beats, "n_messages_produced"), 5);
    assert!(!lines.is_empty());
    for got in &lines {
        let value: Value = serde_json::from_str(&got.value).unwrap();
        let is_line = |line: &&Value| !line.as_str().unwrap().ends_with("earlier lines were left out");
        assert!(value["messages"].as_array().unwrap().iter().filter(is_line).count() <= 3, "{got:?}");
    }
    let file = std::fs::read_to_string(bench.path("Describe_output/LOGS/Describe.log")).unwrap();
    assert!(!file.is_empty());
    let sent = beats.iter().chain(&lines).map(|got| got.value.as_str());
    for text in sent.chain([said.as_str(), &file]) {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
