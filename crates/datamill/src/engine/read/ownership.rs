//! Which partitions are this process's: what begins when one is assigned, what ends when one is revoked, and
//! what holds while a topic that spreads files over partitions is owned in part.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill_broker::Assigned;

use super::Reader;
use crate::assemble::InstanceIds;
use crate::engine::EngineError;
use crate::engine::start::{Mark, Marks, Start};
use crate::engine::tails::Begun;
use crate::progress::{decode, is_tagged, key_of_elsewhere};
use crate::report::clock;

/// Partitions as one text, `none` for none.
pub(super) fn names(partitions: impl Iterator<Item = i32>) -> String {
    let names: Vec<String> = partitions.map(|p| p.to_string()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(",") }
}

impl Reader<'_> {
    /// Answers how many records are read again: those between W and H.
    pub(super) fn assign(&mut self, all: &[Assigned]) -> Result<u64, EngineError> {
        let engine = self.engine;
        let group = &engine.settings.group;
        let (log, topic, source) = (engine.log.as_ref(), &engine.topic, &engine.source);
        // The state may hold very many failed files as well, and the program may be asked to stop meanwhile.
        let named: Vec<&str> = all.iter().filter_map(|a| key_of_elsewhere(&a.committed.as_ref()?.text)).collect();
        let new = all.iter().any(|assigned| assigned.committed.is_none());
        let marks = if new { engine.state.marks(source, engine.control)? } else { Some(Marks::new()) };
        let is_named = |key: &str| named.contains(&key);
        let elsewhere =
            if named.is_empty() { Some(BTreeMap::new()) } else { engine.state.load(is_named, engine.control)? };
        let (Some(marks), Some(elsewhere)) = (marks, elsewhere) else { return Ok(0) };
        // A name without a text there is refused by the decoder.
        let whole_text = |text: &str| {
            let whole = key_of_elsewhere(text).and_then(|key| elsewhere.get(key));
            whole.map_or_else(|| text.to_owned(), |whole| String::from_utf8_lossy(whole).into_owned())
        };
        let start = Start { log, source, group, asked: engine.settings.start_from, marks };
        let mut read_again = 0;
        let is_first = engine.sessions.get() == 1 && !self.committed_once && !self.only_retries();
        let is_plain = |a: &Assigned| a.committed.as_ref().is_some_and(|committed| committed.text.is_empty());
        let plain = all.iter().filter(|a| is_plain(a)).map(|a| a.partition);
        if plain.clone().next().is_some() {
            tracing::warn!(topic = %topic, group, partitions = names(plain),
                "positions that another program committed are taken as they are: files that it had read only in part are \
                left out; --take_over at the first start, with the output folder of OpenMSIStream's program, does them");
        }
        // at the first assignment: later ones have partitions that were another member's
        let committed = all.iter().filter(|a| a.committed.is_some() && !is_plain(a)).map(|a| a.partition);
        let unknown: Vec<i32> = committed.filter(|p| engine.state.knows_nothing_of(source, *p)).collect();
        if is_first && !unknown.is_empty() {
            tracing::warn!(topic = %topic, group, partitions = names(unknown.into_iter()), output_dir = %engine.output.path().display(),
                "the group has positions, and the output folder has nothing of its state: failed files of earlier runs that \
                are kept elsewhere, in another output folder or in the log, are not tried again here");
        }
        if let Some(in_hand) = &engine.in_hand {
            in_hand.assign(all.iter().map(|assigned| assigned.partition));
        }
        for assigned in all {
            let text = assigned.committed.as_ref().map(|committed| (committed.offset, whole_text(&committed.text)));
            let committed = text.as_ref().map(|(offset, text)| decode(*offset, text));
            let known = committed.as_ref().and_then(|c| c.as_ref().ok()).filter(|_| !is_plain(assigned)).cloned();
            let restored = start.progress(assigned, committed)?;
            let goes_on = known.as_ref() == Some(&restored);
            if goes_on && is_first {
                engine.listeners.tally.goes_on();
            }
            if !goes_on && restored.frontier > 0 {
                let begun = Begun { offset: restored.frontier, time_ms: clock::now_ms() };
                self.tails.begin(assigned.partition, begun);
            }
            let is_untold = match &text {
                Some((_, text)) => !is_tagged(text),
                None => start.marks.get(&assigned.partition) == Some(&Mark::Untold),
            };
            if is_untold {
                self.adopting.insert(assigned.partition);
            }
            engine.state.settle(source, assigned.partition, &restored)?;
            read_again += u64::try_from(restored.frontier - assigned.start).unwrap_or(0);
            self.intake.assign(assigned, restored);
            self.owned.insert(assigned.partition, assigned.assignment);
            if self.stop_since.is_none() {
                self.retries.assign(assigned.partition);
            }
            if let Some(committed) = text {
                self.committed.insert(assigned.partition, committed);
            }
        }
        Ok(read_again)
    }

    pub(super) fn revoke(&mut self, partitions: &[(Arc<str>, i32)], lost: bool) {
        let numbers: Vec<i32> = partitions.iter().map(|(_, partition)| *partition).collect();
        for partition in &numbers {
            self.owned.remove(partition);
            self.ends_seen.remove(partition);
            self.adopting.remove(partition);
            self.committed.remove(partition);
        }
        let partitions_text = names(numbers.iter().copied());
        tracing::info!(topic = %self.engine.topic, partitions = partitions_text, lost, "partitions revoked");
        self.late.revoke(&numbers);
        if let Some(in_hand) = &self.engine.in_hand {
            in_hand.revoke(&numbers);
        }
        self.tails.revoke(&numbers);
        self.skew.revoke(&numbers);
        let (gone, torn) = self.intake.assembler.revoke(&numbers);
        let gone: InstanceIds = gone.into_iter().chain(self.retries.revoke(&numbers)).collect();
        self.drop_files(&gone);
        self.intake.rereads.forget(&gone);
        self.expired.retain(|outcome| !gone.contains(&outcome.info.id));
        self.notes.retain(|note| !gone.contains(&note.info.id));
        self.intake.unusable.retain(|record| !numbers.contains(&record.partition));
        self.intake.spread |= torn;
        self.torn |= torn;
    }

    pub(super) fn owns_all(&self) -> bool {
        self.owned.len() as i32 >= self.intake.partitions
    }

    /// Of a topic that spreads files over partitions, all must be this process's. Until they are, nothing
    /// is read or committed; then a new session begins.
    pub(super) fn watch_ownership(&mut self) -> Result<(), EngineError> {
        if !self.intake.spread || !self.is_member || self.owns_all() {
            return Ok(());
        }
        self.torn = true;
        if self.ends.is_some() {
            let (topic, group) = (Arc::clone(&self.engine.topic), self.engine.settings.group.clone());
            return Err(EngineError::Spread { command: self.rekey_command(), topic, group });
        }
        let every = self.engine.settings.update_seconds.clamp(10, 300);
        if self.last_warning.is_none_or(|at| at.elapsed() >= Duration::from_secs(every)) {
            self.last_warning = Some(Instant::now());
            tracing::warn!(topic = %self.engine.topic, group = %self.engine.settings.group,
                owned = self.owned.len(), partitions = self.intake.partitions,
                "the topic spreads the chunks of one file over its partitions, and other members of the group own some \
                of them: holding, nothing is lost. Stop the other members, or copy the topic with {}",
                self.rekey_command());
        }
        Ok(())
    }

    fn rekey_command(&self) -> String {
        self.engine.log.command(&format!("rekey {} NEW", self.engine.topic))
    }
}
