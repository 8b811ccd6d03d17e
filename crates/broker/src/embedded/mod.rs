//! The embedded log: topics in one SQLite file, for programs on one machine.
//!
//! ```text
//!   Publisher ─▶ writing thread ─┐                                      ┌─▶ Reader
//!                                ├─▶ one transaction ─▶ file (WAL) ─────┤
//!   Committer ───────────────────┘   (append, epoch)    + group locks   └─▶ Subscription
//! ```
//! Each part has a connection of its own to the file, and so has each process. What was acknowledged
//! was committed with `synchronous=FULL`: it survives the end of the process and a loss of power. A
//! group has one owner at a time, see `subscription`. `schema` describes the file.

mod append;
mod clock;
mod committer;
mod feed;
mod file;
mod groups;
mod headers;
mod location;
mod lock;
mod publisher;
mod reader;
mod schema;
mod subscription;
#[cfg(test)]
mod tests;
mod topics;

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

pub use append::LARGEST_RECORD;

use self::file::LogFile;
use crate::contract::{
    Log, NewTopic, Offsets, Publisher, Reader, Session, StateChange, StateMark, SubscribeOptions, Topic, TopicNow,
};
use crate::error::Result;
use crate::examined::{Examined, Group, Readers};
use crate::own_files::OwnFiles;

/// The files of the log that `sqlite:PATH` names, whether it is there or not.
pub(crate) fn files_of(path: &str) -> Result<OwnFiles> {
    Ok(OwnFiles::of_databases([&*location::resolve(path)?]))
}

/// The files of all logs that are open in this process.
pub(crate) fn open_files() -> OwnFiles {
    let open = file::open_files();
    OwnFiles::of_databases(open.iter().map(|file| &*file.path))
}

/// A log in one file.
pub(crate) struct EmbeddedLog {
    file: Arc<LogFile>,
    /// For what is looked up and created.
    connection: Mutex<Connection>,
}

impl EmbeddedLog {
    /// Opens the file, or makes it; its folder must be there.
    ///
    /// Fails with `Settings` on a path where there can be no log (no file, no folder, a network file
    /// system), `Corrupt` on a file that is no log of this version, `Denied` and `NoSpace` as they say.
    pub(crate) fn open(path: &str, options: &str) -> Result<Self> {
        let (file, connection) = LogFile::open(path, options)?;
        Ok(Self { file, connection: Mutex::new(connection) })
    }
}

impl Log for EmbeddedLog {
    fn name(&self) -> &str {
        &self.file.name
    }

    fn id(&self) -> Result<String> {
        Ok(self.file.id.clone())
    }

    fn own_files(&self) -> OwnFiles {
        open_files()
    }

    fn create_topic(&self, topic: &NewTopic) -> Result<()> {
        topics::create(&self.file, &mut self.connection.lock(), topic)
    }

    fn options(&self) -> &str {
        &self.file.options
    }

    fn delete_topic(&self, name: &str) -> Result<()> {
        topics::delete(&self.file, &mut self.connection.lock(), name)
    }

    fn topics(&self) -> Result<Vec<Topic>> {
        topics::all(&self.connection.lock()).map_err(|error| self.file.failed("read", error))
    }

    fn topic(&self, name: &str) -> Result<Topic> {
        topics::check_name(name)?;
        let connection = self.connection.lock();
        let found = topics::find(&connection, name).map_err(|error| self.file.failed("read", error))?;
        found.ok_or_else(|| topics::unknown(&self.file, &connection, name, false))
    }

    fn makes_topics(&self) -> bool {
        true
    }

    fn topic_now(&self, name: &str) -> Result<TopicNow> {
        self.topic(name).map(|topic| TopicNow { id: topic.id, partitions: topic.partitions })
    }

    fn topic_for_use(&self, name: &str) -> Result<Topic> {
        topics::for_use(&self.file, &mut self.connection.lock(), name)
    }

    fn offsets(&self, topic: &str, partition: i32) -> Result<Offsets> {
        topics::offsets(&self.file, &self.connection.lock(), topic, partition)
    }

    fn publisher(&self) -> Result<Box<dyn Publisher>> {
        Ok(Box::new(publisher::EmbeddedPublisher::start(self.file.clone())?))
    }

    fn reader(&self, topic: &str, starts: &[(i32, i64)]) -> Result<Box<dyn Reader>> {
        Ok(Box::new(reader::EmbeddedReader::open(&self.file, topic, starts)?))
    }

    fn subscribe(&self, options: &SubscribeOptions) -> Result<Session> {
        subscription::subscribe(&self.file, options)
    }

    fn group(&self, group: &str, topics: &[&str]) -> Result<Group> {
        groups::look(&self.file, &self.connection.lock(), group, topics)
    }

    fn examine(&self, _: &[&str], _: Option<&str>) -> Result<Examined> {
        // one file, one account: there is nothing that could be set wrong
        Ok(Default::default())
    }

    fn groups_of(&self, topic: &str) -> Result<Readers> {
        let groups =
            groups::of_topic(&self.connection.lock(), topic).map_err(|error| self.file.failed("read", error))?;
        Ok(Readers { groups, are_all: true })
    }

    fn read_group_state(
        &self,
        group: &str,
        since: StateMark,
        sink: &mut dyn FnMut(&str, Option<&[u8]>),
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<StateMark>> {
        // a connection of its own: nobody waits for the end of a long state
        let connection = self.file.connect()?;
        groups::read_state(&connection, group, since, sink, stop).map_err(|error| self.file.failed("read", error))
    }

    fn change_group_state(&self, group: &str, changes: &[StateChange]) -> Result<()> {
        let mut connection = self.connection.lock();
        let number = groups::number_for_use(&self.file, &mut connection, group)?;
        self.file.in_one_step(&mut connection, "change the state of a group in", |tx| {
            groups::change_state(tx, number, changes)
        })
    }
}
