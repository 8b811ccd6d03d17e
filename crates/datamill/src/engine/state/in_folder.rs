//! The state of a group as a file in the output folder, which one process at a time has open.
//!
//! ```text
//! .datamill/state-{16 hex digits of the SHA-512 of the log's id, a zero byte and the group's name}.jsonl
//!     line   = check " " json "\n"
//!     check  = first 8 hex digits of the SHA-512 of json
//!     json   = {"log":ID,"group":G}      first line, for people
//!            | {"key":K,"value":V}       the last line about a key counts
//!            | {"key":K}                 the key is removed
//! ```
//!
//! Lines are appended and are on the disk when a change returns. A line that a crash cut off is dropped when the
//! file is opened: nothing that follows from it has happened. The file is written anew (aside, then renamed)
//! where it holds more dead lines than live ones.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use datamill_broker::StateChange;
use datamill_wire::{hex, sha512};
use serde::{Deserialize, Serialize};

/// Dead lines that are left in the file at any rate.
const MAY_BE_DEAD: usize = 1_000;

/// See the module.
#[derive(Debug)]
pub(in crate::engine) struct FolderState {
    path: PathBuf,
    header: Line,
    file: File,
    map: BTreeMap<String, Vec<u8>>,
    lines: usize,
    /// The end of the file is not known to be that of a line.
    torn: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Header {
        log: String,
        group: String,
    },
    Change {
        key: String,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        value: Option<String>,
    },
}

impl FolderState {
    /// Opens or makes the file of this log and group.
    pub(super) fn open(folder: &Path, log_id: &str, group: &str) -> io::Result<Self> {
        let name = hex(&sha512(format!("{log_id}\0{group}").as_bytes())[..8]);
        let path = folder.join(format!("state-{name}.jsonl"));
        let mut map = BTreeMap::new();
        let mut damaged = 0;
        match File::open(&path) {
            Ok(file) => damaged = load(file, &mut map)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if damaged > 0 {
            let kept = path.with_extension("damaged");
            fs::copy(&path, &kept)?;
            tracing::error!(file = %kept.display(), group, lines = damaged,
                "the group's state in the output folder is damaged: the failed files of these lines are forgotten");
        }
        let header = Line::Header { log: log_id.to_owned(), group: group.to_owned() };
        let file = write_anew(&path, &header, &map)?;
        Ok(Self { path, header, file, lines: map.len(), map, torn: false })
    }

    pub(super) fn map(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.map
    }

    /// Changes the map; all of it is on the disk when this returns. After an error it may be there or not, and
    /// the map is as before.
    pub(super) fn change<'c>(&mut self, changes: impl IntoIterator<Item = &'c StateChange>) -> io::Result<()> {
        let is_new = |change: &&StateChange| self.map.get(&change.key) != change.value.as_ref();
        let changes: Vec<&StateChange> = changes.into_iter().filter(is_new).collect();
        if changes.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for change in &changes {
            push_line(&mut text, &line(&change.key, change.value.as_deref())?);
        }
        if self.torn {
            self.file = write_anew(&self.path, &self.header, &self.map)?;
            self.lines = self.map.len();
        }
        self.torn = true;
        self.file.write_all(&text)?;
        self.file.sync_data()?;
        self.torn = false;
        self.lines += changes.len();
        for change in changes {
            match &change.value {
                Some(value) => drop(self.map.insert(change.key.clone(), value.clone())),
                None => drop(self.map.remove(&change.key)),
            }
        }
        if self.lines > 2 * self.map.len() + MAY_BE_DEAD {
            self.file = write_anew(&self.path, &self.header, &self.map)?;
            self.lines = self.map.len();
        }
        Ok(())
    }
}

#[cfg(test)]
impl FolderState {
    /// From now on the file cannot be written to, as where the disk is full.
    pub(super) fn lose_the_file(&mut self) {
        self.file = File::open(&self.path).unwrap();
    }
}

/// Applies the lines of a file. Answers how many are damaged, besides a last one that was cut off.
fn load(file: File, map: &mut BTreeMap<String, Vec<u8>>) -> io::Result<usize> {
    let mut reader = BufReader::new(file);
    let mut bytes = Vec::new();
    let mut damaged = 0;
    loop {
        bytes.clear();
        reader.read_until(b'\n', &mut bytes)?;
        let Some(text) = bytes.strip_suffix(b"\n") else { return Ok(damaged) };
        match parse(text) {
            Some(Line::Change { key, value: Some(value) }) => drop(map.insert(key, value.into_bytes())),
            Some(Line::Change { key, value: None }) => drop(map.remove(&key)),
            Some(Line::Header { .. }) => {}
            None => damaged += 1,
        }
    }
}

fn parse(text: &[u8]) -> Option<Line> {
    let (check, json) = text.split_at_checked(9)?;
    let same = check[..8] == *check_of(json).as_bytes() && check[8] == b' ';
    if same { serde_json::from_slice(json).ok() } else { None }
}

fn check_of(json: &[u8]) -> String {
    hex(&sha512(json)[..4])
}

fn line(key: &str, value: Option<&[u8]>) -> io::Result<Line> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
    let value = value.map(text).transpose().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Line::Change { key: key.to_owned(), value })
}

fn push_line(text: &mut Vec<u8>, line: &Line) {
    // Strings always become JSON.
    let json = serde_json::to_string(line).unwrap_or_default();
    text.extend_from_slice(check_of(json.as_bytes()).as_bytes());
    text.push(b' ');
    text.extend_from_slice(json.as_bytes());
    text.push(b'\n');
}

/// Writes the file from the map, and opens it for what follows.
fn write_anew(path: &Path, header: &Line, map: &BTreeMap<String, Vec<u8>>) -> io::Result<File> {
    let aside = path.with_extension("aside");
    let mut file = BufWriter::new(File::create(&aside)?);
    let mut text = Vec::new();
    push_line(&mut text, header);
    for (key, value) in map {
        push_line(&mut text, &line(key, Some(value))?);
        file.write_all(&text)?;
        text.clear();
    }
    file.write_all(&text)?;
    file.into_inner()?.sync_all()?;
    fs::rename(&aside, path)?;
    if cfg!(unix)
        && let Some(folder) = path.parent()
    {
        File::open(folder)?.sync_all()?;
    }
    OpenOptions::new().append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: &str) -> StateChange {
        StateChange { key: key.to_owned(), value: Some(value.as_bytes().to_vec()) }
    }

    fn gone(key: &str) -> StateChange {
        StateChange { key: key.to_owned(), value: None }
    }

    fn open(folder: &Path) -> FolderState {
        FolderState::open(folder, "log", "g").unwrap()
    }

    fn keys(state: &FolderState) -> Vec<&str> {
        state.map().keys().map(String::as_str).collect()
    }

    fn path(folder: &Path) -> PathBuf {
        open(folder).path
    }

    #[test]
    fn what_was_changed_is_there_after_opening_again_and_each_group_and_log_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = open(folder.path());
        state.change(&[set("a", "1"), set("b\n\"ü", "2"), set("c", "")]).unwrap();
        state.change(&[set("a", "3"), gone("c"), gone("never")]).unwrap();
        drop(state);
        for _ in 0..2 {
            let state = open(folder.path());
            assert_eq!(keys(&state), ["a", "b\n\"ü"]);
            assert_eq!(state.map()["a"], b"3");
        }
        for (log, group) in [("log", "h"), ("other", "g")] {
            assert!(FolderState::open(folder.path(), log, group).unwrap().map().is_empty());
        }
    }

    #[test]
    fn a_change_that_was_cut_off_anywhere_is_dropped_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        open(folder.path()).change(&[set("a", "1")]).unwrap();
        let before = fs::metadata(&path).unwrap().len() as usize;
        let mut state = open(folder.path());
        state.change(&[set("b", "2")]).unwrap();
        drop(state);
        let whole = fs::read(&path).unwrap();
        for length in before..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let mut state = open(folder.path());
            assert_eq!(keys(&state), ["a"]);
            state.change(&[set("c", "3")]).unwrap();
            drop(state);
            assert_eq!(keys(&open(folder.path())), ["a", "c"]);
        }
    }

    #[test]
    fn a_damaged_line_costs_its_own_key_and_is_kept_for_people() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        open(folder.path()).change(&[set("a", "1"), set("b", "2"), set("c", "3")]).unwrap();
        let text = fs::read_to_string(&path).unwrap().replace(r#""key":"b""#, r#""key":"x""#);
        fs::write(&path, &text).unwrap();
        assert_eq!(keys(&open(folder.path())), ["a", "c"]);
        assert_eq!(fs::read_to_string(path.with_extension("damaged")).unwrap(), text);
        assert_eq!(keys(&open(folder.path())), ["a", "c"]);
    }

    #[test]
    fn many_changes_of_few_keys_are_put_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        let mut state = open(folder.path());
        for round in 0..MAY_BE_DEAD + 10 {
            state.change(&[set("a", &round.to_string())]).unwrap();
        }
        assert!(state.lines < 20 && fs::metadata(&path).unwrap().len() < 2_000);
        drop(state);
        assert_eq!(open(folder.path()).map()["a"], (MAY_BE_DEAD + 9).to_string().as_bytes());
    }

    #[test]
    fn after_a_write_that_failed_the_file_is_whole_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        let mut state = open(folder.path());
        state.change(&[set("a", "1")]).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"0123abcd {\"ke").unwrap();
        state.lose_the_file();
        assert!(state.change(&[set("b", "2")]).is_err());
        assert_eq!(keys(&state), ["a"]);
        state.change(&[set("b", "2")]).unwrap();
        drop(state);
        assert_eq!(keys(&open(folder.path())), ["a", "b"]);
        assert!(!path.with_extension("damaged").exists());
    }
}
