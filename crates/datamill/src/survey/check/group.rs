//! A group, and the topic that holds its state.

use std::sync::Arc;

use datamill_broker::{Error, ErrorKind, Examined, Log, Member, Operation, Permission, Topic};

use super::{Finding, Findings, named};
use crate::engine::Reached;
use crate::report::text::counted;
use crate::survey::group::{other_topics, programs_run};
use crate::survey::positions;
use crate::survey::readers::readers;

impl Findings<'_> {
    pub(super) fn group(&mut self, log: &Arc<dyn Log>, group: &str, topic: Option<&Topic>, examined: &Examined) {
        let what = format!("group `{group}`");
        let looked = match topic {
            Some(topic) => self.on_topic(log.as_ref(), &what, group, topic),
            None => self.on_any_topic(log.as_ref(), &what, group),
        };
        match looked {
            // what lacks is named below
            Err(error) if error.is_denied() => {}
            Err(error) => self.all.push(Finding::failed(what.clone(), &error)),
            Ok(()) => {}
        }
        let read = Permission::on_group(Operation::Read, group);
        let of = format!("{what}: permissions");
        match &examined.group {
            Some(operations) if !operations.contains(&Operation::Read) => {
                let command = self.command(read);
                self.mend(of, format!("the account lacks the permission `Read`: `{command}`"));
            }
            Some(_) => self.ok(of, "the account may read as the group"),
            None if examined.state_topic.is_some() => {
                let command = self.command(read);
                self.note(
                    of,
                    format!("the broker tells them once the group is there; `{command}` gives what a program needs"),
                );
            }
            None => {}
        }
        let Some(state) = &examined.state_topic else { return };
        self.state_topic(log, state, examined);
        self.note(
            "transactional ids",
            format!(
                "whether the account may use them can only be told by a start: `{}`",
                self.command(Permission::on_transactions(group, ""))
            ),
        );
    }

    fn on_topic(&mut self, log: &dyn Log, what: &str, group: &str, topic: &Topic) -> Result<(), Error> {
        let name = &topic.name;
        let reached = match Reached::read(log, topic, group, &mut |_, _| {}) {
            // the topic of the state is looked at below
            Err(error) if error.is_denied() => Reached::positions(log, topic, group)?,
            reached => reached?,
        };
        let offsets = (0..topic.partitions).filter_map(|p| Some((p, log.offsets(name, p).ok()?)));
        let troubles = positions::troubles(name, &reached, &offsets.collect::<Vec<_>>());
        let runs = programs_run(reached.members.len(), reached.killed_listed_for) + &members(&reached.members);
        if reached.has_begun() {
            let begun = (0..topic.partitions).filter(|partition| reached.position(*partition).is_some()).count();
            self.ok(what, format!("has a position in {begun} of {}; {runs}", parts(topic)));
        } else {
            let is_new = troubles.is_empty() && reached.members.is_empty();
            let elsewhere = if is_new { other_topics(log, name, group) } else { Vec::new() };
            let others = match is_new {
                true if elsewhere.is_empty() => format!(". {}", readers(log, name)?),
                true => format!(". It has some on {}: check --topic_name", named(&elsewhere)),
                false => String::new(),
            };
            self.note(what, format!("has no position on topic `{name}` yet; {runs}{others}"));
        }
        troubles.into_iter().for_each(|(_, text)| self.mend(format!("{what}: position"), text));
        Ok(())
    }

    /// Without a topic: whatever the group has read.
    fn on_any_topic(&mut self, log: &dyn Log, what: &str, group: &str) -> Result<(), Error> {
        let topics: Vec<String> = log.topics()?.into_iter().map(|topic| topic.name).collect();
        let found = log.group(group, &topics.iter().map(String::as_str).collect::<Vec<_>>())?;
        let runs = programs_run(found.members.len(), found.killed_listed_for) + &members(&found.members);
        let mut read: Vec<&str> = found.committed.keys().map(|(topic, _)| topic.as_str()).collect();
        read.dedup();
        match read.as_slice() {
            [] => self
                .note(what, format!("has a position on no topic that can be seen; {runs}. --topic_name looks at one")),
            topics => self.ok(what, format!("has positions on {}; {runs}. --topic_name looks at one", named(topics))),
        }
        Ok(())
    }

    /// The topic that holds the failed files of the group.
    fn state_topic(&mut self, log: &Arc<dyn Log>, name: &str, examined: &Examined) {
        let what = format!("topic `{name}`");
        let details = log.topic(name).and_then(|topic| Ok((topic, log.examine(&[name], None)?)));
        let (topic, details) = match details {
            Ok(details) => details,
            Err(error) if error.kind() == ErrorKind::UnknownTopic => return self.no_state_topic(log, name, examined),
            // it may be there or not
            Err(error) if error.is_denied() => {
                let needed = Permission::on_state(Operation::Read, name);
                let text = format!(
                    "keeps the failed files of the group; whether it is there cannot be seen without {needed}. A program needs more \
                    there, unless it runs with --delivery at-least-once: "
                );
                return self.note(what, text + &format!("`{}` gives it", self.command(needed.of_member())));
            }
            Err(error) => return self.all.push(Finding::failed(what, &error)),
        };
        let Some(details) = details.topics.first() else { return };
        let lacks = details.operations.as_ref().map(|operations| {
            let needed = [Operation::Read, Operation::Write].into_iter();
            needed
                .filter(|needed| !operations.contains(needed))
                .map(|needed| format!("`{needed:?}`"))
                .collect::<Vec<_>>()
        });
        match lacks.filter(|lacks| !lacks.is_empty()) {
            Some(lacks) => self.mend(
                what.clone(),
                format!(
                    "keeps the failed files of the group, and the account lacks the permission {}: `{}`",
                    lacks.join(" and "),
                    self.command(Permission::on_state(Operation::Read, name).of_member())
                ),
            ),
            None => self.ok(what.clone(), "keeps the failed files of the group"),
        }
        match topic.settings {
            None => self.unseen(
                what,
                "whether it is compacted, so that failures are kept,",
                Permission::on_topic(Operation::DescribeConfigs, name),
            ),
            Some(settings) if !settings.compacted && settings.retention_ms.is_some() => {
                self.mend(what, "failures are forgotten with the retention: set `cleanup.policy=compact`");
            }
            Some(_) => {}
        }
    }

    /// The topic that holds the failed files of the group is not there yet.
    fn no_state_topic(&mut self, log: &Arc<dyn Log>, name: &str, examined: &Examined) {
        let what = format!("topic `{name}`");
        let may_create = examined.cluster.as_ref().is_some_and(|operations| operations.contains(&Operation::Create));
        if may_create {
            self.ok(what, "keeps the failed files of the group; the first start makes it");
        } else {
            self.note(what, format!(
                "keeps the failed files of the group; the first start makes it, for which the account needs `Create` on it. Without \
                that, make it: {}",
                log.command(&format!("topic create {name} --partitions 1 --setting cleanup.policy=compact"))
            ));
        }
    }
}

fn parts(topic: &Topic) -> String {
    counted(u64::from(topic.partitions.unsigned_abs()), "partition")
}

/// The members of a group by their names, where they have any.
fn members(members: &[Member]) -> String {
    if members.is_empty() {
        return String::new();
    }
    let of = |member: &Member| {
        let name = member.instance.as_ref().unwrap_or(&member.client_id);
        format!("`{name}` on {}", member.host)
    };
    format!("; members: {}", members.iter().map(of).collect::<Vec<_>>().join(", "))
}
