//! Whether the files of a topic lie in several partitions, as its newest messages tell. A member that owns a part of the
//! partitions may have read everything in them: no message that it reads says that the others wait for it to leave.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use datamill_broker::{Log, Record, Result};

use crate::engine::chunk::{chunk_of, is_kept};
use crate::read::{Start, TopicReader};

/// Messages of each partition that are looked at.
const LAST: i64 = 10;
/// Polls of a quarter of a second after which a look is given up.
const POLLS: usize = 40;

/// The looks of a session: one each time that it owns other partitions.
#[derive(Default)]
pub(super) struct Newest {
    /// Partitions that were owned at the last look.
    owned: Option<Vec<i32>>,
    found: Option<Receiver<bool>>,
}

impl Newest {
    /// Answers whether files were found to lie in several partitions. `owned` is a part of the partitions.
    pub(super) fn step(&mut self, log: &Arc<dyn Log>, topic: &str, owned: impl Iterator<Item = i32>) -> bool {
        let owned = Some(owned.collect());
        if self.owned != owned {
            self.owned = owned;
            let (answer, found) = crossbeam_channel::bounded(1);
            let (log, topic) = (Arc::clone(log), topic.to_owned());
            let look = move || {
                // a look that fails tells nothing, and nobody listens any more after the end of the session
                let _ = answer.send(is_spread(&log, &topic).unwrap_or(false));
            };
            let thread = std::thread::Builder::new().name("datamill-newest".to_owned()).spawn(look);
            self.found = thread.is_ok().then_some(found);
        }
        self.found.as_ref().and_then(|found| found.try_recv().ok()).unwrap_or(false)
    }
}

fn is_spread(log: &Arc<dyn Log>, topic: &str) -> Result<bool> {
    let mut reader = TopicReader::open(log, topic, None, Start::Last(LAST), false)?;
    let mut is_spread = false;
    for _ in 0..POLLS {
        if is_spread || reader.is_at_end() {
            break;
        }
        reader.poll(Duration::from_millis(250), &mut |record| is_spread |= tells(record))?;
    }
    Ok(is_spread)
}

fn tells(record: &Record<'_>) -> bool {
    chunk_of(record).is_ok_and(|chunk| chunk.total > 1) && !is_kept(record)
}
