//! Which of the topics that have had a name the engine reads.
//!
//! A topic that was deleted and created again has another id, and what a group knows of the old one means nothing in
//! it. What is committed says of which topic it is: positions by the tag in their texts ([`crate::progress`]), marks,
//! starts and failed files by the id itself. What was written before groups knew ids, or while the log told none, is
//! taken to be of the topic in which the group committed its first position with a tag: the group's state has its id, for
//! each partition.

use std::sync::Arc;

use datamill_broker::{StateChange, TopicIdentity};

use super::state::key::Key;
use crate::progress::{TopicTag, is_foreign};

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) name: Arc<str>,
    /// `None` where the log does not tell it.
    pub(super) id: Option<Arc<str>>,
    pub(super) tag: Option<TopicTag>,
}

impl Source {
    pub(super) fn new(name: &str, id: Option<&str>) -> Self {
        Self { name: name.into(), id: id.map(Arc::from), tag: id.map(TopicTag::of) }
    }

    /// What a member has to hold the log to.
    pub(super) fn identity(&self) -> TopicIdentity {
        let ids = self.id.iter().map(|id| (self.name.to_string(), id.to_string())).collect();
        TopicIdentity { ids, is_foreign }
    }

    /// Whether the text beside a position is of another topic of this name.
    pub(super) fn is_foreign(&self, text: &str) -> bool {
        self.id.as_ref().is_some_and(|id| is_foreign(text, id))
    }

    /// Whether something that is of the topic with this id is of this topic. What has no id is of the topic that the
    /// group has `adopted`.
    pub(super) fn is_same(&self, id: Option<&str>, adopted: Option<&str>) -> bool {
        match (id.or(adopted), self.id.as_deref()) {
            (Some(of), Some(ours)) => of == ours,
            _ => true,
        }
    }

    pub(super) fn adopted_key(&self, partition: i32) -> String {
        Key::Adopted { partition }.of(&self.name)
    }

    /// Goes with the first position of a partition that gets a tag: what the group's state holds without an id is of
    /// this topic.
    pub(super) fn adopt(&self, partition: i32) -> Option<StateChange> {
        let value = self.id.as_ref()?.as_bytes().to_vec();
        Some(StateChange { key: self.adopted_key(partition), value: Some(value) })
    }

    /// The partition that a key of the group's state is about, whose value is the id of what has none. `None` for other
    /// keys.
    pub(super) fn adopted_partition(&self, key: &str) -> Option<i32> {
        match Key::parse(&self.name, key)? {
            Key::Adopted { partition } => Some(partition),
            _ => None,
        }
    }
}
