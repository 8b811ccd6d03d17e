//! A walk through a folder and all that is in it, in steps of a bounded number of entries: who walks can do other things
//! in between.
//!
//! ```text
//! folders that wait ──▶ the open one ──▶ entries ──▶ files: left out, as they were known, or found
//!        ▲                                 │
//!        └───────────── folders ◀──────────┘
//! ```
//!
//! Every file is looked at in every walk, since the time of a folder tells nothing: network shares hold it back, and a
//! file that is written to changes it nowhere. Files come in the order of the file system.

use std::fs::{self, DirEntry, ReadDir};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{Found, Place, Scanner};
use crate::upload::filter::Reason;
use crate::upload::stamp::{Stamp, Trace};

/// Entries that are looked at in one step.
const ENTRIES_OF_A_STEP: usize = 64;

/// Where a walk is.
#[derive(Debug)]
pub(crate) struct Walk {
    from: PathBuf,
    /// Folders that were found and not opened yet.
    waiting: Vec<PathBuf>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    entries: ReadDir,
    path: PathBuf,
    /// Relative path of an entry; those of all begin alike.
    relative: String,
    start: usize,
}

/// Who walks.
pub(crate) trait Walker {
    /// Whether to walk through a folder that was found, by its path relative to the root.
    fn enters(&mut self, relative: &str) -> bool;

    /// Whether nothing is to be said of a file, since it is as it was.
    fn is_settled(&mut self, relative: &str, stamp: Stamp, trace: Option<Trace>) -> bool;

    /// Takes what was found.
    fn take(&mut self, found: Found);
}

impl Walk {
    /// A walk through `from`, which is the root or a folder below it.
    pub(crate) fn new(from: &Path) -> Self {
        Self { from: from.to_owned(), waiting: vec![from.to_owned()], open: None }
    }

    /// Where it began.
    pub(crate) fn from(&self) -> &Path {
        &self.from
    }

    /// Whether it has not begun.
    pub(crate) fn is_new(&self) -> bool {
        self.open.is_none() && self.waiting == [self.from.as_path()]
    }

    /// Whether no folder is held open.
    pub(crate) fn is_between_folders(&self) -> bool {
        self.open.is_none()
    }
}

impl Scanner {
    /// Goes on with a walk. Answers whether there is more.
    ///
    /// # Errors
    /// Where the folder that it began with cannot be read; all else that cannot be read goes to `walker`.
    pub(crate) fn step(&self, walk: &mut Walk, walker: &mut dyn Walker) -> io::Result<bool> {
        for _ in 0..ENTRIES_OF_A_STEP {
            let Some(open) = &mut walk.open else {
                let Some(folder) = walk.waiting.pop() else {
                    return Ok(false);
                };
                walk.open = match self.open(folder, walker) {
                    Ok(open) => open,
                    Err((folder, error)) => self.not_read(&folder, &walk.from, error, walker).map(|()| None)?,
                };
                continue;
            };
            match open.entries.next() {
                None => walk.open = None,
                Some(Ok(entry)) => self.take_entry(&entry, open, &mut walk.waiting, walker),
                Some(Err(error)) => {
                    let path = std::mem::take(&mut open.path);
                    walk.open = None;
                    self.not_read(&path, &walk.from, error, walker)?;
                }
            }
        }
        Ok(true)
    }

    fn open(&self, path: PathBuf, walker: &mut dyn Walker) -> Result<Option<Open>, (PathBuf, io::Error)> {
        if path != self.root
            && let Some(found) = self.folder(&path)
        {
            walker.take(found);
            return Ok(None);
        }
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) => return Err((path, error)),
        };
        // `Scanner::folder` has refused one without
        let mut relative = self.relative(&path).unwrap_or_default();
        if !relative.is_empty() && !relative.ends_with('/') {
            relative.push('/');
        }
        let start = relative.len();
        Ok(Some(Open { entries, path, relative, start }))
    }

    fn take_entry(&self, entry: &DirEntry, open: &mut Open, waiting: &mut Vec<PathBuf>, walker: &mut dyn Walker) {
        let name = entry.file_name();
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => return walker.take(Found::unreadable(self.readable(&open.path.join(name)), &error)),
        };
        let Some(text) = name.to_str() else {
            let end = if kind.is_dir() { "/" } else { "" };
            let path = self.readable(&open.path.join(name)) + end;
            return walker.take(Found::left_out(path, Reason::NotUtf8));
        };
        open.relative.truncate(open.start);
        open.relative.push_str(text);
        if kind.is_dir() {
            if walker.enters(&open.relative) {
                waiting.push(open.path.join(name));
            }
            return;
        }
        let place = Place { folder: &open.path, name: &name, relative: &open.relative };
        let metadata = || entry.metadata();
        let is_settled = &mut |relative: &str, stamp, trace| walker.is_settled(relative, stamp, trace);
        if let Some(found) = self.entry(&place, kind.is_symlink(), metadata, is_settled) {
            walker.take(found);
        }
    }

    /// A folder that is gone has nothing in it.
    fn not_read(&self, path: &Path, from: &Path, error: io::Error, walker: &mut dyn Walker) -> io::Result<()> {
        if path == from {
            return Err(error);
        }
        if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
            walker.take(Found::unreadable(self.readable(path) + "/", &error));
        }
        Ok(())
    }

    /// Walks through everything below `from` at once, which is the root or a folder below it. Stops where `sink` says
    /// no.
    ///
    /// # Errors
    /// As [`Scanner::step`].
    pub(crate) fn walk(&self, from: &Path, sink: &mut dyn FnMut(Found) -> bool) -> io::Result<()> {
        let mut walk = Walk::new(from);
        let mut all = All { sink, goes_on: true };
        while self.step(&mut walk, &mut all)? && all.goes_on {}
        Ok(())
    }
}

/// Who wants to know of everything.
struct All<'a> {
    sink: &'a mut dyn FnMut(Found) -> bool,
    goes_on: bool,
}

impl Walker for All<'_> {
    fn enters(&mut self, _: &str) -> bool {
        true
    }

    fn is_settled(&mut self, _: &str, _: Stamp, _: Option<Trace>) -> bool {
        false
    }

    fn take(&mut self, found: Found) {
        self.goes_on = self.goes_on && (self.sink)(found);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use datamill_broker::OwnFiles;

    use super::*;
    use crate::upload::filter::Filter;
    use crate::upload::prefix::PathPrefix;

    /// Wants files, those aside that end with `0`, and enters all folders but `closed`.
    #[derive(Default)]
    struct Wants {
        found: Vec<String>,
    }

    impl Walker for Wants {
        fn enters(&mut self, relative: &str) -> bool {
            relative != "a/closed"
        }

        fn is_settled(&mut self, relative: &str, stamp: Stamp, _: Option<Trace>) -> bool {
            assert_eq!(stamp.size, 1);
            relative.ends_with('0')
        }

        fn take(&mut self, found: Found) {
            self.found.push(found.path().to_owned());
        }
    }

    #[test]
    fn a_walk_in_steps_finds_each_file_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut expected = BTreeSet::new();
        for folder in ["a/b", "a/closed", "c", "a/b/d/e"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
            for file in 0..150 {
                fs::write(dir.path().join(folder).join(file.to_string()), "1").unwrap();
                if folder != "a/closed" && file % 10 != 0 {
                    expected.insert(format!("{folder}/{file}"));
                }
            }
        }
        let scanner =
            Scanner::new(dir.path(), PathPrefix::default(), Filter::default_rules(), OwnFiles::default()).unwrap();
        let mut walk = Walk::new(scanner.root());
        assert!(walk.is_new());
        let (mut wants, mut steps) = (Wants::default(), 0);
        while scanner.step(&mut walk, &mut wants).unwrap() {
            assert!(!walk.is_new());
            steps += 1;
        }
        assert!(steps >= 450 / ENTRIES_OF_A_STEP, "{steps}");
        assert_eq!(wants.found.len(), expected.len());
        assert_eq!(wants.found.into_iter().collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn a_folder_that_vanishes_on_the_way_has_nothing_in_it_and_one_that_was_named_is_missed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let scanner =
            Scanner::new(dir.path(), PathPrefix::default(), Filter::default_rules(), OwnFiles::default()).unwrap();
        let mut walk = Walk::new(scanner.root());
        walk.waiting.push(scanner.root().join("gone"));
        let mut wants = Wants::default();
        while scanner.step(&mut walk, &mut wants).unwrap() {}
        assert!(wants.found.is_empty());
        assert!(scanner.step(&mut Walk::new(&scanner.root().join("gone")), &mut wants).is_err());
    }
}
