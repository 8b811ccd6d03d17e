//! A group that gives nothing: some brokers refuse a member without a word that reaches it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill_broker::Log;

use super::members::Members;
use crate::engine::EngineSettings;

/// How long a member without an assignment is nothing strange.
const PATIENCE: Duration = Duration::from_secs(30);

/// Says once why the group may give nothing to a member that is alone.
pub(super) struct Unassigned {
    since: Instant,
    members: Members,
    is_said: bool,
}

impl Unassigned {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, members: Members::default(), is_said: false }
    }

    /// One look.
    pub(super) fn step(&mut self, log: &Arc<dyn Log>, settings: &EngineSettings, is_member: bool) {
        if is_member {
            *self = Self { is_said: self.is_said, ..Self::new(Instant::now()) };
            return;
        }
        if self.is_said || self.since.elapsed() < PATIENCE {
            return;
        }
        let others = match self.members.answer() {
            Some(Ok(others)) => others,
            Some(Err(_)) | None => return self.members.ask(log, settings),
        };
        self.is_said = true;
        if others.is_empty() {
            tracing::warn!(group = %settings.group, topic = %settings.topic,
                "the group has given no partition for {} s, and shows no other member. The likely reasons: its name is \
                that of a share group, or of a group whose members use another `group.protocol`; or the broker does not \
                offer the group protocol of the configuration. Choose another group with --consumer_group_id, or take \
                `group.protocol` out of section `[consumer]`", PATIENCE.as_secs());
        }
    }
}
