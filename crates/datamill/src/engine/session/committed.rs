//! What is committed of the partitions that are owned, as far as this session knows, and what a commit makes of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use datamill_broker::{Position, StateChange};

use crate::engine::source::Source;
use crate::engine::start;
use crate::engine::state::key;
use crate::progress::elsewhere;

/// The progress of a partition that is to be committed.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) partition: i32,
    pub(super) assignment: u64,
    pub(super) offset: i64,
    pub(super) text: String,
}

/// See the module.
#[derive(Default)]
pub(super) struct Committed {
    /// Position and whole text committed last, by partition.
    at: HashMap<i32, (i64, String)>,
    /// Partitions of which the group's state may hold something without the topic's id.
    adopting: HashSet<i32>,
    /// Partitions with a position that this session has committed.
    marked: HashSet<i32>,
}

impl Committed {
    pub(super) fn assign(&mut self, partition: i32, at: Option<(i64, String)>, adopts: bool) {
        if adopts {
            self.adopting.insert(partition);
        }
        if let Some(at) = at {
            self.at.insert(partition, at);
        }
    }

    pub(super) fn revoke(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.adopting.remove(partition);
            self.at.remove(partition);
        }
    }

    /// Whether the move changes what is committed.
    pub(super) fn differs(&self, to: &Move) -> bool {
        self.at.get(&to.partition).is_none_or(|(offset, text)| (*offset, text) != (to.offset, &to.text))
    }

    /// The moves are durable.
    pub(super) fn moved(&mut self, moves: Vec<Move>, owned: &BTreeMap<i32, u64>) {
        for to in moves {
            self.marked.insert(to.partition);
            if owned.get(&to.partition) == Some(&to.assignment) {
                self.at.insert(to.partition, (to.offset, to.text));
            }
        }
    }

    /// The position of a move. What it takes along goes into `state`: the first one of a session a mark; and a text that
    /// does not fit beside an offset goes there, and from there once it fits.
    pub(super) fn position(&self, source: &Source, to: &Move, state: &mut Vec<StateChange>) -> Position {
        if !self.marked.contains(&to.partition) {
            state.push(start::mark(source, to.partition));
            state.extend(source.adopt(to.partition).filter(|_| self.adopting.contains(&to.partition)));
        }
        let overflows = |text: &str| text.len() > datamill_broker::MAX_PROGRESS_TEXT;
        let key_of = |text: &str| key::of_progress(&source.name, to.partition, text);
        let before = self.at.get(&to.partition).map(|(_, text)| text).filter(|text| overflows(text));
        let before = before.map(|text| key_of(text));
        let mut text = to.text.clone();
        if overflows(&text) {
            if before.is_none() {
                tracing::debug!(topic = %source.name, partition = to.partition,
                    "the progress of the unfinished files does not fit beside the position; the group's state has it");
            }
            let key = key_of(&text);
            text = elsewhere(&key, source.tag.as_ref());
            state.push(StateChange { key, value: Some(to.text.clone().into_bytes()) });
        }
        if let Some(key) = before.filter(|key| text != elsewhere(key, source.tag.as_ref())) {
            state.push(StateChange { key, value: None });
        }
        let topic = Arc::clone(&source.name);
        Position { topic, partition: to.partition, assignment: to.assignment, offset: to.offset, text }
    }
}
