//! `datamill topic`: create, list, describe, delete.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};

use anyhow::bail;
use clap::{Args, Subcommand};
use datamill::broker::{Error, ErrorKind, Log, NewTopic, Offsets, Operation, Permission, Topic};
use datamill::program::Exit;
use datamill::report::logging::say;
use datamill::report::text::{COMPACTED, counted};
use datamill::survey::readers;
use serde_json::{Value, json};

use super::output::{LogArgs, is_confirmed, print, table};

/// Create, list, describe and delete topics
#[derive(Debug, Args)]
pub(crate) struct TopicArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Create(CreateArgs),
    List(ListArgs),
    Describe(DescribeArgs),
    Delete(DeleteArgs),
}

/// Create a topic
#[derive(Debug, Args)]
struct CreateArgs {
    /// Name of the topic
    name: String,
    /// Number of partitions: as many members of a group can share the work
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive, allow_negative_numbers = true)]
    partitions: i32,
    /// Number of copies on different brokers [default: what the cluster says]
    #[arg(long, value_name = "N", value_parser = positive, allow_negative_numbers = true)]
    replication: Option<i32>,
    /// A setting of the topic, such as `retention.ms=604800000`; may be given several times
    #[arg(long = "setting", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    #[command(flatten)]
    log: LogArgs,
    /// Print the topic as JSON
    #[arg(long)]
    json: bool,
}

/// List the topics
///
/// Kafka's own topics, whose names begin with `__`, are left out, and so are those in which datamill keeps the state of
/// consumer groups on Kafka, `datamill.GROUP.state`. `datamill topic describe` shows these too.
#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    log: LogArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Show a topic and the ends of its partitions
///
/// On Kafka, a transaction takes an offset for its end, so a partition has fewer messages than offsets. `datamill read`
/// shows those that are there.
#[derive(Debug, Args)]
struct DescribeArgs {
    /// Name of the topic
    name: String,
    #[command(flatten)]
    log: LogArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Delete a topic with all its messages, for good
///
/// Asks before it does so. Groups have no position in the topic afterwards, also in one that is made under the same
/// name; what they know of its failed files stays in their state. A program that is reading the topic or writing to it
/// stops, or says that the topic is gone. Exit code 2 where nothing was deleted.
#[derive(Debug, Args)]
struct DeleteArgs {
    /// Name of the topic
    name: String,
    /// Delete without a question
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    log: LogArgs,
}

pub(crate) fn run(args: &TopicArgs) -> anyhow::Result<Exit> {
    let text = match &args.action {
        Action::Delete(args) => return delete(args),
        Action::Create(args) => create(args)?,
        Action::List(args) => list(args)?,
        Action::Describe(args) => describe(args)?,
    };
    print(&text, "the topics")?;
    Ok(Exit::Done)
}

fn create(args: &CreateArgs) -> anyhow::Result<String> {
    let log = args.log.open()?;
    log.create_topic(&NewTopic {
        name: args.name.clone(),
        partitions: args.partitions,
        // librdkafka's word for "what the cluster says".
        replication: args.replication.unwrap_or(-1),
        settings: args.settings.iter().cloned().collect::<BTreeMap<_, _>>(),
    })?;
    let (name, count) = (&args.name, partitions(args.partitions));
    say(format_args!("topic `{name}` is there, with {count} in log `{}`", log.name()));
    let is_compacted = |(key, value): &(String, String)| key == "cleanup.policy" && value.contains("compact");
    // the topic of a group's state has to be
    if args.settings.iter().any(is_compacted) && !(name.starts_with("datamill.") && name.ends_with(".state")) {
        say(format_args!("warning: a compacted topic is not for files: {COMPACTED}"));
    }
    if args.json {
        Ok(lines_of(&json_of(&seen(log.as_ref(), &args.name, Operation::Describe)?)))
    } else {
        Ok(String::new())
    }
}

fn list(args: &ListArgs) -> anyhow::Result<String> {
    let log = args.log.open_existing()?;
    let topics = log.topics()?;
    if args.json {
        return Ok(lines_of(&topics.iter().map(json_of).collect()));
    }
    if topics.is_empty() {
        let make = log.command("topic create NAME");
        say(format_args!("there are no topics that can be seen here: {make} makes one"));
        return Ok(String::new());
    }
    let mut rows = vec![["topic", "partitions", "kept", "largest record"].map(str::to_owned).to_vec()];
    rows.extend(
        topics.iter().map(|topic| vec![topic.name.clone(), topic.partitions.to_string(), kept(topic), largest(topic)]),
    );
    Ok(table(&rows))
}

/// The topic, for someone who is about to do this with it.
fn seen(log: &dyn Log, name: &str, operation: Operation) -> Result<Topic, Error> {
    log.topic(name).map_err(|error| error.for_use(operation))
}

fn describe(args: &DescribeArgs) -> anyhow::Result<String> {
    let log = args.log.open_existing()?;
    let topic = seen(log.as_ref(), &args.name, Operation::Describe)?;
    let ends = ends(log.as_ref(), &topic)?;
    if topic.settings.is_none() {
        let needed = Permission::on_topic(Operation::DescribeConfigs, &args.name).of_account(log.account());
        say(format_args!("what it keeps and takes cannot be seen without {needed}: `{}` gives it", needed.command()));
    }
    if args.json {
        let mut value = json_of(&topic);
        value["ends"] = ends
            .iter()
            .enumerate()
            .map(|(partition, ends)| {
                json!({
                    "partition": partition,
                    "first": ends.first,
                    "last_stable": ends.last_stable,
                    "end": ends.end,
                })
            })
            .collect();
        return Ok(lines_of(&value));
    }
    let mut rows = vec![
        vec!["topic".to_owned(), topic.name.clone()],
        vec!["id".to_owned(), topic.id.clone().unwrap_or_else(|| "unknown".to_owned())],
        vec!["partitions".to_owned(), topic.partitions.to_string()],
        vec!["kept".to_owned(), kept(&topic)],
        vec!["largest record".to_owned(), largest(&topic)],
    ];
    let mut text = table(&rows);
    rows = vec![["partition", "first", "last stable", "end", "messages, up to"].map(str::to_owned).to_vec()];
    rows.extend(ends.iter().enumerate().map(|(partition, ends)| {
        let numbers = [ends.first, ends.last_stable, ends.end, ends.end - ends.first];
        std::iter::once(partition.to_string()).chain(numbers.iter().map(i64::to_string)).collect()
    }));
    text.push('\n');
    text.push_str(&table(&rows));
    Ok(text)
}

fn delete(args: &DeleteArgs) -> anyhow::Result<Exit> {
    let (log, name) = (args.log.open_existing()?, args.name.as_str());
    let topic = match seen(log.as_ref(), name, Operation::Delete) {
        Err(error) if error.kind() == ErrorKind::UnknownTopic => bail!("nothing was deleted: {error}"),
        topic => topic?,
    };
    if !args.yes {
        if !io::stdin().is_terminal() {
            bail!("topic `{name}` was not deleted: there is no terminal to ask on, so add --yes");
        }
        let messages: i64 = ends(log.as_ref(), &topic)?.iter().map(|ends| ends.end - ends.first).sum();
        let readers = readers(log.as_ref(), name)?;
        let up_to = if messages > 1 { "up to " } else { "" };
        let messages = format!("{up_to}{}", counted(messages.unsigned_abs(), "message"));
        let log = log.name();
        if !is_confirmed(&format!("topic `{name}` with {messages} will be deleted from `{log}` for good. {readers}."))?
        {
            say("nothing was deleted");
            return Ok(Exit::SetUp);
        }
    }
    log.delete_topic(name)?;
    say(format_args!("topic `{name}` is deleted"));
    Ok(Exit::Done)
}

fn ends(log: &dyn Log, topic: &Topic) -> anyhow::Result<Vec<Offsets>> {
    Ok((0..topic.partitions)
        .map(|partition| log.offsets(&topic.name, partition))
        .collect::<datamill::broker::Result<_>>()?)
}

fn json_of(topic: &Topic) -> Value {
    json!({
        "topic": topic.name,
        "id": topic.id,
        "partitions": topic.partitions,
        "settings_seen": topic.settings.is_some(),
        "largest_record": topic.largest_record(),
        "retention_ms": topic.retention_ms(),
        "compacted": topic.settings.map(|settings| settings.compacted),
    })
}

fn lines_of(value: &Value) -> String {
    format!("{value:#}\n")
}

fn kept(topic: &Topic) -> String {
    const DAY_MS: i64 = 86_400_000;
    let Some(settings) = topic.settings else { return "unknown".to_owned() };
    let mut text = match settings.retention_ms {
        None => "for ever".to_owned(),
        Some(ms) if ms % DAY_MS == 0 => format!("{} d", ms / DAY_MS),
        Some(ms) => format!("{:.1} h", ms as f64 / 3_600_000.0),
    };
    if settings.compacted {
        text.push_str(", the newest of each key");
    }
    text
}

fn largest(topic: &Topic) -> String {
    topic.largest_record().map_or_else(|| "unknown".to_owned(), |bytes| counted(bytes as u64, "byte"))
}

fn partitions(count: i32) -> String {
    counted(count.unsigned_abs().into(), "partition")
}

fn positive(text: &str) -> Result<i32, &'static str> {
    text.parse().ok().filter(|number| *number > 0).ok_or("write a whole number, 1 or more")
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write `KEY=VALUE`, such as `retention.ms=604800000`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_a_key_and_a_value() {
        assert_eq!(setting("retention.ms = 5"), Ok(("retention.ms".into(), "5".into())));
        assert!(setting("retention.ms").is_err());
        assert!(setting("=5").is_err());
    }
}
