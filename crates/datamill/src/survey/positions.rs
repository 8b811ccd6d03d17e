//! What is wrong with the positions of a group on a topic, each in a sentence with what mends it.

use std::collections::BTreeSet;

use datamill_broker::Offsets;

use super::problem::ProblemKind;
use crate::engine::{Position, Reached};

/// Sentences without their ends. `offsets` are those of the partitions, as far as they are known.
pub(super) fn troubles(topic: &str, reached: &Reached, offsets: &[(i32, Offsets)]) -> Vec<(ProblemKind, String)> {
    let mut said = Vec::new();
    let mut say = |kind, of: &BTreeSet<i32>, text: &dyn Fn(&str) -> String| {
        if !of.is_empty() {
            said.push((kind, text(&partitions(of))));
        }
    };
    let those = |is_so: &dyn Fn(&Position, &Offsets) -> bool| -> BTreeSet<i32> {
        let positions =
            offsets.iter().filter_map(|(partition, ends)| Some((partition, reached.position(*partition)?, ends)));
        positions.filter(|(_, position, ends)| is_so(position, ends)).map(|(partition, ..)| *partition).collect()
    };
    say(ProblemKind::TopicReplaced, &reached.replaced, &|of| {
        format!(
            "topic `{topic}` was deleted and created again since the group committed {of}: start the program once with \
            --start_from earliest, latest or an offset"
        )
    });
    // where nothing beside the position tells its topic, or the topic has lost its end
    let beyond = those(&|position, ends| position.offset() > ends.end);
    say(ProblemKind::TopicReplaced, &beyond, &|of| {
        format!(
            "the position of {of} is beyond the end of topic `{topic}`, which was deleted and created again since, or has \
            lost messages: no program can go on there. Start it with another --consumer_group_id, or set the positions of \
            the group (`kafka-consumer-groups.sh --reset-offsets`)"
        )
    });
    say(ProblemKind::PositionLost, &reached.forgotten, &|of| {
        format!(
            "the log has forgotten the position of {of}: start the program once with --start_from earliest, latest or an \
            offset"
        )
    });
    let unreadable = those(&|position, ends| matches!(position, Position::Unreadable(at) if *at <= ends.end));
    say(ProblemKind::PositionUnreadable, &unreadable, &|of| {
        format!(
            "what stands beside the position of {of} cannot be read, as where another program wrote it: start the program \
            once with --start_from committed, or with another place"
        )
    });
    let removed = those(&|position, ends| position.progress().frontier < ends.first);
    say(ProblemKind::RecordsRemoved, &removed, &|of| {
        format!(
            "records of {of} were removed before the group read them: start the program once with --start_from earliest"
        )
    });
    said
}

fn partitions(partitions: &BTreeSet<i32>) -> String {
    let all: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    format!("partition{} {}", if all.len() == 1 { "" } else { "s" }, all.join(", "))
}
