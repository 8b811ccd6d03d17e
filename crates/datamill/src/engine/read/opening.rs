//! What a session begins with: the topic as it is now, and a member of the group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datamill_broker::{FirstStart, Session, SubscribeOptions, Topic};

use super::Engine;
use crate::engine::{EngineError, StartFrom, start};

/// Time between two attempts to begin a session.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a stop is looked for meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// See the module.
pub(super) struct Opening {
    pub(super) topic: Topic,
    /// Where each partition ends now, for a run that ends there.
    pub(super) ends: Option<BTreeMap<i32, i64>>,
    pub(super) session: Session,
}

impl Engine<'_> {
    /// Joins the group. `None` where the program is asked to stop before it can.
    pub(super) fn open(&self) -> Result<Option<Opening>, EngineError> {
        let settings = self.settings;
        let topic = self.log.topic(&settings.topic)?;
        let ends = if settings.exit_at_end { Some(self.ends(topic.partitions)?) } else { None };
        let Some(first_start) = self.first_start()? else { return Ok(None) };
        let session = self.log.subscribe(&SubscribeOptions {
            group: settings.group.clone(),
            instance: settings.instance.clone(),
            membership: settings.membership,
            topics: vec![settings.topic.clone()],
            identity: self.commit.source.identity(),
            first_start,
            queue_bytes: settings.queue_bytes(),
            delivery: settings.delivery,
        })?;
        Ok(Some(Opening { topic, ends, session }))
    }

    /// Waits a little, or until the program is asked to stop.
    pub(super) fn rest(&self) {
        let until = Instant::now() + PAUSE;
        while Instant::now() < until && self.control.stopping().is_none() {
            self.listeners.facts.counters().turn();
            std::thread::sleep(LOOK);
        }
    }

    fn ends(&self, partitions: i32) -> Result<BTreeMap<i32, i64>, EngineError> {
        (0..partitions).map(|p| Ok((p, self.log.offsets(&self.settings.topic, p)?.last_stable))).collect()
    }

    /// Where a member starts in partitions without a position. A group that has a mark knows which partitions it had:
    /// one that it never had is read from its first record, also where all positions were forgotten.
    /// `None` where the program is asked to stop before that is known.
    fn first_start(&self) -> Result<Option<FirstStart>, EngineError> {
        match self.settings.start_from.map_or(self.settings.first_start, StartFrom::first_start) {
            FirstStart::Earliest => Ok(Some(FirstStart::Earliest)),
            other => Ok(self
                .state
                .marks(&self.commit.source, self.control)?
                .map(|marks| if start::knows(&marks) { FirstStart::Earliest } else { other })),
        }
    }
}
