//! A log in memory for the tests of this room.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use datamill_broker::{Delivery, Error, ErrorKind, NewRecord, Placed, Publisher, Result};
use parking_lot::Mutex;

/// A message that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) key: String,
    pub(super) value: String,
    pub(super) headers: Vec<(String, String)>,
}

#[derive(Default)]
struct State {
    messages: Vec<Message>,
    refuse: bool,
    refused: usize,
}

/// The log; its clones are the same log.
#[derive(Default, Clone)]
pub(super) struct FakeLog {
    state: Arc<Mutex<State>>,
}

impl FakeLog {
    pub(super) fn publisher(&self) -> Box<dyn Publisher> {
        Box::new(FakePublisher { log: self.clone(), waiting: Vec::new() })
    }

    pub(super) fn messages(&self) -> Vec<Message> {
        self.state.lock().messages.clone()
    }

    pub(super) fn refuse(&self, refuse: bool) {
        self.state.lock().refuse = refuse;
    }

    pub(super) fn refused(&self) -> usize {
        self.state.lock().refused
    }
}

struct FakePublisher {
    log: FakeLog,
    waiting: Vec<Delivery>,
}

impl Publisher for FakePublisher {
    fn send(&mut self, record: &NewRecord<'_>, token: usize) -> Result<()> {
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        let mut state = self.log.state.lock();
        let outcome = if state.refuse {
            state.refused += 1;
            Err(Error::new(ErrorKind::Retry, "the log is away"))
        } else {
            let headers = record.headers.iter().map(|(name, value)| ((*name).to_owned(), text(Some(value)))).collect();
            let (topic, key, value) = (record.topic.to_owned(), text(record.key), text(record.value));
            let message = Message { topic, key, value, headers };
            state.messages.push(message);
            Ok(Placed { partition: 0, offset: state.messages.len() as i64 - 1 })
        };
        self.waiting.push(Delivery { token, outcome });
        Ok(())
    }

    fn poll(&mut self, _timeout: Duration, sink: &mut dyn FnMut(Delivery)) -> Result<usize> {
        let count = self.waiting.len();
        self.waiting.drain(..).for_each(sink);
        Ok(count)
    }

    fn in_flight(&self) -> usize {
        self.waiting.len()
    }
}

/// Waits until something is so; panics after ten seconds.
pub(super) fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "it did not happen within 10 s");
        thread::sleep(Duration::from_millis(2));
    }
}
