//! A folder, its topic, a group, its results and copies, compared path by path.

mod whose;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use datamill_broker::{Log, Operation, Permission, Topic};

use super::copies::Copies;
use super::error::{SurveyError, not_chunks};
use super::failures::Unseen;
use super::pass::{self, Passed};
use super::positions;
use super::problem::ProblemKind;
use super::readers::readers;
use super::results;
use super::row::{Judge, Row, State, key_of_result};
use super::table::{InFolder, Table};
use crate::control::Control;
use crate::engine::Reached;
use crate::report::text::{COMPACTED, bytes, count, counted, shell_word};
use crate::upload::{Filter, Found, PathPrefix, Reason, Scanner};

/// What is compared with what.
#[derive(Debug, Clone)]
pub struct ReconcileSettings {
    /// Folder whose files were uploaded.
    pub folder: PathBuf,
    /// Topic of their chunks.
    pub topic: String,
    /// Which files of the folder count, as in an upload.
    pub filter: Filter,
    /// What their uploads have before the paths: other paths of the topic do not count.
    pub path_prefix: PathPrefix,
    /// Consumer group whose outcomes are asked about.
    pub group: Option<String>,
    /// Topic of its results.
    pub results: Option<String>,
    /// Where copies of the files are.
    pub copies: Option<Copies>,
    /// Hash each file of the folder and each copy in a mirror, whatever sizes and times say.
    pub verify: bool,
}

/// What was found in all. Its display form is a few sentences for people.
#[derive(Debug, Clone, Default)]
pub struct Reconciled {
    /// Files of the folder.
    pub files: u64,
    /// How they stand.
    pub states: BTreeMap<State, u64>,
    /// Paths that are not in the folder, by how they stand but for that; [`State::NotInFolder`] where nothing but a copy, or
    /// the key of a result, is known of them.
    pub elsewhere: BTreeMap<State, u64>,
    /// Files of the folder that are whole on the topic and have no copy, or a wrong one.
    pub without_copy: u64,
    /// Files of the folder that cannot be sent as they are.
    pub refused: u64,
    /// Rows that need a person.
    pub problems: u64,
    /// Live members of the group.
    pub members: Option<usize>,
    /// Messages of the topic, and how many of them are not chunks of files.
    pub passed: Passed,
    /// Bytes of the temporary table.
    pub table_bytes: u64,
    /// The command that sends what is missing.
    send: String,
    /// The command that tries failed files again.
    retry: String,
    has_results: bool,
    /// Why it is not seen which files failed, where it is not.
    unseen_failures: Option<String>,
    group: String,
    topic: String,
    /// Whether the topic keeps only the newest message of each key. `None` where that cannot be seen.
    is_compacted: Option<bool>,
    /// What is wrong with the positions of the group.
    of_group: Vec<String>,
    /// Whose results the topic of results has, and where else the group has some.
    whose_results: Vec<String>,
}

impl Reconciled {
    /// Files of the folder in this state.
    fn of(&self, state: State) -> u64 {
        self.states.get(&state).copied().unwrap_or(0)
    }

    /// The same with the paths that are not in the folder.
    fn anywhere(&self, state: State) -> u64 {
        self.of(state) + self.elsewhere.get(&state).copied().unwrap_or(0)
    }

    /// Files of the folder that are not on the topic as they are in the folder, and can be sent.
    fn missing(&self) -> u64 {
        let missing: u64 =
            [State::Incomplete, State::NeverSent, State::ChangedSince].map(|state| self.of(state)).iter().sum();
        missing - self.refused
    }

    /// Whether every file of the folder is where it should be, nothing needs a person, and all outcomes are seen.
    pub fn is_complete(&self) -> bool {
        let may_stay = self.is_compacted != Some(true) && self.of_group.is_empty() && self.anywhere(State::Passed) == 0;
        may_stay && self.problems == 0 && self.of(State::Result) + self.of(State::Sent) == self.files
    }

    fn add(&mut self, row: &Row) {
        self.problems += u64::from(row.needs_person);
        if row.state == State::NotInFolder {
            *self.elsewhere.entry(row.was.unwrap_or(row.state)).or_default() += 1;
            return;
        }
        self.files += 1;
        self.refused += u64::from(row.is_refused);
        *self.states.entry(row.state).or_default() += 1;
        self.without_copy += u64::from(row.has_copy == Some(false));
    }

    /// How many are in which state, in words.
    fn said(&self, states: &BTreeMap<State, u64>) -> String {
        let words = |state| match state {
            State::Result if self.has_results => ("has a result", "have a result"),
            State::Result => ("is done", "are done"),
            State::Sent => ("is on the topic", "are on the topic"),
            State::InHand if self.members == Some(0) => ("was begun", "were begun"),
            State::InHand => ("is in hand", "are in hand"),
            State::NotReached => ("is not reached", "are not reached"),
            State::Passed => (
                "was passed by the group (whether it failed is not seen here)",
                "were passed by the group (whether they failed is not seen here)",
            ),
            State::NoResult if self.unseen_failures.is_some() => (
                "has no result, or failed (which is not seen here)",
                "have no result, or failed (which is not seen here)",
            ),
            State::NoResult => ("has no result any more", "have no result any more"),
            State::Failed => ("failed", "failed"),
            State::Incomplete => ("is incomplete", "are incomplete"),
            State::NeverSent => ("was never sent", "were never sent"),
            State::ChangedSince => ("has changed since", "have changed since"),
            State::NotInFolder => ("is not on the topic either", "are not on the topic either"),
        };
        let said = states.iter().map(|(state, number)| {
            let (one, many) = words(*state);
            format!("{} {}", count(*number), if *number == 1 { one } else { many })
        });
        said.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Reconciled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", counted(self.files, "file"))?;
        if self.files > 0 {
            write!(f, ": {}", self.said(&self.states))?;
        }
        match self.missing() {
            0 => {}
            1 => write!(f, "; {} sends it", self.send)?,
            _ => write!(f, "; {} sends what is missing", self.send)?,
        }
        match self.refused {
            0 => {}
            1 => write!(f, "\n1 file cannot be sent as it is: its row says why")?,
            refused => write!(f, "\n{} cannot be sent as they are: their rows say why", counted(refused, "file"))?,
        }
        if self.without_copy > 0 {
            write!(f, "\n{} on the topic without the right copy", counted(self.without_copy, "file"))?;
        }
        let elsewhere: u64 = self.elsewhere.values().sum();
        if elsewhere > 0 {
            let verb = if elsewhere == 1 { "is" } else { "are" };
            let said = self.said(&self.elsewhere);
            write!(f, "\n{} more {verb} not in the folder: {said}", counted(elsewhere, "path"))?;
        }
        if self.anywhere(State::Failed) > 0 && !self.retry.is_empty() {
            write!(f, "\n{} shows why files failed", self.retry)?;
        }
        let group = self.unseen_failures.iter().chain(&self.of_group).chain(&self.whose_results);
        group.into_iter().try_for_each(|said| write!(f, "\n{said}"))?;
        if self.anywhere(State::NoResult) > 0 && self.unseen_failures.is_none() {
            f.write_str(
                "\na new group makes results again: start the program with another --consumer_group_id and --start_from \
                earliest",
            )?;
        }
        if self.members == Some(0) && self.anywhere(State::NotReached) + self.anywhere(State::InHand) > 0 {
            write!(f, "\nno program of group `{}` runs: start it", self.group)?;
        }
        if self.passed.others > 0 {
            write!(f, "\n{}", not_chunks(self.passed.others, self.passed.messages))?;
        }
        match self.is_compacted {
            Some(true) => write!(f, "\ntopic `{}` is compacted: {COMPACTED}", self.topic)?,
            None if self.missing() > 0 => {
                let needed = Permission::on_topic(Operation::DescribeConfigs, &self.topic);
                write!(
                    f,
                    "\ntopic `{}` may be compacted and have lost chunks: its settings cannot be seen without {needed}",
                    self.topic
                )?;
            }
            Some(false) | None => {}
        }
        write!(f, "\ntemporary table: {} in `{}`", bytes(self.table_bytes), std::env::temp_dir().display())
    }
}

/// Takes what was found.
pub trait Rows {
    /// Once, before all rows: the characters of the longest path.
    ///
    /// # Errors
    /// What ends the comparison.
    fn begin(&mut self, longest_path: usize) -> io::Result<()>;

    /// One row after another.
    ///
    /// # Errors
    /// What ends the comparison.
    fn row(&mut self, row: &Row) -> io::Result<()>;
}

/// Gives results to files by their keys, where they tell it by nothing else. Answers whether there are such results.
fn claim_keys(table: &Table) -> Result<bool, SurveyError> {
    let has_keyed = table.has_keyed()?;
    if has_keyed {
        table.claim_keys(key_of_result)?;
    }
    Ok(has_keyed)
}

impl Reconciled {
    /// What is asked about, without anything found.
    fn about(log: &dyn Log, settings: &ReconcileSettings, reached: Option<&Reached>) -> Self {
        let ReconcileSettings { folder, topic, path_prefix, .. } = settings;
        let word = shell_word(&folder.to_string_lossy()).into_owned();
        Self {
            members: reached.map(|reached| reached.members.len()),
            send: log.command(&format!("upload --only-missing {word} --topic_name {topic}{}", path_prefix.option())),
            retry: settings.group.as_deref().map_or_else(String::new, |group| {
                let group = shell_word(group);
                log.command(&format!("retry --list --topic_name {topic} --consumer_group_id {group}"))
            }),
            has_results: settings.results.is_some(),
            group: settings.group.clone().unwrap_or_default(),
            topic: topic.clone(),
            ..Self::default()
        }
    }
}

/// Compares, and hands out one row for each path, in the order of the paths.
///
/// # Errors
/// Those of the log, the folder, the copies, the temporary table, and of `rows`.
pub fn reconcile(
    log: &Arc<dyn Log>,
    settings: &ReconcileSettings,
    control: &Control,
    rows: &mut dyn Rows,
) -> Result<Reconciled, SurveyError> {
    let ReconcileSettings { topic, path_prefix, results, copies, verify, .. } = settings;
    let found = log.topic(topic)?;
    let result_topic = results.as_deref().map(|results| log.topic(results)).transpose()?;
    let table = Table::new()?;
    scan(log.as_ref(), settings, &table, control)?;
    let looked = settings.group.as_deref().map(|group| look_at(log.as_ref(), &found, group, &table)).transpose()?;
    let (reached, troubles) = looked.map_or_else(Default::default, |(reached, troubles)| (Some(reached), troubles));
    let group = settings.group.as_deref().zip(reached);
    let passed = pass::uploads(log, &found, Box::new(|_| true), control, &mut |upload| table.add_upload(&upload))?;
    if let Some(results) = &result_topic {
        results::collect(log, results, topic, &table, control)?;
    }
    if let Some(copies) = copies {
        copies.collect(topic, &table)?;
    }
    let has_keyed = claim_keys(&table)?;
    let whose_results = whose(result_topic.as_ref(), group.as_ref(), &table)?;
    rows.begin(table.longest_path()?).map_err(SurveyError::Output)?;
    let is_compacted = found.settings.map(|settings| settings.compacted);
    let mut all = Reconciled {
        passed,
        is_compacted,
        of_group: troubles.into_iter().map(|(_, text)| text).collect(),
        whose_results,
        ..Reconciled::about(log.as_ref(), settings, group.as_ref().map(|(_, reached)| reached))
    };
    let unseen = group.as_ref().and_then(|(_, reached)| Unseen::of(reached));
    let sees_failures = !unseen.as_ref().is_some_and(Unseen::is_of_datamill);
    all.unseen_failures = unseen.zip(group.as_ref()).map(|(unseen, (group, _))| unseen.sentence(group, topic));
    let lost = group.as_ref().zip(result_topic.as_ref()).is_some_and(|((_, reached), of)| reached.has_lost_results(of));
    let judge = Judge {
        table: &table,
        has_lost_results: lost,
        sees_failures,
        may_be_compacted: is_compacted != Some(false),
        group,
        results: results.as_deref(),
        has_keyed,
        copies: copies.as_ref(),
        verify: *verify,
    };
    let mut tell = |row: &Row| {
        all.add(row);
        rows.row(row).map_err(SurveyError::Output)
    };
    table.each_path(&mut |path, known| {
        if control.stopping().is_some() {
            return Err(SurveyError::Stopped);
        }
        if !path_prefix.is_before(path) {
            return Ok(());
        }
        tell(&judge.row(path, known)?)
    })?;
    if has_keyed {
        table.each_unclaimed(&mut |key, place| tell(&judge.unclaimed(key, place)))?;
    }
    all.table_bytes = table.bytes()?;
    Ok(all)
}

/// What is said where results are not all of one program, or of another group than the one that is asked about.
fn whose(results: Option<&Topic>, group: Option<&(&str, Reached)>, table: &Table) -> Result<Vec<String>, SurveyError> {
    Ok(match (results, group) {
        (Some(results), group) => whose::of_topic(&results.name, group, &table.groups_of_results()?),
        (None, Some((group, reached))) => whose::of_group(group, reached),
        (None, None) => Vec::new(),
    })
}

/// What is known of a group, and what is wrong with its positions. Its failures go into the table.
fn look_at(
    log: &dyn Log,
    topic: &Topic,
    group: &str,
    table: &Table,
) -> Result<(Reached, Vec<(ProblemKind, String)>), SurveyError> {
    let mut kept = Ok(());
    let mut take = |key: &str, failure: Option<_>| {
        if kept.is_ok() {
            kept = table.set_failure(key, failure.as_ref());
        }
    };
    let reached = Reached::read(log, topic, group, &mut take)?;
    kept?;
    let offsets = |partition| Ok((partition, log.offsets(&topic.name, partition)?));
    let offsets = (0..topic.partitions).map(offsets).collect::<Result<Vec<_>, SurveyError>>()?;
    let troubles = positions::troubles(&topic.name, &reached, &offsets);
    if !reached.has_begun() && reached.members.is_empty() && troubles.is_empty() {
        let (group, topic, readers) = (group.to_owned(), topic.name.clone(), readers(log, &topic.name)?);
        return Err(SurveyError::Group { group, topic, readers });
    }
    Ok((reached, troubles))
}

/// Puts the files of the folder into the table, as an upload would choose them.
fn scan(log: &dyn Log, settings: &ReconcileSettings, table: &Table, control: &Control) -> Result<(), SurveyError> {
    let ReconcileSettings { folder, path_prefix, filter, .. } = settings;
    let failed = |source| SurveyError::Path { path: folder.to_owned(), source };
    let scanner = Scanner::new(folder, path_prefix.clone(), filter.clone(), log.own_files()).map_err(failed)?;
    let mut ended = Ok(());
    let walked = scanner.walk(scanner.root(), &mut |found| {
        let (path, file) = match found {
            Found::File(file) => {
                let at = file.path.to_string_lossy().into_owned();
                let (size, mtime_ns) = (file.stamp.size, file.stamp.mtime_ns);
                (file.relative, InFolder { at, size, mtime_ns, refused: String::new() })
            }
            Found::LeftOut { path, reason, detail } if reason.is_failure() => {
                let refused = refused(reason, detail);
                (path, InFolder { at: String::new(), size: 0, mtime_ns: None, refused })
            }
            Found::LeftOut { .. } => return true,
        };
        ended = if control.stopping().is_some() { Err(SurveyError::Stopped) } else { table.add_file(&path, &file) };
        ended.is_ok()
    });
    walked.map_err(failed)?;
    ended
}

/// Why something cannot be sent, in words.
pub(super) fn refused(reason: Reason, detail: Option<String>) -> String {
    match (reason, detail) {
        (Reason::NotUtf8, _) => "its name is not UTF-8: rename it".to_owned(),
        (Reason::Name, Some(why)) => format!("{why}: rename it"),
        (reason, detail) => detail.unwrap_or_else(|| reason.of(1).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IN_FOLDER: [State; 10] = [
        State::Result,
        State::Sent,
        State::InHand,
        State::NotReached,
        State::Passed,
        State::NoResult,
        State::Failed,
        State::Incomplete,
        State::NeverSent,
        State::ChangedSince,
    ];

    /// A row in any state, of a file of the folder or of none.
    fn row() -> impl Strategy<Value = Row> {
        let state = proptest::sample::select(&IN_FOLDER[..]);
        let was = proptest::option::of(proptest::sample::select(&IN_FOLDER[..8]));
        let flags = (any::<bool>(), any::<bool>(), proptest::option::of(any::<bool>()));
        (state, was, any::<bool>(), flags).prop_map(|(state, was, is_elsewhere, (flag, needs_person, has_copy))| Row {
            path: String::new(),
            state: if is_elsewhere { State::NotInFolder } else { state },
            was: was.filter(|_| is_elsewhere),
            versions: Vec::new(),
            offsets: String::new(),
            result: None,
            has_copy,
            reason: String::new(),
            needs_person,
            // what cannot be sent was never sent
            is_refused: flag && !is_elsewhere && state == State::NeverSent,
        })
    }

    /// The number before a text.
    fn number(text: &str) -> u64 {
        text.split(' ').next().unwrap().replace(',', "").parse().unwrap()
    }

    proptest! {
        #[test]
        fn the_numbers_of_the_summary_add_up_to_its_rows(
            rows in proptest::collection::vec((row(), 1..2000_usize), 0..12),
            has_results: bool,
            members in proptest::option::of(0..3_usize),
        ) {
            let mut all = Reconciled {
                send: "`send`".to_owned(),
                retry: "`retry`".to_owned(),
                has_results,
                members,
                ..Reconciled::default()
            };
            rows.iter().for_each(|(row, times)| (0..*times).for_each(|_| all.add(row)));
            let text = all.to_string();
            let mut said = 0;
            for line in text.lines().filter(|line| line.contains(": ") && line.starts_with(|c: char| c.is_ascii_digit())) {
                let (head, parts) = line.split_once(": ").unwrap();
                if head.contains("cannot be sent") {
                    continue;
                }
                let parts: u64 = parts.split(';').next().unwrap().split(", ").map(number).sum();
                prop_assert_eq!(parts, number(head), "{}", text);
                said += parts;
            }
            prop_assert_eq!(said, rows.iter().map(|(_, times)| *times as u64).sum::<u64>(), "{}", text);
            let failed = rows.iter().any(|(row, _)| row.state == State::Failed || row.was == Some(State::Failed));
            prop_assert_eq!(text.contains("`retry` shows"), failed, "{}", text);
        }
    }
}
