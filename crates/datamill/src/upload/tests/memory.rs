//! A log in memory that asks the test what to do with each record.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use datamill_broker::*;
use datamill_wire::{Chunk, headers, hex, sha512};
use parking_lot::Mutex;

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is stored and acknowledged.
    Store,
    /// It is stored and never acknowledged.
    Silence,
    /// It is stored, and acknowledged once the test says so.
    Later,
    /// Its delivery fails.
    Fail(ErrorKind),
    /// It is not taken on.
    NotTaken(ErrorKind),
}

type Judge = Box<dyn FnMut(usize, &Chunk<'_>) -> Verdict + Send>;

/// The data of each chunk, as often as it came.
type Chunks = BTreeMap<u32, Vec<Vec<u8>>>;

#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) partition: i32,
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    pub(super) headers: Vec<(String, String)>,
}

impl Stored {
    pub(super) fn supersedes(&self) -> Vec<&str> {
        let of_name = self.headers.iter().filter(|(name, _)| name == headers::SUPERSEDES);
        of_name.map(|(_, value)| value.as_str()).collect()
    }
}

#[derive(Default)]
struct State {
    records: Vec<Stored>,
    judge: Option<Judge>,
    sent: usize,
    most_in_flight: usize,
    answers_all: bool,
    id: Option<String>,
    more_partitions: i32,
}

#[derive(Clone, Default)]
pub(super) struct MemoryLog {
    state: Arc<Mutex<State>>,
}

/// A version of which all chunks are in the log, and how many times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) content: Vec<u8>,
    pub(super) times: usize,
}

impl MemoryLog {
    /// Asks `judge` about each record from here on; it gets the number of records sent before.
    pub(super) fn judge(&self, judge: impl FnMut(usize, &Chunk<'_>) -> Verdict + Send + 'static) {
        let mut state = self.state.lock();
        state.sent = 0;
        state.judge = Some(Box::new(judge));
    }

    /// The topic has this id from now on.
    pub(super) fn set_topic_id(&self, id: &str) {
        self.state.lock().id = Some(id.to_owned());
    }

    /// The topic has so many partitions more than 3.
    pub(super) fn add_partitions(&self, more: i32) {
        self.state.lock().more_partitions = more;
    }

    /// Acknowledges what waits for it.
    pub(super) fn answer_all(&self) {
        self.state.lock().answers_all = true;
    }

    pub(super) fn records(&self) -> Vec<Stored> {
        self.state.lock().records.clone()
    }

    pub(super) fn most_in_flight(&self) -> usize {
        self.state.lock().most_in_flight
    }

    /// Rebuilds what can be rebuilt, by path, in the order of the last chunk. Every chunk must hash to
    /// what it says, and every version whose chunks are all there must hash to what it says.
    pub(super) fn whole(&self) -> BTreeMap<String, Vec<Whole>> {
        let mut open: BTreeMap<(String, String), Chunks> = BTreeMap::new();
        let mut files: BTreeMap<String, Vec<Whole>> = BTreeMap::new();
        for record in self.records() {
            let chunk = Chunk::decode(&record.value).unwrap();
            chunk.verify().unwrap();
            let path = chunk.rebuilt_path();
            let chunks = open.entry((path.clone(), hex(chunk.file_hash))).or_default();
            chunks.entry(chunk.index).or_default().push(chunk.data.to_vec());
            let complete =
                |chunks: &Chunks| (1..=chunk.total).all(|index| chunks.get(&index).is_some_and(|all| !all.is_empty()));
            if complete(chunks) {
                let content: Vec<u8> =
                    (1..=chunk.total).flat_map(|index| chunks.get_mut(&index).unwrap().remove(0)).collect();
                assert_eq!(sha512(&content), *chunk.file_hash, "`{path}` is mixed");
                let versions = files.entry(path).or_default();
                match versions.iter_mut().find(|whole| whole.content == content) {
                    Some(whole) => whole.times += 1,
                    None => versions.push(Whole { content, times: 1 }),
                }
            }
        }
        files
    }

    /// How often a path is in the log whole, over all its versions.
    pub(super) fn times(&self, path: &str) -> usize {
        self.whole().get(path).map_or(0, |versions| versions.iter().map(|whole| whole.times).sum())
    }

    /// The one version of a path.
    pub(super) fn only(&self, path: &str) -> Vec<u8> {
        let versions = self.whole().remove(path).unwrap_or_default();
        assert_eq!(versions.len(), 1, "versions of `{path}`");
        assert_eq!(versions[0].times, 1, "times of `{path}`");
        versions[0].content.clone()
    }
}

pub(super) fn error(kind: ErrorKind) -> Error {
    Error::new(kind, format!("a made-up error of kind {kind:?}"))
}

struct MemoryPublisher {
    state: Arc<Mutex<State>>,
    deliveries: VecDeque<Delivery>,
    later: VecDeque<Delivery>,
    unanswered: usize,
}

impl Publisher for MemoryPublisher {
    fn send(&mut self, record: &NewRecord<'_>, token: usize) -> Result<()> {
        let value = record.value.unwrap().to_vec();
        // The judge may touch files, or look at the log: it runs without the lock.
        let (mut judge, number) = {
            let mut state = self.state.lock();
            (state.judge.take(), state.sent)
        };
        let chunk = Chunk::decode(&value).unwrap();
        let verdict = judge.as_mut().map_or(Verdict::Store, |judge| judge(number, &chunk));
        let mut state = self.state.lock();
        if state.judge.is_none() {
            state.judge = judge;
        }
        state.sent += 1;
        let outcome = match verdict {
            Verdict::NotTaken(kind) => return Err(error(kind)),
            Verdict::Fail(kind) => Err(error(kind)),
            Verdict::Store | Verdict::Silence | Verdict::Later => {
                let headers = record
                    .headers
                    .iter()
                    .map(|(name, value)| (String::from(*name), String::from_utf8(value.to_vec()).unwrap()));
                assert!(record.timestamp_ms.is_some());
                let stored = Stored {
                    partition: record.partition.unwrap(),
                    key: String::from_utf8(record.key.unwrap().to_vec()).unwrap(),
                    headers: headers.collect(),
                    value,
                };
                state.records.push(stored);
                Ok(Placed { partition: record.partition.unwrap(), offset: 0 })
            }
        };
        match verdict {
            Verdict::Silence => self.unanswered += 1,
            Verdict::Later => self.later.push_back(Delivery { token, outcome }),
            _ => self.deliveries.push_back(Delivery { token, outcome }),
        }
        let in_flight = self.in_flight();
        state.most_in_flight = state.most_in_flight.max(in_flight);
        Ok(())
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Delivery)) -> Result<usize> {
        if timeout.is_zero() {
            return Ok(0);
        }
        if self.state.lock().answers_all {
            self.deliveries.append(&mut self.later);
        }
        let count = self.deliveries.len();
        if count == 0 {
            std::thread::sleep(timeout.min(Duration::from_millis(5)));
        }
        self.deliveries.drain(..).for_each(sink);
        Ok(count)
    }

    fn in_flight(&self) -> usize {
        self.deliveries.len() + self.later.len() + self.unanswered
    }
}

impl Log for MemoryLog {
    fn name(&self) -> &str {
        "memory"
    }

    fn id(&self) -> Result<String> {
        Ok("memory".to_owned())
    }

    fn own_files(&self) -> OwnFiles {
        OwnFiles::default()
    }

    fn create_topic(&self, _: &NewTopic) -> Result<()> {
        Err(error(ErrorKind::Exists))
    }

    fn options(&self) -> &str {
        ""
    }

    fn delete_topic(&self, _: &str) -> Result<()> {
        Err(error(ErrorKind::Fatal))
    }

    fn makes_topics(&self) -> bool {
        false
    }

    fn examine(&self, _: &[&str], _: Option<&str>) -> datamill_broker::Result<datamill_broker::Examined> {
        Ok(Default::default())
    }

    fn groups_of(&self, _: &str) -> Result<datamill_broker::Readers> {
        Err(error(ErrorKind::Fatal))
    }

    fn topics(&self) -> Result<Vec<Topic>> {
        Ok(vec![self.topic("t")?])
    }

    fn topic(&self, name: &str) -> Result<Topic> {
        if name != "t" {
            return Err(error(ErrorKind::UnknownTopic));
        }
        let state = self.state.lock();
        Ok(Topic { name: name.to_owned(), id: state.id.clone(), partitions: 3 + state.more_partitions, settings: None })
    }

    fn topic_now(&self, name: &str) -> Result<TopicNow> {
        self.topic(name).map(|topic| TopicNow { id: topic.id, partitions: topic.partitions })
    }

    fn topic_for_use(&self, name: &str) -> Result<Topic> {
        self.topic(name)
    }

    fn offsets(&self, _: &str, _: i32) -> Result<Offsets> {
        Err(error(ErrorKind::Fatal))
    }

    fn publisher(&self) -> Result<Box<dyn Publisher>> {
        let state = Arc::clone(&self.state);
        Ok(Box::new(MemoryPublisher { state, deliveries: VecDeque::new(), later: VecDeque::new(), unanswered: 0 }))
    }

    fn reader(&self, _: &str, _: &[(i32, i64)]) -> Result<Box<dyn Reader>> {
        Err(error(ErrorKind::Fatal))
    }

    fn subscribe(&self, _: &SubscribeOptions) -> Result<Session> {
        Err(error(ErrorKind::Fatal))
    }

    fn group(&self, _: &str, _: &[&str]) -> Result<Group> {
        Err(error(ErrorKind::Fatal))
    }

    fn read_group_state(
        &self,
        _: &str,
        _: StateMark,
        _: &mut dyn FnMut(&str, Option<&[u8]>),
        _: &dyn Fn() -> bool,
    ) -> Result<Option<StateMark>> {
        Err(error(ErrorKind::Fatal))
    }

    fn change_group_state(&self, _: &str, _: &[StateChange]) -> Result<()> {
        Err(error(ErrorKind::Fatal))
    }
}
