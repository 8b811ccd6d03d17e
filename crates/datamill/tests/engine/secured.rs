//! Accounts on a real Apache Kafka with an authorizer: the permissions that docs/operating.md lists are enough for an engine,
//! and a missing one, from the start or from some moment on, is named in one sentence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::common::{Bench, ByName, StopAtEnd, Told, chunks, content, wait_for};
use crate::status::serve_on;
use datamill::broker::{Error, ErrorKind, Log, NewTopic, Properties};
use datamill::engine::{Control, DeliveryGuarantee, EngineError, EngineSettings, Summary, failed_files};
use datamill::facts::{Facts, Hold};
use datamill::process::{DataFileStreamProcessor, DataFileStreamReproducer, UserCode};
use datamill::program::{Exit, of_upload};
use datamill::report::chain;
use datamill::upload::{UploadSettings, upload_paths};
use datamill_testkit::http::get;
use datamill_testkit::secured::SecuredKafka;
use parking_lot::Mutex;

const DOCUMENTATION: &str = include_str!("../../../../docs/operating.md");

/// What was said; no secret may be in it.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// One account with topics, a group and a folder of its own.
struct Account<'a> {
    kafka: &'a SecuredKafka,
    user: &'static str,
    /// The account's own login.
    log: Arc<dyn Log>,
    /// Topics seen by somebody who may do everything.
    bench: Bench,
}

fn open(properties: &[(&'static str, String)]) -> Result<Arc<dyn Log>, Error> {
    let broker: BTreeMap<String, String> = properties.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    datamill::broker::open(&Properties { broker, ..Properties::default() })
}

impl<'a> Account<'a> {
    fn new(kafka: &'a SecuredKafka, user: &'static str) -> Self {
        Self::with(kafka, user, open(&kafka.login(user)).unwrap())
    }

    fn with(kafka: &'a SecuredKafka, user: &'static str, log: Arc<dyn Log>) -> Self {
        let admin = open(&[("bootstrap.servers", kafka.open_address())]).unwrap();
        let name = |what: &str| format!("{what}-{user}");
        for (what, partitions) in [("files", 2), ("results", 1), ("dead", 1)] {
            let topic = NewTopic { name: name(what), partitions, replication: 1, settings: BTreeMap::new() };
            admin.create_topic(&topic).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench { folder, log: admin, topic: name("files"), results: name("results"), group: name("xrd") };
        Self { kafka, user, log, bench }
    }

    /// Gives the permissions that the documentation lists under this heading.
    fn follow(&self, heading: &str) {
        let (_, after) = DOCUMENTATION.split_once(&format!("```sh\n# {heading}\n")).unwrap();
        let (block, _) = after.split_once("```").unwrap();
        block.lines().for_each(|line| self.allow(line.strip_prefix("$ACLS ").unwrap()));
    }

    /// The names of the documentation, as those of this account.
    fn named(&self, text: &str) -> String {
        let mut text = text.replace("xrd", &self.bench.group);
        for what in ["files", "results", "dead"] {
            text = text.replace(what, &format!("{what}-{}", self.user));
        }
        text
    }

    fn allow(&self, words: &str) {
        self.kafka.allow(self.user, &self.named(words).split(' ').collect::<Vec<_>>());
    }

    fn take_away(&self, words: &str) {
        self.kafka.take_away(self.user, &self.named(words).split(' ').collect::<Vec<_>>());
    }

    fn settings(&self, delivery: DeliveryGuarantee, results: bool) -> EngineSettings {
        let dead_letter_topic = results.then(|| format!("dead-{}", self.user));
        let all = EngineSettings { delivery, dead_letter_topic, ..self.bench.settings() };
        if results { all } else { EngineSettings { result_topic: None, ..all } }
    }

    fn run_controlled(&self, settings: &EngineSettings, control: &Control) -> Result<Summary, EngineError> {
        self.run_counted(settings, control, &Facts::default())
    }

    fn run_counted(&self, settings: &EngineSettings, control: &Control, facts: &Facts) -> Result<Summary, EngineError> {
        let code = match settings.result_topic {
            Some(_) => UserCode::reproducer(ByName::default()),
            None => UserCode::processor(ByName::default()),
        };
        let ended = datamill::engine::run(&self.log, settings, code, control, facts);
        if let Err(error) = &ended {
            say(chain(error));
        }
        ended
    }

    fn run(&self, settings: &EngineSettings) -> Result<Summary, EngineError> {
        self.run_controlled(settings, &Control::default())
    }

    /// The run ends because of a missing permission, which is named with the command that gives it.
    fn lacks(&self, settings: &EngineSettings, names: &str) -> String {
        let error = self.run(settings).unwrap_err();
        let text = chain(&error);
        assert!(is_denied(&error), "{}: {text}", self.user);
        assert_eq!(Exit::of_error(&error), Exit::SetUp, "{text}");
        assert!(text.contains(&self.named(names)), "{}: `{names}` is not in: {text}", self.user);
        let command = format!("kafka-acls.sh … --add --allow-principal User:{} --operation", self.user);
        assert!(text.contains(&command), "{text}");
        text
    }

    /// The run ends well.
    fn has_enough(&self, settings: &EngineSettings) -> Summary {
        self.run(settings).unwrap()
    }

    fn send(&self, names: &[&str]) {
        for (i, name) in names.iter().enumerate() {
            self.bench.send(&chunks(i as i32 % 2, name, &content(i as u64, 500), 200));
        }
    }

    fn paths_of_results(&self) -> Vec<String> {
        let mut paths: Vec<_> = self.bench.read_results().iter().map(|got| got.path().to_owned()).collect();
        paths.sort();
        paths
    }
}

impl DataFileStreamProcessor for ByName {
    fn process_downloaded_data_file(
        &self,
        file: &datamill::assemble::DownloadDataFile,
        lock: &datamill::process::Lock,
    ) -> Result<(), datamill::process::ProcessingError> {
        self.get_processing_result_message_for_file(file, lock).map(|_| ())
    }
}

fn is_denied(error: &EngineError) -> bool {
    match error {
        EngineError::Log(error) | EngineError::Rights(error) => error.is_denied(),
        _ => false,
    }
}

fn say(text: String) {
    println!("said: {text}");
    SAID.lock().push(text);
}

/// How often a broker is asked again for what it does not know at once.
const ASKED_AGAIN: usize = 20;
const ONCE: DeliveryGuarantee = DeliveryGuarantee::ExactlyOnce;
const AT_LEAST: DeliveryGuarantee = DeliveryGuarantee::AtLeastOnce;

#[test]
fn permissions_that_lack_are_named_and_those_of_the_documentation_are_enough() {
    let kafka = &SecuredKafka::start();
    let scenarios: [fn(&SecuredKafka); 13] = [
        logins_that_fail_say_what_to_check,
        certificates_that_are_not_accepted_are_told_apart,
        a_protocol_that_the_broker_does_not_have_there_is_named_with_the_one_that_it_has,
        a_reproducer_needs_what_the_documentation_says,
        a_processor_needs_what_the_documentation_says,
        an_account_that_may_only_read_is_told_of_at_least_once,
        a_reproducer_at_least_once_needs_what_the_documentation_says,
        failures_in_the_log_are_carried_over_as_far_as_the_account_may,
        each_permission_that_lacks_is_named_one_after_the_other,
        the_topic_of_the_state_is_named_where_it_may_not_be_used,
        permissions_that_are_taken_away_end_the_program_and_nothing_is_lost,
        a_reproducer_whose_password_was_changed_ends_with_what_to_check_and_goes_on_with_the_right_one,
        an_upload_whose_password_was_changed_ends_with_what_to_check,
    ];
    std::thread::scope(|scope| {
        let running: Vec<_> = scenarios.iter().map(|scenario| scope.spawn(move || scenario(kafka))).collect();
        for one in running {
            one.join().unwrap();
        }
    });
    let said = SAID.lock();
    assert!(said.len() >= 10, "{said:?}");
    for text in &*said {
        assert!(!text.contains("secret") && !text.contains("wrong-"), "{text}");
        assert!(!text.contains('\n') && text.len() < 700, "{text}");
    }
}

/// Opening with these properties is refused as it is to be, at once, and the text names what it has to.
fn refused(properties: &[(&'static str, String)], kind: ErrorKind, names: &[&str]) {
    let error = open(properties).map(|_| ()).unwrap_err();
    let text = chain(&error);
    say(text.clone());
    assert_eq!(error.kind(), kind, "{text}");
    assert!(names.iter().all(|name| text.contains(name)), "{names:?}: {text}");
}

/// Properties with others in their place, or beside them.
fn with(properties: &[(&'static str, String)], changes: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
    let kept = properties.iter().filter(|(key, _)| changes.iter().all(|(other, _)| key != other));
    kept.chain(changes).cloned().collect()
}

fn logins_that_fail_say_what_to_check(kafka: &SecuredKafka) {
    let login = kafka.login("user1");
    let wrong = with(&login, &[("sasl.password", "wrong-password".to_owned())]);
    refused(&wrong, ErrorKind::Denied, &["login", "`sasl.password`"]);
    let nobody = with(&login, &[("sasl.username", "nobody".to_owned())]);
    refused(&nobody, ErrorKind::Denied, &["login", "`sasl.username`"]);
    let scram = with(&login, &[("sasl.mechanism", "SCRAM-SHA-256".to_owned())]);
    let others = ["no login with SCRAM-SHA-256, but with", "SCRAM-SHA-512", "set `sasl.mechanism`"];
    refused(&scram, ErrorKind::Settings, &others);
    let encrypted = encrypted(kafka, kafka.encrypted_address());
    let wrong = with(&encrypted, &[("sasl.password", "wrong-password".to_owned())]);
    refused(&wrong, ErrorKind::Denied, &["login", "`sasl.password`"]);
}

fn encrypted(kafka: &SecuredKafka, address: String) -> Vec<(&'static str, String)> {
    let encrypted =
        [("bootstrap.servers", address), ("security.protocol", "SASL_SSL".to_owned()), ("ssl.ca.location", kafka.ca())];
    with(&kafka.login("user1"), &encrypted)
}

fn certificates_that_are_not_accepted_are_told_apart(kafka: &SecuredKafka) {
    let good = encrypted(kafka, kafka.encrypted_address());
    open(&good).unwrap();
    let unknown: Vec<_> = good.iter().filter(|(key, _)| *key != "ssl.ca.location").cloned().collect();
    let authority = ["is signed by `CN=broker`", "authorities of this machine", "`ssl.ca.location`"];
    refused(&unknown, ErrorKind::Settings, &authority);
    let another = encrypted(kafka, kafka.address_of_another_host());
    let host = ["is for `other.example.org`, not for `127.0.0.1`", "`bootstrap.servers`"];
    refused(&another, ErrorKind::Settings, &host);
    open(&with(&another, &[("ssl.endpoint.identification.algorithm", "none".to_owned())])).unwrap();
    let expired = encrypted(kafka, kafka.expired_address());
    refused(&expired, ErrorKind::Settings, &["expired on Jan  2 00:00:00 2020", "the clock of this machine says"]);

    let mutual = with(&good, &[("bootstrap.servers", kafka.address_for_certificates())]);
    refused(&mutual, ErrorKind::Settings, &["wants a certificate", "`ssl.key.location`", "`ssl.keystore.location`"]);
    let with_store = |path: String| {
        let ssl = ("security.protocol", "SSL".to_owned());
        let password = ("ssl.keystore.password", "secret".to_owned());
        with(&mutual, &[ssl, ("ssl.keystore.location", path), password])
    };
    let unknown = with_store(kafka.unknown_keystore());
    refused(&unknown, ErrorKind::Settings, &["does not accept the certificate in `ssl.keystore.location`"]);
    open(&with_store(kafka.client_keystore())).unwrap();
}

fn a_protocol_that_the_broker_does_not_have_there_is_named_with_the_one_that_it_has(kafka: &SecuredKafka) {
    let listeners = [
        ("PLAINTEXT", kafka.open_address()),
        ("SASL_PLAINTEXT", kafka.address()),
        ("SASL_SSL", kafka.encrypted_address()),
    ];
    for (there, address) in &listeners {
        for asked in ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"].into_iter().filter(|asked| asked != there) {
            let asked_for = [("bootstrap.servers", address.clone()), ("security.protocol", asked.to_owned())];
            let properties = with(&encrypted(kafka, address.clone()), &asked_for);
            let names = [format!("asks for `security.protocol = {there}`"), format!("tried with {asked}")];
            refused(&properties, ErrorKind::Settings, &[address, &names[0], &names[1]]);
        }
    }
}

fn a_reproducer_needs_what_the_documentation_says(kafka: &SecuredKafka) {
    let account = Account::new(kafka, "user1");
    account.follow("reproducer, exactly-once");
    account.send(&["a", "b", "c", "error"]);
    for run in 0..2 {
        let summary = account.has_enough(&account.settings(ONCE, true));
        assert_eq!((summary.succeeded, summary.failed, summary.failed_again), [(3, 1, 0), (0, 0, 1)][run]);
    }
    assert_eq!(account.paths_of_results(), ["a", "b", "c"]);
}

fn a_processor_needs_what_the_documentation_says(kafka: &SecuredKafka) {
    let account = Account::new(kafka, "user2");
    account.follow("processor, exactly-once");
    account.send(&["a", "b", "error"]);
    for run in 0..2 {
        let summary = account.has_enough(&account.settings(ONCE, false));
        assert_eq!((summary.succeeded, summary.failed, summary.failed_again), [(2, 1, 0), (0, 0, 1)][run]);
    }
}

fn an_account_that_may_only_read_is_told_of_at_least_once(kafka: &SecuredKafka) {
    let account = Account::new(kafka, "user3");
    account.follow("processor, at-least-once");
    account.send(&["a", "b", "error"]);
    account.allow("--operation Read --topic datamill.xrd.state");
    let text =
        account.lacks(&account.settings(ONCE, false), "`Write` permission on transactional id `datamill-xrd-one`");
    assert!(text.contains("--delivery at-least-once"), "{text}");
    for run in 0..2 {
        let summary = account.has_enough(&account.settings(AT_LEAST, false));
        assert_eq!((summary.succeeded, summary.failed, summary.failed_again), [(2, 1, 0), (0, 0, 1)][run]);
    }
    let topics: BTreeSet<String> = account.bench.log.topics().unwrap().into_iter().map(|topic| topic.name).collect();
    assert!(!topics.iter().any(|name| name.contains("state")), "{topics:?}");
}

fn a_reproducer_at_least_once_needs_what_the_documentation_says(kafka: &SecuredKafka) {
    let account = Account::new(kafka, "user4");
    account.follow("reproducer, at-least-once");
    account.send(&["a", "b", "c", "error"]);
    for run in 0..2 {
        let summary = account.has_enough(&account.settings(AT_LEAST, true));
        assert_eq!((summary.succeeded, summary.failed, summary.failed_again), [(3, 1, 0), (0, 0, 1)][run]);
    }
    assert_eq!(account.paths_of_results(), ["a", "b", "c"]);
}

fn failures_in_the_log_are_carried_over_as_far_as_the_account_may(kafka: &SecuredKafka) {
    let account = Account::new(kafka, "user8");
    account.follow("reproducer, at-least-once");
    account.send(&["a", "x/error"]);
    let (once, at_least) = (account.settings(ONCE, true), account.settings(AT_LEAST, true));
    assert_eq!(account.bench.run(&once, ByName::default()).unwrap().failed, 1);
    let listed = || failed_files(account.bench.log.as_ref(), &account.bench.topic, &account.bench.group).unwrap().len();
    let run = |settings: &EngineSettings, log: &Arc<dyn Log>| {
        let code = UserCode::reproducer(Told::default());
        let run = datamill::engine::run(log, settings, code, &Control::default(), &Facts::default()).unwrap();
        (run.succeeded, run.retried)
    };
    // it may not see them
    assert_eq!((run(&at_least, &account.log), listed()), ((0, 0), 1));
    // it may see them, and not say that it has them
    account.allow("--operation Read --topic datamill.xrd.state");
    wait_for("the permission", || {
        let state = account.log.group_state(&account.bench.group);
        state.is_ok_and(|state| state.keys().any(|key| key.starts_with("failed/")))
    });
    assert_eq!((run(&at_least, &account.log), listed()), ((1, 1), 1));
    assert_eq!((run(&at_least, &account.log), listed()), ((0, 0), 1));
    // one that may do everything goes on from the same folder
    assert_eq!((run(&once, &account.bench.log), listed()), ((0, 0), 0));
    assert_eq!(account.paths_of_results(), ["a", "x/error"]);
}

fn each_permission_that_lacks_is_named_one_after_the_other(kafka: &SecuredKafka) {
    let account = Account::new(kafka, "user5");
    account.send(&["a", "b"]);
    let settings = EngineSettings { dead_letter_topic: None, ..account.settings(AT_LEAST, true) };
    account.lacks(&settings, "the `Read` permission on topic `files`");
    // one that only lets it look says the same, of what is read a little later
    account.allow("--operation Describe --topic files");
    account.lacks(&settings, "the `Write` permission on topic `results`");
    account.allow("--operation Describe --topic results --group xrd");
    account.lacks(&settings, "the `Write` permission on topic `results`");
    account.allow("--operation Write --topic results");
    account.lacks(&settings, "the `Read` permission on group `xrd`");
    account.allow("--operation Read --group xrd");
    account.lacks(&settings, "the `Read` permission on topic `files`");
    assert!(account.bench.log.group(&account.bench.group, &[&account.bench.topic]).unwrap().committed.is_empty());
    account.allow("--operation Read --topic files");
    assert_eq!(account.has_enough(&settings).succeeded, 2);
    assert_eq!(account.paths_of_results(), ["a", "b"]);
}

fn the_topic_of_the_state_is_named_where_it_may_not_be_used(kafka: &SecuredKafka) {
    let account = Account::new(kafka, "user6");
    account.follow("processor, at-least-once");
    account.allow("--operation Write --transactional-id datamill-xrd- --resource-pattern-type prefixed");
    account.send(&["a", "error"]);
    let settings = account.settings(ONCE, false);
    let state = |operation| format!("the `{operation}` permission on topic `datamill.xrd.state`");
    let text = account.lacks(&settings, &state("Read"));
    assert!(text.contains("--delivery at-least-once"), "{text}");
    assert!(text.contains("--operation Read --operation Write --operation Create --topic datamill."), "{text}");
    account.allow("--operation Read --topic datamill.xrd.state");
    account.lacks(&settings, &state("Create"));
    account.allow("--operation Write --operation Create --topic datamill.xrd.state");
    assert_eq!(account.has_enough(&settings).succeeded, 1);
    // the topic is seen and may not be written to: in a commit of a failure alone, and in one with a result
    account.take_away("--operation Write --topic datamill.xrd.state");
    account.send(&["again/error"]);
    account.lacks(&settings, &state("Write"));
    account.follow("reproducer, at-least-once");
    let reproducer = EngineSettings { same_group: true, ..account.settings(ONCE, true) };
    account.lacks(&reproducer, &state("Write"));
    account.send(&["b"]);
    account.lacks(&reproducer, &state("Write"));
    account.allow("--operation Write --topic datamill.xrd.state");
    account.take_away("--operation Write --topic results");
    account.allow("--operation Describe --topic results");
    account.lacks(&reproducer, "the `Write` permission on topic `results`");
    account.allow("--operation Write --topic results");
    let summary = account.has_enough(&reproducer);
    assert_eq!((summary.succeeded, summary.failed + summary.failed_again), (1, 2));
    assert_eq!(account.paths_of_results(), ["b"]);
}

fn permissions_that_are_taken_away_end_the_program_and_nothing_is_lost(kafka: &SecuredKafka) {
    const ID: &str = "--operation Write --transactional-id datamill-xrd- --resource-pattern-type prefixed";
    const TAKEN: [(&str, &str, &str); 8] = [
        ("--operation Write --topic results", "after", "`Write` permission on topic `results`"),
        ("--operation Read --group xrd", "after", "`Read` permission on group `xrd`"),
        ("--operation Read --topic files", "after", "`Read` permission on topic `files`"),
        // a file that fails is what is written there
        ("--operation Write --topic dead", "after/error", "`Write` permission on topic `dead`"),
        (ID, "after", "`Write` permission on transactional id `datamill-xrd-one`"),
        (
            "--operation Write --topic datamill.xrd.state",
            "after/error",
            "`Write` permission on topic `datamill.xrd.state`",
        ),
        ("--operation Read --topic datamill.xrd.state", "after", "`Read` permission on topic `datamill.xrd.state`"),
        (
            "--operation Read --topic datamill.xrd.state",
            "after/error",
            "`Read` permission on topic `datamill.xrd.state`",
        ),
    ];
    let account = Account::new(kafka, "user7");
    let mut expected = Vec::new();
    for (delivery, heading, count) in
        [(ONCE, "reproducer, exactly-once", TAKEN.len()), (AT_LEAST, "reproducer, at-least-once", 4)]
    {
        account.follow(heading);
        for (i, (words, after, names)) in TAKEN.iter().enumerate().take(count) {
            let [before, after] = ["before", after].map(|when| format!("{delivery:?}-{i}/{when}"));
            account.send(&[before.as_str()]);
            expected.push(before.clone());
            if !after.ends_with("error") {
                expected.push(after.clone());
            }
            let settings = EngineSettings { exit_at_end: false, ..account.settings(delivery, true) };
            let control = Control::default();
            std::thread::scope(|scope| {
                let _stop = StopAtEnd(&control);
                let run = scope.spawn(|| account.run_controlled(&settings, &control));
                wait_for("the first result", || account.paths_of_results().contains(&before));
                account.take_away(words);
                account.send(&[after.as_str()]);
                let error = run.join().unwrap().unwrap_err();
                let text = chain(&error);
                assert!(is_denied(&error) && text.contains(&account.named(names)), "{words}: {text}");
            });
            account.allow(words);
            account.has_enough(&account.settings(delivery, true));
        }
    }
    expected.sort();
    let mut got = account.paths_of_results();
    got.dedup();
    assert_eq!(got, expected);
}

/// How long logins may be refused in these tests, milliseconds.
const LOGIN_GRACE_MS: &str = "6000";

/// A log of this account, whose password another one may take the place of.
fn open_rotating(kafka: &SecuredKafka, user: &str, password: &str) -> Arc<dyn Log> {
    let mut login = kafka.rotating_login(user, password);
    login.push(("login.refused.timeout.ms", LOGIN_GRACE_MS.to_owned()));
    (0..ASKED_AGAIN)
        .find_map(|_| open(&login).map_err(|_| std::thread::sleep(Duration::from_millis(500))).ok())
        .unwrap()
}

fn a_reproducer_whose_password_was_changed_ends_with_what_to_check_and_goes_on_with_the_right_one(
    kafka: &SecuredKafka,
) {
    kafka.set_password("user10", "first-secret");
    let mut account = Account::with(kafka, "user10", open_rotating(kafka, "user10", "first-secret"));
    account.follow("reproducer, exactly-once");
    account.send(&["a"]);
    let settings = EngineSettings { exit_at_end: false, ..account.settings(ONCE, true) };
    let control = Control::default();
    let (server, facts) = serve_on(&account.log, &settings.topic, &settings.group);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&control);
        let running = scope.spawn(|| {
            (0..ASKED_AGAIN)
                .map(|_| account.run_counted(&settings, &control, &facts))
                .find(|ended| !matches!(ended, Err(EngineError::Rights(_))))
                .unwrap()
        });
        wait_for("a", || account.paths_of_results() == ["a"]);
        kafka.set_password("user10", "second-secret");
        account.send(&["b"]);
        let shown = |path: &str| get(server.address(), path).body;
        let refuses = |page: &str| page.contains("holding: broker `") && page.contains("` refuses the login");
        wait_for("the page", || refuses(&shown("/")));
        let page = shown("/");
        assert!(page.contains("`sasl.password`") && page.contains("the program ends"), "{page}");
        assert!(shown("/readyz").contains("not ready: ") && shown("/readyz").contains("refuses the login"));
        assert!(shown("/metrics").contains("datamill_held{reason=\"login\"} 1\n"));
        let error = running.join().unwrap().unwrap_err();
        assert_eq!(facts.counters().snapshot().state.held.map(|(hold, _)| hold), Some(Hold::Login));
        let text = chain(&error);
        assert_eq!(datamill::program::Exit::of_error(&error), Exit::SetUp, "{text}");
        assert!(text.contains("has refused the login for") && text.contains("`sasl.password`"), "{text}");
    });
    account.log = open_rotating(kafka, "user10", "second-secret");
    account.has_enough(&account.settings(ONCE, true));
    assert_eq!(account.paths_of_results(), ["a", "b"]);
}

fn an_upload_whose_password_was_changed_ends_with_what_to_check(kafka: &SecuredKafka) {
    kafka.set_password("user11", "first-secret");
    let account = Account::with(kafka, "user11", open_rotating(kafka, "user11", "first-secret"));
    account.follow("upload");
    std::fs::write(account.bench.folder.path().join("a.csv"), "10,20\n").unwrap();
    let paths = [account.bench.folder.path().join("a.csv")];
    let settings = UploadSettings::new(&account.bench.topic);
    let upload = || upload_paths(account.log.as_ref(), &paths, &settings, &Control::default(), &Facts::default());
    let is_sent = |_: &usize| upload().is_ok_and(|summary| summary.broken_off.is_none());
    assert!((0..ASKED_AGAIN).any(|turn| is_sent(&turn) || {
        std::thread::sleep(Duration::from_millis(500));
        false
    }));
    kafka.set_password("user11", "second-secret");
    // connections live on for five seconds at most
    let refused = (0..600).find_map(|_| {
        std::thread::sleep(Duration::from_millis(200));
        match upload() {
            Ok(summary) => summary.broken_off.clone().map(|text| (of_upload(&summary), text)),
            Err(error) => Some((Exit::SetUp, chain(&error))),
        }
        .filter(|(_, text)| text.contains("login"))
    });
    let (exit, text) = refused.unwrap();
    assert_eq!(exit, Exit::SetUp, "{text}");
    assert!(text.contains("`sasl.password`"), "{text}");
    say(text);
}
