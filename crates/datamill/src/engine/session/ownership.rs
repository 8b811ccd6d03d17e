//! Which partitions are this process's, and whether a topic that spreads files over partitions is owned in part.

use std::collections::BTreeMap;

/// See the module.
pub(super) struct Ownership {
    /// Partitions of the topic.
    partitions: i32,
    /// Assignment number of each owned partition.
    owned: BTreeMap<i32, u64>,
    /// The group has said what this process owns, if only nothing.
    is_member: bool,
    /// A file of this topic may have chunks in all partitions.
    is_spread: bool,
    /// A part of the partitions of a spread topic was owned in this session: it commits nothing any more.
    is_torn: bool,
}

impl Ownership {
    /// Nothing is owned. `is_spread` says that files of the topic are known to lie in several partitions.
    pub(super) fn of(partitions: i32, is_spread: bool) -> Self {
        Self { partitions, owned: BTreeMap::new(), is_member: false, is_spread, is_torn: false }
    }

    /// The group has said what this process owns.
    pub(super) fn joins(&mut self) {
        self.is_member = true;
    }

    pub(super) fn assign(&mut self, partition: i32, assignment: u64) {
        self.owned.insert(partition, assignment);
    }

    /// These partitions are owned no longer. Where they are lost, the group goes on without this process until it has
    /// joined again.
    pub(super) fn revoke(&mut self, partitions: &[i32], lost: bool) {
        self.is_member &= !lost;
        self.owned.retain(|partition, _| !partitions.contains(partition));
    }

    /// A file has lost some of its partitions and not others.
    pub(super) fn tears(&mut self) {
        self.is_spread = true;
        self.is_torn = true;
    }

    /// A chunk of a file with several may be one of a file that is spread; `is_kept` says that all chunks of its file
    /// are in one partition, by its headers.
    pub(super) fn hears_of_a_file(&mut self, is_kept: impl FnOnce() -> bool) {
        if self.partitions > 1 && !self.is_spread {
            self.is_spread = !is_kept();
        }
    }

    /// Of a topic that spreads files over partitions, all must be this process's. Until they are, nothing is read or
    /// committed; then a new session begins.
    pub(super) fn watch(&mut self) {
        self.is_torn |= self.is_divided();
    }

    /// Whether other members of the group own partitions of a spread topic.
    pub(super) fn is_divided(&self) -> bool {
        self.is_spread && self.is_member && !self.owns_all()
    }

    pub(super) fn owns_all(&self) -> bool {
        self.owned.len() as i32 >= self.partitions
    }

    /// Whether this process owns the first partition, which one member of a group alone does.
    pub(super) fn owns_first(&self) -> bool {
        self.owned.contains_key(&0)
    }

    pub(super) fn partitions(&self) -> i32 {
        self.partitions
    }

    pub(super) fn owned(&self) -> &BTreeMap<i32, u64> {
        &self.owned
    }

    pub(super) fn is_member(&self) -> bool {
        self.is_member
    }

    pub(super) fn is_spread(&self) -> bool {
        self.is_spread
    }

    pub(super) fn is_torn(&self) -> bool {
        self.is_torn
    }
}
