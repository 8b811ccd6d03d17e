//! Rows of failures that the registry could not take while its file refused to be written: the group's state has the
//! failed files, so the rows are made from it once the file can be written again. What is missing at the end is said.

use datamill_broker::{Error, Log, StateMark};

use super::EngineSettings;
use super::entry::{Entry, Place};
use super::origin::spans_text;
use super::retry::Tried;
use super::state::GroupState;
use crate::ledger::{FailedBefore, FailureKey, Ledger, MissingRows};
use crate::mark::LOGS;
use crate::report::clock;
use crate::report::text::{counted, shell_word};

/// Adds the rows that are missing in the table of failures, if it can be written again. Those of failures of this
/// process: the others are in the tables of other folders.
pub(super) fn catch_up(topic: &str, state: &GroupState<'_>, ledger: &mut Ledger, tried: &Tried) {
    let lost = ledger.take_lost_failures();
    if lost == 0 {
        return;
    }
    match add_missing(topic, state, ledger, tried) {
        Ok(rows) => tracing::info!(
            rows,
            "failures that the table could not take while it could not be written were added to it, with the time of now"
        ),
        Err(error) => {
            tracing::debug!(error = %crate::report::chain(error.as_ref()), "failures cannot be added to the table");
            ledger.owe_failures(lost);
        }
    }
}

fn add_missing(
    topic: &str,
    state: &GroupState<'_>,
    ledger: &mut Ledger,
    tried: &Tried,
) -> Result<u64, Box<dyn std::error::Error>> {
    let mut known = ledger.failures_in_table()?;
    let mut rows = 0;
    let now = clock::now_ms();
    let mut take = |key: &str, value: Option<&[u8]>| {
        let is_ours = Place::of_key(topic, key).is_some_and(|(place, _)| tried.contains(place));
        let Some(entry) = value.filter(|_| is_ours).and_then(|value| Entry::parse(topic, key, value)) else { return };
        let offsets = spans_text(entry.spans());
        if known.insert(FailureKey::of(entry.path(), entry.status(), &offsets)) {
            let (path, sha512) = (entry.path(), &*entry.sha512());
            let (status, reason, offsets) = (entry.status(), entry.reason(), &*offsets);
            ledger.failed_before(now, &FailedBefore { path, sha512, status, reason, offsets });
            rows += 1;
        }
    };
    state.read(StateMark::default(), &mut take, &|| false).map_err(|error: Error| Box::new(error))?;
    ledger.flush();
    Ok(rows)
}

/// The end of a run: adds what is missing, closes the tables, and says what they lack.
pub(super) fn end(
    log: &dyn Log,
    settings: &EngineSettings,
    state: &GroupState<'_>,
    ledger: &mut Ledger,
    tried: &Tried,
) {
    ledger.flush();
    catch_up(&settings.topic, state, ledger, tried);
    tell_missing(log, settings, ledger.close());
}

/// Says which rows the tables lack, and where to look for what they would have said.
fn tell_missing(log: &dyn Log, settings: &EngineSettings, missing: MissingRows) {
    let MissingRows { done, failures } = missing;
    if done + failures == 0 {
        return;
    }
    let (topic, group) = (shell_word(&settings.topic), shell_word(&settings.group));
    let reconcile = log.command(&format!("reconcile DIR --topic_name {topic} --consumer_group_id {group}"));
    tracing::warn!(
        topic = %settings.topic,
        group = %settings.group,
        "the tables in `{}` lack {} of files that are done and {} of failures, since they could not be written. The \
        outcomes are committed: {reconcile} shows what became of each file. A file that failed has its row again after its \
        next try, as at the next start",
        settings.output_dir.join(LOGS).display(),
        counted(done, "row"),
        counted(failures, "row"),
    );
}
