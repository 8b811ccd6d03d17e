//! The groups that have read a topic, for someone who may have mistyped the name of one.

use datamill_broker::{Error, Log, Readers};

use super::check::named;

/// The groups that have a position on a topic, as a sentence without its end.
///
/// # Errors
/// Those of the log.
pub fn readers(log: &dyn Log, topic: &str) -> Result<String, Error> {
    let Readers { groups, are_all } = log.groups_of(topic)?;
    let text = match groups.as_slice() {
        [] if are_all => format!("No group has read topic `{topic}` yet"),
        [] => format!("No group that this account sees has read topic `{topic}` yet"),
        [one] => format!("Group `{one}` has read topic `{topic}`"),
        many => format!("Groups that have read topic `{topic}`: {}", named(many)),
    };
    let hidden = "; there may be others, on which the account lacks the `Describe` permission";
    Ok(if are_all { text } else { text + hidden })
}
