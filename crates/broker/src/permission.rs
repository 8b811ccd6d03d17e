//! What an account may be missing, in the words of Kafka's access control lists, and the command that gives it.

use std::borrow::Cow;
use std::fmt;

use crate::examined::Operation;

/// An operation on a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    operation: Operation,
    resource: Resource,
    /// Name of the account that lacks it, where that is known.
    account: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Resource {
    Topics(Vec<String>),
    /// The topic that keeps the state of a group, and whether the command gives all three operations that a member uses.
    State(String, bool),
    Group(String),
    Cluster,
    /// An id, and what all ids of the group begin with.
    TransactionalId(String, String),
}

impl Permission {
    fn new(operation: Operation, resource: Resource) -> Self {
        Self { operation, resource, account: None }
    }

    /// The same for an account of this name, where it is known.
    #[must_use]
    pub fn of_account(self, account: Option<&str>) -> Self {
        Self { account: account.map(str::to_owned), ..self }
    }

    /// On a topic.
    pub fn on_topic(operation: Operation, name: &str) -> Self {
        Self::on_topics(operation, [name])
    }

    /// On each of these topics.
    pub fn on_topics(operation: Operation, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(operation, Resource::Topics(names.into_iter().map(Into::into).collect()))
    }

    /// On the topic that keeps the state of a group.
    pub fn on_state(operation: Operation, topic: &str) -> Self {
        Self::new(operation, Resource::State(topic.to_owned(), false))
    }

    /// On a group.
    pub fn on_group(operation: Operation, name: &str) -> Self {
        Self::new(operation, Resource::Group(name.to_owned()))
    }

    /// On the cluster as a whole.
    pub fn on_cluster(operation: Operation) -> Self {
        Self::new(operation, Resource::Cluster)
    }

    /// On the transactional id of a member of a group.
    pub fn on_transactions(group: &str, instance: &str) -> Self {
        let prefix = format!("datamill-{group}-");
        Self::new(Operation::Write, Resource::TransactionalId(format!("{prefix}{instance}"), prefix))
    }

    /// The permission of someone who asks about a topic to do this with it: it includes `Describe`.
    pub(crate) fn for_use(self, operation: Operation) -> Self {
        match (&self.resource, self.operation) {
            (Resource::Topics(_), Operation::Describe | Operation::Read) => Self { operation, ..self },
            _ => self,
        }
    }

    /// The same for a member of the group, which uses the topic of its state in three ways, and reads as the group, which
    /// includes `Describe`: so that one command is enough.
    #[must_use]
    pub fn of_member(self) -> Self {
        match self.resource {
            Resource::State(topic, _) => Self { resource: Resource::State(topic, true), ..self },
            Resource::Group(_) if self.operation == Operation::Describe => Self { operation: Operation::Read, ..self },
            _ => self,
        }
    }

    pub(crate) fn operation(&self) -> Operation {
        self.operation
    }

    /// The command that gives it to an account.
    pub fn command(&self) -> String {
        let mut words = match &self.resource {
            Resource::State(_, true) => "--operation Read --operation Write --operation Create".to_owned(),
            _ => format!("--operation {:?}", self.operation),
        };
        let mut add = |option: &str, name: &str| {
            words.push_str(&format!(" {option} {}", shell_word(name)));
        };
        match &self.resource {
            Resource::Topics(names) => names.iter().for_each(|name| add("--topic", name)),
            Resource::State(name, _) => add("--topic", name),
            Resource::Group(name) => add("--group", name),
            Resource::Cluster => words.push_str(" --cluster"),
            Resource::TransactionalId(_, prefix) => {
                add("--transactional-id", prefix);
                add("--resource-pattern-type", "prefixed");
            }
        }
        let principal = format!("User:{}", self.account.as_deref().unwrap_or("ACCOUNT"));
        format!("kafka-acls.sh … --add --allow-principal {} {words}", shell_word(&principal))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the `{:?}` permission on ", self.operation)?;
        match &self.resource {
            Resource::Topics(names) => {
                let noun = if names.len() == 1 { "topic" } else { "topics" };
                write!(f, "{noun} `{}`", names.join("`, `"))
            }
            Resource::State(name, _) => write!(f, "topic `{name}`"),
            Resource::Group(name) => write!(f, "group `{name}`"),
            Resource::Cluster => f.write_str("the cluster"),
            Resource::TransactionalId(id, _) => write!(f, "transactional id `{id}`"),
        }
    }
}

/// A word of a command as a shell takes it: in quotation marks where it needs them.
pub fn shell_word(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./:@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_named_as_the_command_gives_it() {
        let begins = "kafka-acls.sh … --add --allow-principal User:ACCOUNT";
        let write = Permission::on_topic(Operation::Write, "files");
        assert_eq!(write.to_string(), "the `Write` permission on topic `files`");
        assert_eq!(write.command(), format!("{begins} --operation Write --topic files"));
        let group = Permission::on_group(Operation::Read, "a b");
        assert_eq!(group.command(), format!("{begins} --operation Read --group 'a b'"));
        let id = Permission::on_transactions("xrd", "one");
        assert_eq!(id.to_string(), "the `Write` permission on transactional id `datamill-xrd-one`");
        let words = "--operation Write --transactional-id datamill-xrd- --resource-pattern-type prefixed";
        assert_eq!(id.command(), format!("{begins} {words}"));
        let state = Permission::on_state(Operation::Read, "s");
        assert_eq!(state.to_string(), "the `Read` permission on topic `s`");
        assert_eq!(state.command(), format!("{begins} --operation Read --topic s"));
        let all = "--operation Read --operation Write --operation Create --topic s";
        assert_eq!(state.of_member().command(), format!("{begins} {all}"));
        let cluster = Permission::on_cluster(Operation::DescribeConfigs);
        assert_eq!(cluster.to_string(), "the `DescribeConfigs` permission on the cluster");
        assert_eq!(cluster.command(), format!("{begins} --operation DescribeConfigs --cluster"));
    }

    #[test]
    fn an_account_that_is_known_is_named_in_the_command() {
        let of = |account| Permission::on_topic(Operation::Read, "t").of_account(account).command();
        assert!(of(Some("lab")).contains(" --allow-principal User:lab --operation Read "), "{}", of(Some("lab")));
        assert!(of(Some("two words")).contains(" --allow-principal 'User:two words' "), "{}", of(Some("two words")));
        assert!(of(None).contains(" --allow-principal User:ACCOUNT "), "{}", of(None));
    }

    #[test]
    fn who_does_more_than_look_needs_what_includes_looking() {
        let to = |operation| Permission::on_topic(operation, "t");
        assert_eq!(to(Operation::Describe).for_use(Operation::Write), to(Operation::Write));
        assert_eq!(to(Operation::Create).for_use(Operation::Write), to(Operation::Create));
        let group = Permission::on_group(Operation::Describe, "g");
        assert_eq!(group.clone().for_use(Operation::Read), group);
        assert_eq!(group.of_member(), Permission::on_group(Operation::Read, "g"));
    }
}
