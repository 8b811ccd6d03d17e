//! Folders in which files have been appearing. A scan of a large tree takes long, and between two scans is a long pause:
//! these folders are looked at every few seconds meanwhile, and so are new folders beside and in them.
//!
//! Nothing depends on it: each scan looks at everything. A pure state machine: the caller brings the time, as the span
//! since a moment of its choice.

use std::collections::BTreeSet;
use std::time::Duration;

use super::scan::split;

/// Folders that are looked at.
pub(super) const MOST_FOLDERS: usize = 32;

/// How long a folder counts as busy after a file of it was sent.
const BUSY_FOR: Duration = Duration::from_secs(600);

/// Time between two looks at them.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

/// The looks take at most this part of the time.
const LOOK_SHARE: u32 = 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Busy {
    /// The busiest last.
    folders: Vec<Row>,
    next: Duration,
}

#[derive(Debug)]
struct Row {
    folder: String,
    /// When a file of it was sent last; `None` before the first scan, where that was in an earlier run.
    sent: Option<Duration>,
}

impl Busy {
    /// These are looked at until everything was scanned once.
    pub(super) fn begin_with(&mut self, folders: Vec<String>) {
        self.folders = folders.into_iter().rev().map(|folder| Row { folder, sent: None }).collect();
    }

    /// Takes down that a file is sent.
    pub(super) fn sent(&mut self, path: &str, now: Duration) {
        let (folder, _) = split(path);
        match self.folders.iter().position(|row| row.folder == folder) {
            Some(at) => self.folders[at..].rotate_left(1),
            None => {
                if self.folders.len() >= MOST_FOLDERS {
                    self.folders.remove(0);
                }
                self.folders.push(Row { folder: folder.to_owned(), sent: None });
            }
        }
        if let Some(row) = self.folders.last_mut() {
            row.sent = Some(now);
        }
    }

    /// Everything was scanned.
    pub(super) fn scanned(&mut self) {
        self.folders.retain(|row| row.sent.is_some());
    }

    /// The folders that are to be looked at now, those above them included.
    pub(super) fn due(&mut self, now: Duration) -> BTreeSet<String> {
        if now < self.next {
            return BTreeSet::new();
        }
        self.folders.retain(|row| row.sent.is_none_or(|sent| now.saturating_sub(sent) <= BUSY_FOR));
        self.next = now + BETWEEN_LOOKS;
        self.folders.iter().flat_map(|row| [split(&row.folder).0.to_owned(), row.folder.clone()]).collect()
    }

    /// A look took so long.
    pub(super) fn looked(&mut self, span: Duration) {
        self.next += span * LOOK_SHARE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn due(busy: &mut Busy, now: Duration) -> Vec<String> {
        busy.due(now).into_iter().collect()
    }

    #[test]
    fn folders_of_files_that_were_sent_lately_are_looked_at_with_those_above_them() {
        let mut busy = Busy::default();
        assert!(due(&mut busy, s(0)).is_empty());
        busy.sent("a/b/c.csv", s(0));
        busy.sent("top.csv", s(300));
        assert!(due(&mut busy, s(1)).is_empty(), "not so soon after the last look");
        assert_eq!(due(&mut busy, s(300)), ["", "a", "a/b"]);
        busy.looked(s(1));
        assert!(due(&mut busy, s(311)).is_empty(), "a long look is followed by a long pause");
        assert_eq!(due(&mut busy, s(601)), [""]);
        assert!(due(&mut busy, s(901)).is_empty());
    }

    #[test]
    fn of_many_folders_those_of_the_newest_files_are_looked_at() {
        let mut busy = Busy::default();
        busy.sent("first/a", s(0));
        for folder in 0..MOST_FOLDERS {
            busy.sent(&format!("{folder}/a"), s(0));
            busy.sent("first/b", s(0));
        }
        let due = due(&mut busy, s(0));
        assert_eq!(due.len(), 1 + MOST_FOLDERS);
        assert!(due.contains(&"first".to_owned()) && !due.contains(&"0".to_owned()));
    }

    #[test]
    fn folders_of_an_earlier_run_are_looked_at_until_everything_was_scanned() {
        let mut busy = Busy::default();
        busy.begin_with(vec!["new".into(), "old".into()]);
        busy.sent("new/a", s(0));
        assert_eq!(due(&mut busy, s(0)), ["", "new", "old"]);
        busy.scanned();
        assert_eq!(due(&mut busy, s(2)), ["", "new"]);
    }
}
