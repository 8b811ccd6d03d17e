//! Which partitions are this process's: what is looked up when one is assigned, what ends when one is revoked, and
//! what is told while a topic that spreads files over partitions is owned in part.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use datamill_broker::Assigned;

use super::Reader;
use super::tell::names;
use crate::engine::EngineError;
use crate::engine::session::{Actions, End, Input, Taken};
use crate::engine::start::{Mark, Marks, Start};
use crate::engine::tails::Begun;
use crate::facts::Fact;
use crate::progress::{decode, is_tagged, key_of_elsewhere};
use crate::report::clock;

/// Within this time the members of a group settle who reads a spread topic, without a word of warning.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);

/// What the group's state says about partitions that are assigned.
struct LookedUp {
    /// Marks, where a partition has no position.
    marks: Marks,
    /// The texts that do not fit beside an offset, by key.
    elsewhere: BTreeMap<String, Vec<u8>>,
}

impl LookedUp {
    /// The text of a progress. A name without a text there is refused by the decoder.
    fn whole_text(&self, text: &str) -> String {
        let whole = key_of_elsewhere(text).and_then(|key| self.elsewhere.get(key));
        whole.map_or_else(|| text.to_owned(), |whole| String::from_utf8_lossy(whole).into_owned())
    }
}

fn is_plain(assigned: &Assigned) -> bool {
    assigned.committed.as_ref().is_some_and(|committed| committed.text.is_empty())
}

impl Reader<'_> {
    /// Partitions were assigned.
    pub(super) fn assigned(&mut self, all: &[Assigned]) -> Actions {
        let taken = match self.take_over(all) {
            Ok(taken) => taken,
            Err(error) => {
                self.failed.get_or_insert(error);
                return Actions::new();
            }
        };
        let read_again =
            taken.iter().map(|taken| u64::try_from(taken.restored.frontier - taken.start).unwrap_or(0)).sum();
        if !self.stop.has_begun() {
            taken.iter().for_each(|taken| self.threads.retries.assign(taken.partition));
        }
        let actions = self.session.on(Input::Assigned(taken));
        self.engine.say_started();
        self.engine.listeners.facts.tell(&Fact::Assigned { read_again });
        let partitions = names(all.iter().map(|a| a.partition));
        tracing::info!(topic = %self.engine.topic(), partitions, read_again, "partitions assigned");
        actions
    }

    /// Looks up where the reading of each partition goes on. None where the program is asked to stop meanwhile.
    fn take_over(&self, all: &[Assigned]) -> Result<Vec<Taken>, EngineError> {
        let engine = self.engine;
        let (settings, source) = (engine.settings, &engine.commit.source);
        if let Some(from_log) = &engine.from_log
            && !from_log.take(all, &|| engine.control.stopping().is_some())?
        {
            return Ok(Vec::new());
        }
        let Some(found) = self.look_up(all)? else { return Ok(Vec::new()) };
        let is_first = engine.history.sessions.get() == 1 && !self.session.has_committed() && !self.only_retries();
        self.tell_unknown(all, is_first);
        if let Some(in_hand) = &engine.in_hand {
            in_hand.assign(all.iter().map(|assigned| assigned.partition));
        }
        let (log, group, marks) = (engine.log.as_ref(), settings.group.as_str(), &found.marks);
        let start = Start { log, source, group, asked: settings.start_from, marks };
        let take = |assigned: &Assigned| {
            let committed = assigned.committed.as_ref().map(|c| (c.offset, found.whole_text(&c.text)));
            let decoded = committed.as_ref().map(|(offset, text)| decode(*offset, text));
            let known = decoded.as_ref().and_then(|c| c.as_ref().ok()).filter(|_| !is_plain(assigned)).cloned();
            let restored = start.progress(assigned, decoded)?;
            let goes_on = known.as_ref() == Some(&restored);
            if goes_on && is_first {
                engine.listeners.tally.goes_on();
            }
            let begins = !goes_on && restored.frontier > 0;
            let begun = begins.then(|| Begun { offset: restored.frontier, time_ms: clock::now_ms() });
            let adopts = match &committed {
                Some((_, text)) => !is_tagged(text),
                None => found.marks.get(&assigned.partition) == Some(&Mark::Untold),
            };
            engine.state.settle(source, assigned.partition, &restored)?;
            let (partition, assignment, start) = (assigned.partition, assigned.assignment, assigned.start);
            tracing::debug!(topic = %source.name, partition, offset = start, frontier = restored.frontier, "assigned");
            Ok(Taken { partition, assignment, start, restored, committed, begun, adopts })
        };
        all.iter().map(take).collect()
    }

    /// What the group's state says. It may hold very many failed files as well, and the program may be asked to stop
    /// meanwhile: `None` then.
    fn look_up(&self, all: &[Assigned]) -> Result<Option<LookedUp>, EngineError> {
        let (state, source, control) = (self.engine.state, &self.engine.commit.source, self.engine.control);
        let named: Vec<&str> = all.iter().filter_map(|a| key_of_elsewhere(&a.committed.as_ref()?.text)).collect();
        let new = all.iter().any(|assigned| assigned.committed.is_none());
        let marks = if new { state.marks(source, control)? } else { Some(Marks::new()) };
        let is_named = |key: &str| named.contains(&key);
        let elsewhere = if named.is_empty() { Some(BTreeMap::new()) } else { state.load(is_named, control)? };
        Ok(marks.zip(elsewhere).map(|(marks, elsewhere)| LookedUp { marks, elsewhere }))
    }

    /// Tells of positions that say less than they could.
    fn tell_unknown(&self, all: &[Assigned], is_first: bool) {
        let (engine, group) = (self.engine, &self.engine.settings.group);
        let topic = engine.topic();
        let plain = all.iter().filter(|a| is_plain(a)).map(|a| a.partition);
        if plain.clone().next().is_some() {
            tracing::warn!(topic = %topic, group, partitions = names(plain),
                "positions that another program committed are taken as they are: files that it had read only in part are \
                left out; --take_over at the first start, with the output folder of OpenMSIStream's program, does them");
        }
        // at the first assignment: later ones have partitions that were another member's
        let committed = all.iter().filter(|a| a.committed.is_some() && !is_plain(a)).map(|a| a.partition);
        let unknown: Vec<i32> =
            committed.filter(|p| engine.state.knows_nothing_of(&engine.commit.source, *p)).collect();
        if is_first && !unknown.is_empty() {
            tracing::warn!(topic = %topic, group, partitions = names(unknown.into_iter()), output_dir = %engine.output.path().display(),
                "the group has positions, and the output folder has nothing of its state: failed files of earlier runs that \
                are kept elsewhere, in another output folder or in the log, are not tried again here");
        }
    }

    /// Partitions were revoked.
    pub(super) fn revoked(&mut self, partitions: &[i32], lost: bool) -> Actions {
        self.engine.listeners.facts.tell(&Fact::Revoked);
        let names = names(partitions.iter().copied());
        tracing::info!(topic = %self.engine.topic(), partitions = names, lost, "partitions revoked");
        if let Some(in_hand) = &self.engine.in_hand {
            in_hand.revoke(partitions);
        }
        let tried = self.threads.retries.revoke(partitions).into_iter().collect();
        self.session.on(Input::Revoked { partitions, lost, tried })
    }

    /// Tells what to do while other members of the group own partitions of a spread topic, where they do not settle it
    /// among themselves. A run that ends at the end of the topic would not end: it ends with an error.
    pub(super) fn watch_ownership(&mut self) -> Option<End> {
        if !self.session.is_divided() {
            return None;
        }
        let (topic, settings) = (self.engine.topic(), self.engine.settings);
        let command = || self.engine.log.command(&format!("rekey {topic} NEW"));
        if self.session.ends().is_some() {
            let (topic, group) = (topic.clone(), settings.group.clone());
            return Some(End::Failed(EngineError::Spread { command: command(), topic, group }));
        }
        let settles = !self.sight.is_denied && self.session.divided_for(Instant::now()) < SETTLED_WITHIN;
        let every = Duration::from_secs(settings.update_seconds.clamp(10, 300));
        if !settles && self.told.is_to_warn(every) {
            tracing::warn!(topic = %topic, group = %settings.group,
                owned = self.session.owned().len(), partitions = self.session.partitions(),
                "the topic spreads the chunks of one file over its partitions, and other members of the group own some \
                of them: holding, nothing is lost. Stop the other members, or copy the topic with {}",
                command());
        }
        None
    }
}
