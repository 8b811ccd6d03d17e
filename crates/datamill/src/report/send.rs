//! Sends single small messages and waits for each; says once that it does not work, and once that it
//! works again.

use std::time::{Duration, Instant};

use datamill_broker::{Error, ErrorKind, NewRecord, Publisher};
use tracing::{info, warn};

use super::periodic::Moment;
use super::text::chain;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is durable.
    Yes,
    /// It is not in the log and never will be.
    No,
    /// The log did not answer in time.
    Unknown,
}

pub(super) struct Sender {
    publisher: Box<dyn Publisher>,
    topic: String,
    /// What the messages are, for people: "heartbeats".
    what: &'static str,
    failing: bool,
    next_token: usize,
}

impl Sender {
    pub(super) fn new(publisher: Box<dyn Publisher>, topic: String, what: &'static str) -> Self {
        Self { publisher, topic, what, failing: false, next_token: 0 }
    }

    /// Sends one message and waits at most `limit` for its delivery.
    pub(super) fn send(
        &mut self,
        key: &str,
        value: &str,
        headers: Vec<(&str, &[u8])>,
        limit: Duration,
        moment: Moment,
    ) -> Sent {
        match self.try_send(key, value, headers, limit) {
            Ok(true) => {
                if std::mem::take(&mut self.failing) {
                    info!(topic = self.topic, "{} are taken again", self.what);
                }
                Sent::Yes
            }
            Ok(false) => {
                self.failed(&format!("no answer within {} s", limit.as_secs_f64()), moment);
                Sent::Unknown
            }
            Err(error) => {
                self.failed(&chain(&error), moment);
                Sent::No
            }
        }
    }

    /// Whether the message was delivered before the time was over.
    fn try_send(
        &mut self,
        key: &str,
        value: &str,
        headers: Vec<(&str, &[u8])>,
        limit: Duration,
    ) -> Result<bool, Error> {
        let deadline = Instant::now() + limit;
        let token = self.next_token;
        self.next_token += 1;
        let record = NewRecord {
            topic: &self.topic,
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            headers,
            ..NewRecord::default()
        };
        loop {
            match self.publisher.send(&record, token) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::QueueFull && Instant::now() < deadline => {
                    self.publisher.poll(left(deadline), &mut |_| {})?;
                }
                Err(error) => return Err(error),
            }
        }
        let mut outcome = None;
        while outcome.is_none() && Instant::now() < deadline {
            // Deliveries of messages that an earlier call gave up waiting for come out here as well.
            self.publisher.poll(left(deadline), &mut |delivery| {
                if delivery.token == token {
                    outcome = Some(delivery.outcome);
                }
            })?;
        }
        outcome.map_or(Ok(false), |outcome| outcome.map(|_| true))
    }

    fn failed(&mut self, error: &str, moment: Moment) {
        if std::mem::replace(&mut self.failing, true) {
            return;
        }
        if moment == Moment::Last {
            warn!(topic = self.topic, error, "the last {} could not be sent", self.what);
        } else {
            warn!(topic = self.topic, error, "{} cannot be sent; the program goes on and keeps trying", self.what);
        }
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
