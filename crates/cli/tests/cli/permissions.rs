//! Permissions on a real Apache Kafka with an authorizer. The lists of docs/operating.md are enough for each program, and
//! of each list, every missing permission is named in one sentence with the command that gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use datamill::broker::{Log, NewTopic, Properties};
use datamill_testkit::http::get;
use datamill_testkit::secured::{Acl, SecuredKafka};

use crate::common::{Place, Running, wait_until};

const DOCUMENTATION: &str = include_str!("../../../../docs/operating.md");

/// What is there before a program runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum There {
    /// The folder `in` with `ok.txt` and `bad.txt`, and topics.
    Topics,
    /// `ok.txt` is on the topic.
    Half,
    /// Both files are on the topic.
    Files,
    /// A reproducer has made a result of one, and failed for the other.
    Group,
    /// As before, and a file has come since.
    Behind,
    /// A watch has sent both files.
    Watch,
}

/// A program, and the list that it is under.
struct Program {
    list: &'static str,
    /// Further permissions that it needs, of the program that it is part of.
    also: Option<&'static str>,
    /// What is typed, with `describe` for the reproducer of the tests. Names in capital letters are those of topics and group.
    words: &'static str,
    there: There,
    /// The largest exit code that says that it did its work.
    exit: i32,
}

const fn program(list: &'static str, words: &'static str, there: There, exit: i32) -> Program {
    Program { list, also: None, words, there, exit }
}

/// All that librdkafka says is said as well.
const LEVELS: &str = "--logger_stream_level debug --logger_file_level debug";

const REPRODUCER: &str = "describe --consumer_topic_name FILES --producer_topic_name RESULTS --dead_letter_topic DEAD \
                          --consumer_group_id XRD --max_attempts 1 --exit-at-end";

const PROGRAMS: &[Program] = &[
    program("upload", "upload in --topic_name FILES", There::Topics, 0),
    program("upload", "watch in --topic_name FILES --upload_existing --exit-at-end", There::Topics, 0),
    program("upload --only-missing", "upload in --topic_name FILES --only-missing", There::Half, 0),
    program("read", "read FILES --exit-at-end", There::Files, 0),
    program("read", "ls FILES", There::Files, 0),
    program("read", "get FILES ok.txt -o got", There::Files, 0),
    program("read", "verify FILES", There::Files, 0),
    program("read", "reconcile in --topic_name FILES", There::Files, 0),
    program("reproducer, exactly-once", REPRODUCER, There::Files, 1),
    program("reproducer, at-least-once", "AT_LEAST_ONCE", There::Files, 1),
    program(
        "processor, exactly-once",
        "download mirror --topic_name FILES --consumer_group_id XRD --exit-at-end",
        There::Files,
        0,
    ),
    program(
        "processor, exactly-once",
        "transfer --to STORE --topic_name FILES --consumer_group_id XRD --exit-at-end",
        There::Files,
        0,
    ),
    program(
        "processor, at-least-once",
        "download mirror --topic_name FILES --consumer_group_id XRD --exit-at-end --delivery at-least-once",
        There::Files,
        0,
    ),
    program(
        "processor, at-least-once",
        "transfer --to STORE --topic_name FILES --consumer_group_id XRD --exit-at-end --delivery at-least-once",
        There::Files,
        0,
    ),
    Program {
        list: "heartbeats and log messages",
        also: Some("processor, at-least-once"),
        words: "download mirror --topic_name FILES --consumer_group_id XRD --exit-at-end --delivery at-least-once \
                --heartbeat_topic_name BEATS --log_topic_name LOGS",
        there: There::Files,
        exit: 0,
    },
    program("rekey", "rekey FILES RESULTS --exit-at-end", There::Files, 0),
    program("status of a group", "status --topic_name FILES --consumer_group_id XRD", There::Behind, 1),
    program("status of a folder", "status in --topic_name FILES", There::Watch, 1),
    program(
        "reconcile with a group",
        "reconcile in --topic_name FILES --consumer_group_id XRD --results RESULTS",
        There::Group,
        1,
    ),
    program("retry", "retry --topic_name FILES --consumer_group_id XRD", There::Group, 0),
    program("retry --list", "retry --topic_name FILES --consumer_group_id XRD --list", There::Group, 0),
    program("rerun", "rerun --topic_name FILES --consumer_group_id XRD --path .* --yes", There::Group, 0),
    program("topic create", "topic create NEW --partitions 1", There::Topics, 0),
    program("topic delete", "topic delete FILES --yes", There::Topics, 0),
    program("topic describe", "topic describe FILES", There::Topics, 0),
];

/// Commands that are not in the list, as another one is to them what they are to the log.
const ELSEWHERE: &[(&str, &str)] = &[
    // reproduce and process run a function in Python, with the engine of the others
    ("reproduce", "describe"),
    ("process", "download"),
    ("s3-transfer", "transfer"),
    // these use no broker, or need nothing
    ("try", ""),
    ("demo", ""),
    ("check", ""),
    ("help", ""),
    ("service", ""),
];

/// What a program is run with.
#[derive(Clone, Copy)]
enum Given {
    All,
    /// All but this one.
    Without(usize),
    /// `Describe` in its place.
    DescribeFor(usize),
}

/// The lists of the documentation, by their headings.
fn lists() -> BTreeMap<&'static str, Vec<Acl>> {
    let (_, section) = DOCUMENTATION.split_once("## Permissions on a secured cluster").unwrap();
    let blocks = section.split("```sh\n# ").skip(1).map(|block| block.split_once("```").unwrap().0);
    let list = |block: &'static str| {
        let (heading, lines) = block.split_once('\n').unwrap();
        let acls = lines.lines().flat_map(|line| Acl::parse(line.strip_prefix("$ACLS ").unwrap().split(' ')));
        (heading, acls.collect())
    };
    blocks.map(list).collect()
}

/// One run of a program, on topics and with a group of its own.
struct Cell<'a> {
    kafka: &'a SecuredKafka,
    program: &'static Program,
    given: Given,
    number: usize,
    user: &'static str,
    place: Place,
}

impl Cell<'_> {
    /// A name of the documentation, as this cell has it.
    fn named(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for what in ["files", "results", "dead", "xrd", "beats", "logs"] {
            text = text.replace(what, &format!("{what}-{}", self.number));
        }
        text
    }

    fn words(&self, words: &str) -> Vec<String> {
        let words = words.replace("AT_LEAST_ONCE", &format!("{REPRODUCER} --delivery at-least-once"));
        let store = format!("file://{}", self.place.path("store").display());
        let word = |word: &str| match word {
            "STORE" => store.clone(),
            // the documentation makes the topic of the files
            "NEW" => format!("files-{}", self.number),
            name if name.chars().all(|c| c.is_ascii_uppercase()) => format!("{}-{}", name.to_lowercase(), self.number),
            other => other.to_owned(),
        };
        words.split_whitespace().map(word).collect()
    }

    /// Answers its exit code and all that it said.
    fn run(&self, words: &str, config: &str) -> (i32, String) {
        let mut words = self.words(words);
        words.extend(["--config".to_owned(), config.to_owned()]);
        let mut command = self.place.command(&[]);
        if words[0] == "describe" {
            let built = Path::new(env!("CARGO_BIN_EXE_datamill")).parent().unwrap().join("examples/describe");
            command = Command::new(built);
            command.current_dir(self.place.path("")).stdin(Stdio::null());
            words.remove(0);
        }
        let mut started = Started::of(command.args(&words));
        let code = started.exit_code();
        (code, started.said())
    }

    fn prepare(&self) {
        self.place.write("in/ok.txt", b"fine");
        self.place.write("in/bad.txt", b"fail");
        let admin = [("bootstrap.servers", self.kafka.open_address())];
        write_config(&self.place, "admin.config", &admin);
        let debug = matches!(self.given, Given::All).then(|| ("debug", "all".to_owned()));
        let login: Vec<_> = self.kafka.login(self.user).into_iter().chain(debug).collect();
        write_config(&self.place, "user.config", &login);
        let log = open(&admin);
        let made = ["files", "results", "dead", "beats", "logs"];
        for what in made.iter().filter(|_| !self.program.words.contains("NEW")) {
            make(log.as_ref(), &self.named(what));
        }
        let there = self.program.there;
        let mut before = Vec::new();
        if there == There::Watch {
            before.push(("watch in --topic_name FILES --upload_existing --exit-at-end", 0));
        } else if there == There::Half {
            before.push(("upload in/ok.txt --topic_name FILES", 0));
        } else if there >= There::Files {
            before.push(("upload in --topic_name FILES", 0));
        }
        if there >= There::Group && there != There::Watch {
            before.push((REPRODUCER, 1));
        }
        if there == There::Behind {
            before.push(("upload in/ok.txt --topic_name FILES", 0));
        }
        for (words, exit) in before {
            let (code, said) = self.run(words, "admin.config");
            assert_eq!(code, exit, "{words}: {said}");
        }
    }

    fn acls(&self, lists: &BTreeMap<&str, Vec<Acl>>) -> Vec<Acl> {
        let list = &lists[self.program.list];
        let mut acls = list.clone();
        match self.given {
            Given::All => {}
            Given::Without(index) => drop(acls.remove(index)),
            Given::DescribeFor(index) => acls[index].operation = "Describe".to_owned(),
        }
        acls.extend(self.program.also.iter().flat_map(|also| lists[also].clone()));
        acls.into_iter().map(|acl| Acl { name: self.named(&acl.name), ..acl }).collect()
    }

    fn check(&self, lists: &BTreeMap<&str, Vec<Acl>>) {
        self.prepare();
        let acls = self.acls(lists);
        self.kafka.allow_all(self.user, &acls);
        let runs_for_long = ["upload", "watch", "download", "transfer", "rekey", "describe", "AT_LEAST_ONCE"];
        let is_long = runs_for_long.iter().any(|name| self.program.words.starts_with(name));
        let levels = if matches!(self.given, Given::All) && is_long { LEVELS } else { "" };
        let (code, said) = self.run(&format!("{} {levels}", self.program.words), "user.config");
        self.kafka.take_all_away(self.user, &acls);
        let (index, how) = match self.given {
            Given::All => {
                assert!(!is_long || said.contains("rdkafka"), "it is said with `debug = all`: {said}");
                assert!(code <= self.program.exit, "{}: {code}: {said}", self.program.words);
                no_secret(&said, &self.place);
                return;
            }
            Given::Without(index) => (index, "without"),
            Given::DescribeFor(index) => (index, "with Describe for"),
        };
        let lacks = &lists[self.program.list][index];
        let what = format!("{} {how} {lacks:?}", self.program.words);
        println!("{what}\n{said}");
        assert_eq!(code, 2, "{what}: {said}");
        let (name, operation) = (self.named(&lacks.name), &lacks.operation);
        let (noun, closed) = match lacks.kind.as_str() {
            "--topic" => ("topic", "`"),
            "--group" => ("group", "`"),
            _ => ("transactional id", ""),
        };
        let errors: Vec<&str> = said.lines().filter(|line| line.contains("the account needs")).collect();
        let (Some(error), true) = (errors.last(), errors.len() == 1) else { panic!("{what}: {said}") };
        let sentence = format!("the account needs the `{operation}` permission on {noun} `{name}{closed}");
        assert!(error.contains(&sentence), "{what}: {error}");
        let begins = format!("`kafka-acls.sh … --add --allow-principal User:{} ", self.user);
        let (_, command) = error.split_once(&begins).expect(error);
        let (command, _) = command.split_once('`').unwrap();
        let gives = Acl::parse(command.split(' '));
        let needed = Acl { name, ..lacks.clone() };
        assert!(gives.contains(&needed), "{what}: {error}");
        // only on the topic of the state the command gives more than what lacks
        assert!(gives.len() == 1 || name_of_state(&needed), "{what}: {error}");
        for internal in ["Denied", "Retry", "unknown way", "uthorization", "right "] {
            assert!(!said.contains(internal), "{what}: `{internal}` is in: {said}");
        }
    }
}

fn name_of_state(acl: &Acl) -> bool {
    acl.name.ends_with(".state")
}

/// Writes a configuration that only its owner can read, as one with a secret should be.
fn write_config(place: &Place, name: &str, broker: &[(&str, String)]) {
    let lines: String = broker.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    place.write(name, format!("[broker]\n{lines}[consumer]\nauto.offset.reset = earliest\n").as_bytes());
    #[cfg(unix)]
    fs::set_permissions(place.path(name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

fn open(broker: &[(&str, String)]) -> std::sync::Arc<dyn Log> {
    let broker = broker.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    datamill::broker::open(&Properties { broker, ..Properties::default() }).unwrap()
}

fn make(log: &dyn Log, name: &str) {
    let topic = NewTopic { name: name.to_owned(), partitions: 1, replication: 1, settings: BTreeMap::new() };
    log.create_topic(&topic).unwrap();
}

/// No secret of the tests is in what was said, nor in any file but the configuration.
fn no_secret(said: &str, place: &Place) {
    let clean = |what: &str, bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let line = text.lines().find(|line| line.contains("secret"));
        assert!(line.is_none(), "{what}: {line:?}");
    };
    clean("output", said.as_bytes());
    let files = walkdir::WalkDir::new(place.path("")).into_iter().map(Result::unwrap);
    let files = files.filter(|file| file.file_type().is_file() && file.path().extension() != Some("config".as_ref()));
    files.for_each(|file| clean(&file.path().display().to_string(), &fs::read(file.path()).unwrap()));
}

#[test]
fn every_command_has_a_list_of_permissions_and_every_list_a_program() {
    let help = Place::new().run(&["--help"]).stdout();
    let (_, commands) = help.split_once("\nCommands:\n").unwrap();
    let names = commands.lines().take_while(|line| !line.is_empty());
    let names: Vec<&str> = names.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(names.len() > 15, "{names:?}");
    let tested: BTreeSet<&str> = PROGRAMS.iter().filter_map(|program| program.words.split(' ').next()).collect();
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        let other = ELSEWHERE.iter().find(|(elsewhere, _)| *elsewhere == name).map(|(_, other)| *other);
        let is_tested = other.map_or(tested.contains(name), |other| other.is_empty() || tested.contains(other));
        assert!(is_tested, "no list of permissions in docs/operating.md is tested with `datamill {name}`");
    }
    let with_a_program: BTreeSet<&str> = PROGRAMS.iter().map(|program| program.list).collect();
    assert_eq!(lists().into_keys().collect::<BTreeSet<_>>(), with_a_program);
}

#[test]
fn permissions_that_lack_are_named_those_of_the_documentation_are_enough_and_no_secret_is_said() {
    let kafka = SecuredKafka::start();
    let cells = Mutex::new(cells().into_iter().enumerate());
    std::thread::scope(|scope| {
        for user in ["user1", "user2", "user3"] {
            let (kafka, cells) = (&kafka, &cells);
            scope.spawn(move || {
                let lists = lists();
                loop {
                    let Some((number, (program, given))) = cells.lock().unwrap().next() else { return };
                    Cell { kafka, program, given, number, user, place: Place::new() }.check(&lists);
                }
            });
        }
        scope.spawn(|| a_reader_and_a_watch_whose_permission_is_taken_away_end(&kafka));
        scope.spawn(|| topics_that_the_account_may_not_see_are_left_out(&kafka));
        scope.spawn(|| whatever_the_login_no_secret_is_said(&kafka));
    });
}

/// Each program with its list, without each permission of it, and with `Describe` in the place of each that includes it.
fn cells() -> Vec<(&'static Program, Given)> {
    let (lists, mut cells, mut seen) = (lists(), Vec::new(), BTreeSet::new());
    for program in PROGRAMS {
        let list = &lists[program.list];
        cells.push((program, Given::All));
        cells.extend((0..list.len()).map(|index| (program, Given::Without(index))));
        // heartbeats are not worth the end of the program that they are about
        if seen.insert(program.list) && program.also.is_none() {
            let includes = |acl: &Acl| ["Read", "Write"].contains(&acl.operation.as_str()) && !name_of_state(acl);
            let looks = (0..list.len()).filter(|index| includes(&list[*index]));
            cells.extend(looks.map(|index| (program, Given::DescribeFor(index))));
        }
    }
    cells
}

fn a_reader_and_a_watch_whose_permission_is_taken_away_end(kafka: &SecuredKafka) {
    let place = Place::new();
    place.write("in/first.txt", b"1");
    write_config(&place, "user.config", &kafka.login("user4"));
    let admin = [("bootstrap.servers", kafka.open_address())];
    write_config(&place, "admin.config", &admin);
    make(open(&admin).as_ref(), "watched");
    let write = ["--operation", "Write", "--topic", "watched"];
    // a watch that has nothing to send yet says it as well, and everyone says it once
    kafka.allow("user4", &["--operation", "Describe", "--topic", "watched"]);
    fs::create_dir(place.path("empty")).unwrap();
    for words in [&["watch", "empty"][..], &["upload", "in"]] {
        let may_look = [words, &["--topic_name", "watched", "--config", "user.config"]].concat();
        let mut refused = Started::new(&place, &may_look);
        assert_eq!(refused.exit_code(), 2, "{}", refused.said());
        let sentence = "the account needs the `Write` permission on topic `watched`; `kafka-acls.sh";
        assert_eq!(refused.said().matches(sentence).count(), 1, "{}", refused.said());
    }
    kafka.allow("user4", &write);
    let mut running = Started::new(
        &place,
        &["watch", "in", "--topic_name", "watched", "--upload_existing", "--config", "user.config"],
    );
    let read = ["--operation", "Read", "--topic", "watched"];
    kafka.allow("user4", &read);
    let mut reader = Started::new(&place, &["read", "watched", "--config", "user.config"]);
    wait_until("the first file is sent and read", || reader.said().contains("\"offset\":0"));
    kafka.take_away("user4", &read);
    assert_eq!(reader.exit_code(), 2, "{}", reader.said());
    let sentence = "the account needs the `Read` permission on topic `watched`; `kafka-acls.sh";
    assert!(reader.said().contains(sentence), "{}", reader.said());
    kafka.take_away("user4", &write);
    place.write("in/second.txt", b"2");
    assert_eq!(running.exit_code(), 2, "{}", running.said());
    let sentence = "the account needs the `Write` permission on topic `watched`; `kafka-acls.sh";
    assert_eq!(running.said().matches(sentence).count(), 1, "{}", running.said());
    kafka.allow("user4", &write);
    let again = place.run(&["watch", "in", "--topic_name", "watched", "--exit-at-end", "--config", "user.config"]);
    assert_eq!(again.code(), 0, "{}", again.stderr());
    let files = place.run(&["ls", "watched", "--json", "--config", "admin.config"]).stdout();
    assert_eq!(files.lines().count(), 2, "{files}");
}

fn topics_that_the_account_may_not_see_are_left_out(kafka: &SecuredKafka) {
    let place = Place::new();
    write_config(&place, "user.config", &kafka.login("user5"));
    let log = open(&[("bootstrap.servers", kafka.open_address())]);
    ["seen", "hidden"].iter().for_each(|name| make(log.as_ref(), name));
    kafka.allow("user5", &["--operation", "Describe", "--topic", "seen"]);
    let listed = place.run(&["topic", "list", "--config", "user.config"]);
    assert_eq!(listed.code(), 0, "{}", listed.stderr());
    assert!(listed.stdout().contains("seen") && !listed.stdout().contains("hidden"), "{}", listed.stdout());
}

/// What every program says with all that librdkafka can say, its files, heartbeats, log messages and page.
fn whatever_the_login_no_secret_is_said(kafka: &SecuredKafka) {
    kafka.set_password("scram", "scram-secret");
    let mut scram = kafka.rotating_login("scram", "scram-secret");
    scram.extend([("security.protocol", "SASL_SSL".to_owned()), ("ssl.ca.location", kafka.ca())]);
    scram.extend([("bootstrap.servers", kafka.encrypted_address())]);
    let certificate = vec![
        ("bootstrap.servers", kafka.address_for_certificates()),
        ("security.protocol", "SSL".to_owned()),
        ("ssl.ca.location", kafka.ca()),
        ("ssl.keystore.location", kafka.client_keystore()),
        ("ssl.keystore.password", "secret".to_owned()),
    ];
    for (account, login) in [("user6", kafka.login("user6")), ("scram", scram), ("CN=client", certificate)] {
        let name = account.trim_start_matches("CN=");
        let login: BTreeMap<&str, String> = login.into_iter().chain([("debug", "all".to_owned())]).collect();
        let (place, prefix) = (Place::new(), format!("s-{name}-"));
        write_config(&place, "user.config", &login.into_iter().collect::<Vec<_>>());
        place.write("in/a.txt", b"a");
        let prefixed = |words: &str| {
            let words = format!("{words} --resource-pattern-type prefixed");
            kafka.allow(account, &words.split(' ').collect::<Vec<_>>());
        };
        prefixed(&format!("--operation Read --operation Write --operation Create --topic {prefix} --group {prefix}"));
        prefixed(&format!("--operation Read --operation Write --operation Create --topic datamill.{prefix}"));
        prefixed(&format!("--operation Write --transactional-id datamill-{prefix}"));
        // a password that was just set takes a moment to reach the broker
        wait_until("it is let in", || place.run(&["topic", "list", "--config", "user.config"]).code() == 0);
        let mut said = String::new();
        let mut run = |words: &str| {
            let words = words.replace("S-", &prefix);
            let words: Vec<&str> = words.split(' ').chain(["--config", "user.config"]).collect();
            let ended = place.run(&words);
            assert!(ended.code() < 2, "{account}, {words:?}: {}", ended.stderr());
            said.push_str(&ended.stdout());
            said.push_str(&ended.stderr());
        };
        for topic in ["files", "beats", "logs"] {
            run(&format!("topic create S-{topic} --partitions 1"));
        }
        run("upload in --topic_name S-files");
        let download = "download mirror --topic_name S-files --consumer_group_id S-xrd --heartbeat_topic_name S-beats \
                        --log_topic_name S-logs --status_listen 0 --config user.config";
        let download = format!("{download} {LEVELS}").replace("S-", &prefix);
        let mut running = Started::new(&place, &download.split_whitespace().collect::<Vec<_>>());
        wait_until("the file is there", || place.path("mirror/a.txt").exists());
        wait_until("it has a page", || running.said().contains("url=http://"));
        let text = running.said();
        let (_, at) = text.split_once("url=http://").unwrap();
        let at = at.split('/').next().unwrap().parse().unwrap();
        let pages = ["/", "/metrics", "/readyz"].map(|path| get(at, path).body);
        assert_eq!(running.interrupt(), 0, "{}", running.said());
        for words in [
            "status --topic_name S-files --consumer_group_id S-xrd --heartbeat_topic_name S-beats",
            "check --topic_name S-files --consumer_group_id S-xrd",
            "reconcile in --topic_name S-files --consumer_group_id S-xrd",
            "retry --topic_name S-files --consumer_group_id S-xrd --list",
            "read S-beats --exit-at-end",
            "read S-logs --exit-at-end",
        ] {
            run(words);
        }
        assert!(running.said().contains("rdkafka"), "it is said with `debug = all`: {}", running.said());
        said.push_str(&running.said());
        said.push_str(&pages.concat());
        no_secret(&said, &place);
    }
}

/// A program whose output can be looked at while it runs. It ends with the test.
struct Started {
    running: Running,
    output: tempfile::NamedTempFile,
}

impl Started {
    fn new(place: &Place, words: &[&str]) -> Self {
        Self::of(&mut place.command(words))
    }

    fn of(command: &mut Command) -> Self {
        let output = tempfile::NamedTempFile::new().unwrap();
        let append = || fs::OpenOptions::new().append(true).open(output.path()).unwrap();
        let child = command.stdout(append()).stderr(append()).spawn().unwrap();
        Self { running: Running(child), output }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.output.path()).unwrap()).into_owned()
    }

    /// Waits until it has ended.
    fn exit_code(&mut self) -> i32 {
        let child = std::cell::RefCell::new(&mut self.running.0);
        wait_until("it ends", || child.borrow_mut().try_wait().unwrap().is_some());
        self.running.0.wait().unwrap().code().unwrap()
    }

    fn interrupt(&mut self) -> i32 {
        let process = rustix::process::Pid::from_child(&self.running.0);
        rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
        self.exit_code()
    }
}
