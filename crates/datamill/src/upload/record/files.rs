//! The files that a record knows, packed: a watch keeps each of them as long as it runs.
//!
//! ```text
//! path ── folder ─▶ number of the folder ─┐
//!      └─ name ───────────────────────────┴─▶ index ─▶ number of the file ─▶ blocks of entries
//! ```
//! The path of a folder is there once, however many files it has. Entries are never removed, so that a number stays that
//! of its file, and blocks never move, so that no copy of everything is in memory while they grow.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::Known;
use crate::upload::scan::split;
use crate::upload::stamp::{Stamp, Trace};

/// Entries of a block.
const BLOCK: usize = 4096;

/// What an entry holds.
const KNOWN: u8 = 1;
const MTIME: u8 = 2;
const SHA512: u8 = 4;
const TRACE: u8 = 8;

/// Number of a file.
pub(super) type FileNumber = u32;

#[derive(Debug)]
struct Entry {
    name: Box<str>,
    size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
    inode: u64,
    sha512: [u8; 64],
    folder: u32,
    holds: u8,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Files {
    hashes: RandomState,
    folders: Vec<Box<str>>,
    folders_by_path: HashTable<u32>,
    /// The folder that was asked for last: a scan asks for all files of one.
    last_folder: Cell<u32>,
    blocks: Vec<Vec<Entry>>,
    by_path: HashTable<FileNumber>,
    /// The versions that may be half in the topic: of few files at a time.
    sending: HashMap<FileNumber, Box<[u8; 64]>>,
}

impl Files {
    /// How many files there are, those included of which nothing is known any more.
    pub(super) fn len(&self) -> usize {
        self.by_path.len()
    }

    /// Their numbers, in the order in which they came.
    pub(super) fn numbers(&self) -> impl DoubleEndedIterator<Item = FileNumber> + use<> {
        0..self.by_path.len() as FileNumber
    }

    /// The number of a file.
    pub(super) fn find(&self, path: &str) -> Option<FileNumber> {
        let (folder, name) = split(path);
        let folder = self.folder(folder)?;
        let hash = self.hashes.hash_one((folder, name));
        self.by_path.find(hash, |number| self.is(*number, folder, name)).copied()
    }

    /// The number of a file, which gets one if it has none.
    pub(super) fn find_or_add(&mut self, path: &str) -> FileNumber {
        if let Some(number) = self.find(path) {
            return number;
        }
        let (folder, name) = split(path);
        let folder = self.find_or_add_folder(folder);
        let number = self.by_path.len() as FileNumber;
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let entry =
            Entry { name: name.into(), size: 0, mtime_ns: 0, ctime_ns: 0, inode: 0, sha512: [0; 64], folder, holds: 0 };
        if let Some(block) = self.blocks.last_mut() {
            block.push(entry);
        }
        let Self { hashes, blocks, by_path, .. } = self;
        by_path.insert_unique(hashes.hash_one((folder, name)), number, |number| {
            let entry = entry_of(blocks, *number);
            hashes.hash_one((entry.folder, &*entry.name))
        });
        number
    }

    /// Whether files are known in this folder or below it.
    pub(super) fn has_folder(&self, path: &str) -> bool {
        self.folder(path).is_some()
    }

    /// The path of a file.
    pub(super) fn path(&self, number: FileNumber) -> String {
        let entry = self.entry(number);
        match &*self.folders[entry.folder as usize] {
            "" => entry.name.to_string(),
            folder => format!("{folder}/{}", entry.name),
        }
    }

    /// The folder of a file.
    pub(super) fn folder_of(&self, number: FileNumber) -> &str {
        &self.folders[self.entry(number).folder as usize]
    }

    /// What is known of a file.
    pub(super) fn known(&self, number: FileNumber) -> Option<Known> {
        let entry = self.entry(number);
        let has = |what: u8| entry.holds & what != 0;
        has(KNOWN).then(|| Known {
            stamp: Stamp { size: entry.size, mtime_ns: has(MTIME).then_some(entry.mtime_ns) },
            sha512: has(SHA512).then_some(entry.sha512),
            trace: has(TRACE).then_some(Trace { ctime_ns: entry.ctime_ns, inode: entry.inode }),
        })
    }

    /// Takes down what is known of a file.
    pub(super) fn know(&mut self, number: FileNumber, known: Option<Known>) {
        let entry = &mut self.blocks[number as usize / BLOCK][number as usize % BLOCK];
        entry.holds = 0;
        let Some(Known { stamp, sha512, trace }) = known else {
            return;
        };
        entry.holds = KNOWN;
        entry.size = stamp.size;
        if let Some(mtime_ns) = stamp.mtime_ns {
            (entry.holds, entry.mtime_ns) = (entry.holds | MTIME, mtime_ns);
        }
        if let Some(sha512) = sha512 {
            (entry.holds, entry.sha512) = (entry.holds | SHA512, sha512);
        }
        if let Some(trace) = trace {
            entry.holds |= TRACE;
            (entry.ctime_ns, entry.inode) = (trace.ctime_ns, trace.inode);
        }
    }

    /// The version that may be half in the topic.
    pub(super) fn sending(&self, number: FileNumber) -> Option<&[u8; 64]> {
        self.sending.get(&number).map(|hash| &**hash)
    }

    /// Takes that down.
    pub(super) fn send(&mut self, number: FileNumber, hash: Option<[u8; 64]>) {
        match hash {
            Some(hash) => drop(self.sending.insert(number, Box::new(hash))),
            None => drop(self.sending.remove(&number)),
        }
    }

    fn folder(&self, path: &str) -> Option<u32> {
        let is_it = |number: &u32| self.folders.get(*number as usize).is_some_and(|folder| **folder == *path);
        if is_it(&self.last_folder.get()) {
            return Some(self.last_folder.get());
        }
        let number = self.folders_by_path.find(self.hashes.hash_one(path), is_it).copied()?;
        self.last_folder.set(number);
        Some(number)
    }

    /// With the folders above it.
    fn find_or_add_folder(&mut self, path: &str) -> u32 {
        if let Some(number) = self.folder(path) {
            return number;
        }
        if !path.is_empty() {
            self.find_or_add_folder(split(path).0);
        }
        let number = self.folders.len() as u32;
        self.folders.push(path.into());
        let Self { hashes, folders, folders_by_path, .. } = self;
        let hash = |number: &u32| hashes.hash_one(&*folders[*number as usize]);
        folders_by_path.insert_unique(hashes.hash_one(path), number, hash);
        number
    }

    fn is(&self, number: FileNumber, folder: u32, name: &str) -> bool {
        let entry = self.entry(number);
        entry.folder == folder && *entry.name == *name
    }

    fn entry(&self, number: FileNumber) -> &Entry {
        entry_of(&self.blocks, number)
    }
}

fn entry_of(blocks: &[Vec<Entry>], number: FileNumber) -> &Entry {
    &blocks[number as usize / BLOCK][number as usize % BLOCK]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_one_number_and_keeps_what_is_known_of_it() {
        let mut files = Files::default();
        let paths: Vec<String> =
            (0..3 * BLOCK).map(|file| format!("a/{}/{}", file % 7, file / 7)).chain(["b".to_owned()]).collect();
        let known = |file: usize| Known {
            stamp: Stamp { size: file as u64, mtime_ns: file.is_multiple_of(2).then_some(-(file as i64)) },
            sha512: file.is_multiple_of(3).then_some([file as u8; 64]),
            trace: file.is_multiple_of(5).then_some(Trace { ctime_ns: file as i64, inode: 7 }),
        };
        for (file, path) in paths.iter().enumerate() {
            let number = files.find_or_add(path);
            assert_eq!(files.known(number), None);
            files.know(number, Some(known(file)));
            assert_eq!(files.find_or_add(path), number);
        }
        assert_eq!(files.len(), paths.len());
        for (file, (path, number)) in paths.iter().zip(files.numbers()).enumerate() {
            assert_eq!(files.find(path), Some(number));
            assert_eq!(files.path(number), *path);
            assert_eq!(files.known(number), Some(known(file)));
            assert_eq!(files.folder_of(number), split(path).0);
        }
        for (path, is_there) in [("", true), ("a", true), ("a/6", true), ("a/7", false), ("b", false)] {
            assert_eq!(files.has_folder(path), is_there, "{path}");
        }
        assert_eq!(files.find("a/0"), None);
        let number = files.find_or_add("b");
        files.know(number, Some(known(1)));
        assert_eq!(files.known(number), Some(known(1)), "nothing of what was known before is left");
        files.know(number, None);
        assert_eq!(files.known(number), None);
    }

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 120, "{}", size_of::<Entry>());
    }
}
