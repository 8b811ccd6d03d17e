//! How often the log is asked for those who look at a program.

use std::collections::BTreeMap;

use datamill_broker::{
    Error, ErrorKind, Event, Examined, Group, Log, NewTopic, Offsets, OwnFiles, Publisher, Reader, Record, Result,
    Session, StateChange, StateMark, SubscribeOptions, Topic, TopicNow,
};
use parking_lot::{Condvar, Mutex};

use super::*;
use crate::facts::{Backlog, Facts};
use crate::report::heartbeat::ProgramKind;
use crate::status::{Recent, Source};

const PARTITIONS: i32 = 3;

/// How a log answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    Well,
    WithErrors,
    /// Not at all, until it answers in another way.
    Never,
}

/// A log that counts what it is asked.
struct Counting {
    answers: Mutex<Answers>,
    changed: Condvar,
    /// Each kind of question, and how often it came.
    asked: Mutex<BTreeMap<&'static str, usize>>,
}

impl Counting {
    fn ask(&self, what: &'static str) -> Result<()> {
        *self.asked.lock().entry(what).or_default() += 1;
        let mut answers = self.answers.lock();
        while *answers == Answers::Never {
            self.changed.wait(&mut answers);
        }
        if *answers == Answers::Well { Ok(()) } else { Err(Error::new(ErrorKind::Retry, "away")) }
    }

    fn answer(&self, answers: Answers) {
        *self.answers.lock() = answers;
        self.changed.notify_all();
    }

    fn times(&self, what: &'static str) -> usize {
        self.asked.lock().get(what).copied().unwrap_or(0)
    }
}

/// A record at each place where reading begins.
struct First(Vec<(i32, i64)>);

impl Reader for First {
    fn poll(&mut self, _: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        for (partition, offset) in &self.0 {
            let (partition, offset, timestamp_ms) = (*partition, *offset, Some(1));
            let headers = Vec::new();
            sink(Event::Record(Record {
                topic: "t",
                partition,
                offset,
                timestamp_ms,
                key: None,
                value: None,
                headers,
            }));
        }
        Ok(self.0.len())
    }

    fn go_to(&mut self, _: &[(i32, i64)]) -> Result<()> {
        unreachable!("a look reads on from where it began")
    }
}

/// Whatever else is asked is counted, too, and refused.
fn refused<T>(log: &Counting, what: &'static str) -> Result<T> {
    log.ask(what)?;
    Err(Error::new(ErrorKind::Fatal, what))
}

impl Log for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    fn options(&self) -> &str {
        ""
    }

    fn own_files(&self) -> OwnFiles {
        OwnFiles::default()
    }

    fn makes_topics(&self) -> bool {
        false
    }

    fn offsets(&self, _: &str, partition: i32) -> Result<Offsets> {
        self.ask(if partition == 0 { "look" } else { "offsets" })?;
        Ok(Offsets { first: 0, last_stable: 100, end: 100 })
    }

    fn reader(&self, _: &str, starts: &[(i32, i64)]) -> Result<Box<dyn Reader>> {
        self.ask("reader")?;
        Ok(Box::new(First(starts.to_vec())))
    }

    fn id(&self) -> Result<String> {
        refused(self, "id")
    }

    fn create_topic(&self, _: &NewTopic) -> Result<()> {
        refused(self, "create_topic")
    }

    fn delete_topic(&self, _: &str) -> Result<()> {
        refused(self, "delete_topic")
    }

    fn topics(&self) -> Result<Vec<Topic>> {
        refused(self, "topics")
    }

    fn topic(&self, _: &str) -> Result<Topic> {
        refused(self, "topic")
    }

    fn topic_now(&self, _: &str) -> Result<TopicNow> {
        refused(self, "topic_now")
    }

    fn topic_for_use(&self, _: &str) -> Result<Topic> {
        refused(self, "topic_for_use")
    }

    fn publisher(&self) -> Result<Box<dyn Publisher>> {
        refused(self, "publisher")
    }

    fn subscribe(&self, _: &SubscribeOptions) -> Result<Session> {
        refused(self, "subscribe")
    }

    fn group(&self, _: &str, _: &[&str]) -> Result<Group> {
        refused(self, "group")
    }

    fn groups_of(&self, _: &str) -> Result<datamill_broker::Readers> {
        refused(self, "groups_of")
    }

    fn examine(&self, _: &[&str], _: Option<&str>) -> Result<Examined> {
        refused(self, "examine")
    }

    fn read_group_state(
        &self,
        _: &str,
        _: StateMark,
        _: &mut dyn FnMut(&str, Option<&[u8]>),
        _: &dyn Fn() -> bool,
    ) -> Result<Option<StateMark>> {
        refused(self, "read_group_state")
    }

    fn change_group_state(&self, _: &str, _: &[StateChange]) -> Result<()> {
        refused(self, "change_group_state")
    }
}

/// What a look finds out of what was read: nothing is open.
fn backlog() -> Vec<Backlog> {
    (0..PARTITIONS).map(|partition| Backlog { partition, next: 40, ..Backlog::default() }).collect()
}

/// A page that is open, one that is opened, a `datamill status` and a scraper, each once a second for so many seconds from `begin` on.
/// Answers whether it was ever told how much waits.
async fn look_on(shared: &Shared, begin: Instant, seconds: u64) -> bool {
    let counters = Arc::clone(&shared.shown.counters);
    let reading = async {
        loop {
            if counters.is_asked_for_backlog() {
                counters.answer_backlog(backlog());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let looking = async {
        let mut is_known = false;
        for now in (0..seconds).map(|second| begin + Duration::from_secs(second)) {
            let (whole, changing) = (shared.page(now, page::whole), shared.page(now, page::changing));
            let (_, _, _, metrics) =
                tokio::join!(whole, changing, shared.page(now, page::now), shared.metrics(now, Format::Text));
            let metrics = metrics.unwrap();
            let messages = metrics.lines().filter(|line| line.starts_with("datamill_lag_messages{"));
            let messages = messages.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
            is_known |= messages.sum::<f64>() == 60.0 * f64::from(PARTITIONS);
        }
        is_known
    };
    tokio::select! {
        is_known = looking => is_known,
        () = reading => unreachable!("it goes on for ever"),
    }
}

fn counting(answers: Answers) -> (Arc<Counting>, Shared) {
    let log = Arc::new(Counting { answers: answers.into(), changed: Condvar::new(), asked: Mutex::default() });
    let source = Source { topic: "t".to_owned(), group: "g".to_owned(), instance: "one".to_owned(), log: log.clone() };
    let recent = Arc::<Recent>::default();
    let counters = Arc::clone(Facts::default().heard_by(recent.clone()).counters());
    let kind = ProgramKind::Reproducer;
    (log, Shared::of(Shown { program: "test".to_owned(), kind, counters, log: None, source: Some(source), recent }))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

#[test]
fn the_log_is_asked_once_in_five_seconds_however_many_look() {
    for answers in [Answers::Well, Answers::WithErrors] {
        let (log, shared) = counting(answers);
        let is_known = runtime().block_on(look_on(&shared, Instant::now(), 60));
        assert_eq!(is_known, answers == Answers::Well);
        let asked = log.asked.lock().clone();
        let looks = asked["look"];
        assert!((1..=12).contains(&looks), "{asked:?}");
        let expected = match answers {
            // reading stands still: the oldest record of each partition is read once
            Answers::Well => {
                BTreeMap::from([("look", looks), ("offsets", looks * (PARTITIONS as usize - 1)), ("reader", 1)])
            }
            _ => BTreeMap::from([("look", looks)]),
        };
        assert_eq!(asked, expected);
    }
}

#[test]
fn a_log_that_does_not_answer_is_asked_once_until_it_does() {
    let (log, shared) = counting(Answers::Never);
    let (runtime, begin) = (runtime(), Instant::now());
    assert!(!runtime.block_on(look_on(&shared, begin, 60)));
    assert_eq!((log.times("look"), log.asked.lock().len()), (1, 1));
    log.answer(Answers::Well);
    // the look that had no answer ends on a thread of its own, at a moment that no clock of this test knows
    let minutes = (1..=60).find(|minute| {
        std::thread::sleep(Duration::from_millis(20));
        runtime.block_on(look_on(&shared, begin + Duration::from_secs(60 * minute), 60))
    });
    let most = 1 + 12 * minutes.expect("the log is asked again") as usize;
    assert!((2..=most).contains(&log.times("look")), "{:?}", log.asked.lock());
}
