//! Whose results a topic has, where several groups or several topics are in question.

use super::counted;
use crate::engine::Reached;
use crate::survey::check::named;

/// Of the groups that have results of the files in this topic, with how many: `None` for results that name no group.
pub(super) fn of_topic(
    results: &str,
    group: Option<&(&str, Reached)>,
    groups: &[(Option<String>, u64)],
) -> Vec<String> {
    let has = |groups: &[(&str, u64)]| {
        let has = |(group, number): &(&str, u64)| format!("`{group}` ({})", counted(*number, "result"));
        groups.iter().map(has).collect::<Vec<_>>().join(", ")
    };
    let named: Vec<(&str, u64)> =
        groups.iter().filter_map(|(group, number)| Some((group.as_deref()?, *number))).collect();
    let Some((group, reached)) = group else {
        return match named.as_slice() {
            [] | [_] => Vec::new(),
            several => vec![format!(
                "topic `{results}` has results of {} groups: {}. --consumer_group_id compares the results of one",
                several.len(),
                has(several)
            )],
        };
    };
    let others: Vec<(&str, u64)> = named.into_iter().filter(|(other, _)| other != group).collect();
    let mut said = Vec::new();
    if !others.is_empty() {
        let noun = if others.len() == 1 { "another group" } else { "other groups" };
        said.push(format!("topic `{results}` has results of {noun} too, which do not count here: {}", has(&others)));
    }
    let topics = reached.result_topics();
    let elsewhere: Vec<&str> = topics.iter().copied().filter(|topic| *topic != results).collect();
    match (topics.contains(&results), elsewhere.is_empty()) {
        (true, false) => said.push(format!(
            "group `{group}` sends results to other topics too: {}. --results compares one topic",
            self::named(&elsewhere)
        )),
        (false, false) => {
            let noun = if elsewhere.len() == 1 { "topic" } else { "topics" };
            said.push(format!(
                "group `{group}` has its results in {noun} {}, and not in topic `{results}`: check --results",
                self::named(&elsewhere)
            ));
        }
        (_, true) => {}
    }
    said
}

/// Where a group has its results, if that is in several topics and none was asked about.
pub(super) fn of_group(group: &str, reached: &Reached) -> Vec<String> {
    match reached.result_topics().as_slice() {
        [] | [_] => Vec::new(),
        several => vec![format!(
            "group `{group}` has results in {} topics: {}. --results compares one topic",
            several.len(),
            named(several)
        )],
    }
}
