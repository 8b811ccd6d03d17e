//! One broker of several that cannot be reached while others answer. Mostly the others get its partitions within seconds,
//! and nobody has to hear of it. Where they do not, since there are no other copies, or since it is only this program
//! that does not reach it, what is in these partitions waits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::metadata::Metadata;
use tracing::{info, warn};

use super::cluster::Cluster;
use super::failure::Reason;
use super::listener;
use super::watch::{REMINDER, in_words};

/// How long a broker fails before that is looked at: the others have its partitions after `broker.session.timeout.ms`, 9 s.
const LASTS: Duration = Duration::from_secs(20);

/// After this time without an error a broker is back. librdkafka repeats one that stays every 30 s.
const QUIET: Duration = Duration::from_secs(45);

/// An error this long ago may be over.
const FRESH: Duration = Duration::from_secs(5);

/// How long the others may take to say who has which partitions.
const ANSWER: Duration = Duration::from_secs(2);

/// A broker that failed.
#[derive(Debug, Clone)]
struct Row {
    code: Code,
    reason: String,
    first: Instant,
    last: Instant,
    /// When it was looked at last.
    looked: Option<Instant>,
    told: bool,
}

/// The brokers that failed lately, by address.
#[derive(Debug, Default)]
pub(super) struct Absent(Mutex<BTreeMap<String, Row>>);

impl Absent {
    /// A connection failed.
    pub(super) fn note(&self, code: Code, reason: &str, now: Instant) {
        let Some(address) = listener::address(reason) else { return };
        let mut rows = self.0.lock();
        // There was a connection, such as one that was idle.
        if reason.contains("in state UP") {
            rows.retain(|known, row| known != address || row.told);
            return;
        }
        let row = rows.entry(address.to_owned()).and_modify(|row| {
            if !row.told && now.duration_since(row.last) >= QUIET {
                (row.first, row.looked) = (now, None);
            }
        });
        let row = row.or_insert(Row { code, reason: String::new(), first: now, last: now, looked: None, told: false });
        (row.code, row.reason, row.last) = (code, reason.to_owned(), now);
    }

    /// All brokers were away, and that is over.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// The brokers that have failed for so long that it has to be looked who has their partitions.
    fn lasting(&self, now: Instant) -> Vec<(String, Row)> {
        let mut rows = self.0.lock();
        let lasting = rows.iter_mut().filter(|(_, row)| {
            let again = if row.told { REMINDER } else { LASTS };
            row.last.duration_since(row.first) >= LASTS
                && now.duration_since(row.last) < FRESH
                && row.looked.is_none_or(|at| now.duration_since(at) >= again)
        });
        lasting
            .map(|(address, row)| {
                row.looked = Some(now);
                (address.clone(), row.clone())
            })
            .collect()
    }

    fn tells(&self, address: &str) {
        if let Some(row) = self.0.lock().get_mut(address) {
            row.told = true;
        }
    }

    /// The brokers of which it was said that they are away, and which are back.
    fn back(&self, now: Instant) -> Vec<String> {
        let mut rows = self.0.lock();
        let is_back = |row: &Row| row.told && now.duration_since(row.last) >= QUIET;
        let back = rows.iter().filter(|(_, row)| is_back(row)).map(|(address, _)| address.clone()).collect();
        rows.retain(|_, row| !is_back(row));
        back
    }
}

impl Cluster {
    /// Says which of several brokers is away, where that matters.
    pub(super) fn tell_absent(&self) {
        let now = Instant::now();
        for address in self.watch.absent.back(now) {
            info!("broker `{address}` is back");
        }
        for (address, row) in self.watch.absent.lasting(now) {
            let Ok(metadata) = self.look().fetch_metadata(None, ANSWER) else { return };
            let partitions = waiting(&metadata, &address);
            if partitions == 0 {
                continue;
            }
            let cause = (row.code == Code::SSL).then(|| self.cause(&row.reason)).flatten();
            let text = cause.map_or_else(|| format!("it {}", in_words(row.code, &row.reason)), |cause| cause.text);
            warn!(
                error = %Reason(row.reason),
                "broker `{address}`, one of {}, is away: {text}; what is in {partitions} of the cluster's partitions waits \
                until it is back",
                metadata.brokers().len()
            );
            self.watch.absent.tells(&address);
        }
    }
}

/// How many partitions wait for the broker: it leads them, or nobody does and it has a copy.
fn waiting(metadata: &Metadata, address: &str) -> usize {
    let broker = metadata.brokers().iter().find(|broker| format!("{}:{}", broker.host(), broker.port()) == address);
    // One that is out of the cluster has no address any more: the partitions without a leader wait for it.
    let is_its = |leader: i32| broker.map_or(leader < 0, |broker| leader < 0 || leader == broker.id());
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    partitions.filter(|partition| is_its(partition.leader())).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: &str = "127.0.0.1:9094/2: Connect to ipv4#127.0.0.1:9094 failed: Connection refused";

    #[test]
    fn a_broker_is_looked_at_once_it_has_failed_for_some_time_and_is_back_when_it_fails_no_more() {
        let (absent, start) = (Absent::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let fails = |seconds| absent.note(Code::BrokerTransportFailure, REASON, at(seconds));
        let looks = |seconds| absent.lasting(at(seconds)).len();
        fails(0);
        fails(5);
        assert_eq!(looks(19), 0, "it may be restarting");
        fails(35);
        assert_eq!((looks(35), looks(36)), (1, 0));
        fails(65);
        assert_eq!((looks(71), looks(69)), (0, 1), "it may be back by then");
        assert!(absent.back(at(90)).is_empty(), "nothing was said");
        // a new row
        fails(120);
        assert_eq!(looks(120), 0);
        fails(150);
        assert_eq!(looks(150), 1);
        absent.tells("127.0.0.1:9094");
        fails(180);
        assert_eq!(looks(180), 0, "it was said");
        assert!(absent.back(at(210)).is_empty());
        assert_eq!(absent.back(at(225)), ["127.0.0.1:9094"]);
        assert!(absent.back(at(226)).is_empty());
    }

    #[test]
    fn connections_that_end_are_not_a_broker_that_is_away() {
        let (absent, start) = (Absent::default(), Instant::now());
        let ended = "127.0.0.1:9094/2: Disconnected: connection closed by peer (after 4000ms in state UP)";
        for (seconds, reason) in [(0, REASON), (10, ended), (20, ended), (30, REASON), (40, ended)] {
            let now = start + Duration::from_secs(seconds);
            absent.note(Code::BrokerTransportFailure, reason, now);
            assert!(absent.lasting(now).is_empty());
        }
    }

    #[test]
    fn an_error_that_names_no_broker_is_of_none() {
        let absent = Absent::default();
        absent.note(Code::AllBrokersDown, "3/3 brokers are down", Instant::now());
        assert!(absent.0.lock().is_empty());
    }
}
