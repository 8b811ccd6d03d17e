//! A group that gives nothing: some brokers refuse a member without a word that reaches it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use datamill_broker::Log;

use crate::engine::EngineSettings;

/// How long a member without an assignment is nothing strange.
const PATIENCE: Duration = Duration::from_secs(30);

/// Says once why the group may give nothing to a member that is alone.
pub(super) struct Unassigned {
    since: Instant,
    members: Option<Receiver<usize>>,
    is_said: bool,
}

impl Unassigned {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, members: None, is_said: false }
    }

    /// One look. The group is asked on a thread of its own: the answer may take long, and the membership may not wait.
    pub(super) fn step(&mut self, log: &Arc<dyn Log>, settings: &EngineSettings, is_member: bool) {
        if is_member {
            *self = Self { since: Instant::now(), members: None, ..*self };
            return;
        }
        if self.is_said || self.since.elapsed() < PATIENCE {
            return;
        }
        let Some(members) = &self.members else {
            let (answer, members) = crossbeam_channel::bounded(1);
            let (log, group, topic) = (Arc::clone(log), settings.group.clone(), settings.topic.clone());
            let ask = move || {
                if let Ok(group) = log.group(&group, &[&topic]) {
                    // nobody listens any more after the end of the session
                    let _ = answer.send(group.members.len());
                }
            };
            // without a thread, nothing is said
            drop(std::thread::Builder::new().name("datamill-unassigned".to_owned()).spawn(ask));
            self.members = Some(members);
            return;
        };
        let Ok(others) = members.try_recv() else { return };
        self.is_said = true;
        if others == 0 {
            tracing::warn!(group = %settings.group, topic = %settings.topic,
                "the group has given no partition for {} s, and shows no other member. The likely reasons: its name is \
                that of a share group, or of a group whose members use another `group.protocol`; or the broker does not \
                offer the group protocol of the configuration. Choose another group with --consumer_group_id, or take \
                `group.protocol` out of section `[consumer]`", PATIENCE.as_secs());
        }
    }
}
