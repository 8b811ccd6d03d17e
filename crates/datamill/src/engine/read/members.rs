//! Who is in the group, asked on a thread of its own: the answer may take long, and the membership may not wait.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use datamill_broker::{Error, Log, Member};

use crate::engine::EngineSettings;

type Answer = Result<Vec<Member>, Error>;

/// One question at a time.
#[derive(Default)]
pub(super) struct Members {
    asked: Option<Receiver<Answer>>,
}

impl Members {
    /// Asks, unless the answer to an earlier question is on its way.
    pub(super) fn ask(&mut self, log: &Arc<dyn Log>, settings: &EngineSettings) {
        if self.asked.is_some() {
            return;
        }
        let (answer, asked) = crossbeam_channel::bounded(1);
        let (log, group) = (Arc::clone(log), settings.group.clone());
        let ask = move || {
            // nobody listens any more after the end of the session
            let _ = answer.send(log.group(&group, &[]).map(|group| group.members));
        };
        let thread = std::thread::Builder::new().name("datamill-members".to_owned()).spawn(ask);
        // without a thread it is asked again the next time
        self.asked = thread.is_ok().then_some(asked);
    }

    /// The answer, once it is there.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        let answer = self.asked.as_ref()?.try_recv().ok()?;
        self.asked = None;
        Some(answer)
    }
}
