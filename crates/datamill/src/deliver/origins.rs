//! What is known of the files that a folder was given: one record for each path, in files that all
//! processes that share the folder lock in turn.
//!
//! ```text
//! .datamill/origins/{first digits of the path's hash, hex}   records of 128 bytes, in no order
//!     3f        two digits at first; once it is full, further paths
//!     3fa       go by three, and so on
//!
//!   0  path        16  start of the SHA-512 of the path (in lower case where the file system folds case)
//!  16  exact        8  start of the SHA-512 of the path as it is
//!  24  topic        8  start of the SHA-512 of what identifies log and topic
//!  32  partition    4  i32
//!  36  flags        4  bit 0: `modified` is known
//!  40  offset       8  i64: first chunk of the upload
//!  48  time         8  i64: its time, milliseconds since the epoch
//!  56  size         8  u64: of the file
//!  64  on disk      8  i64: modification time that the file got, nanoseconds since the epoch
//!  72  modified     8  i64: modification time at the source, nanoseconds since the epoch
//!  80  content     32  start of the SHA-512 of the file
//! 112  (zero)       8
//! 120  check        8  start of the SHA-512 of the 120 bytes before
//! ```
//!
//! All numbers are little-endian. A record is written in place or at the end; one whose check is wrong
//! does not count. Records outlive the end of a process, not a power cut: the last seconds before one may
//! be missing, and then the modification times decide. They are not brought to the disk one by one, which would
//! take half as long again for each file: a record that is missing matters only where an older version comes
//! later (one that had failed) and has a later modification time.

use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, SystemTime};

use datamill_broker::FileLock;
use datamill_wire::{hex, sha512};

use super::on_exists::{Place, Stand};
use crate::assemble::DownloadDataFile;

const RECORD: usize = 128;
const CHECKED: usize = 120;
/// Records of one file: it is read as a whole for each path.
const FULL: usize = 512;
/// Digits that the names of the first files have.
const DIGITS: usize = 2;
/// How long another process may hold a lock before it counts as hanging.
const LOCK_LIMIT: Duration = Duration::from_secs(20);
/// Some file systems keep times in steps of two seconds.
const TIME_STEP_NS: u64 = 2_000_000_000;

/// The records of one folder.
#[derive(Debug)]
pub(super) struct Origins {
    folder: PathBuf,
    folds_case: bool,
}

/// What is known of the file at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    exact: [u8; 8],
    place: Option<Place>,
    modified: Option<i64>,
    size: u64,
    on_disk: i64,
    content: [u8; 32],
}

impl Origin {
    /// That of a file that was written with these properties.
    pub(super) fn of(file: &DownloadDataFile, comes: &Stand, written: &Metadata) -> Self {
        Self {
            exact: [0; 8],
            place: comes.place.clone(),
            modified: comes.modified.map(nanoseconds),
            size: written.len(),
            on_disk: written.modified().map_or(0, nanoseconds),
            content: start(file.sha512()),
        }
    }

    /// Whether what is on disk is what was put there.
    pub(super) fn is_of(&self, there: &Metadata) -> bool {
        let on_disk = there.modified().map_or(0, nanoseconds);
        self.size == there.len() && self.on_disk.abs_diff(on_disk) < TIME_STEP_NS
    }

    pub(super) fn has_content(&self, sha512: &[u8; 64]) -> bool {
        self.content == start(sha512)
    }

    pub(super) fn stand(&self) -> Stand {
        Stand { place: self.place.clone(), modified: self.modified.map(time) }
    }

    fn to_bytes(&self, key: &Key) -> [u8; RECORD] {
        let mut bytes = Vec::with_capacity(RECORD);
        bytes.extend_from_slice(&key.path);
        bytes.extend_from_slice(&key.exact);
        let nowhere = Place { topic: String::new(), by_name: None, partition: -1, offset: -1, time_ms: 0 };
        let place = self.place.as_ref().unwrap_or(&nowhere);
        bytes.extend_from_slice(&unhex(&place.topic));
        bytes.extend_from_slice(&place.partition.to_le_bytes());
        bytes.extend_from_slice(&u32::from(self.modified.is_some()).to_le_bytes());
        bytes.extend_from_slice(&place.offset.to_le_bytes());
        bytes.extend_from_slice(&place.time_ms.to_le_bytes());
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(&self.on_disk.to_le_bytes());
        bytes.extend_from_slice(&self.modified.unwrap_or_default().to_le_bytes());
        bytes.extend_from_slice(&self.content);
        bytes.resize(CHECKED, 0);
        let check: [u8; 8] = start(&sha512(&bytes));
        bytes.extend_from_slice(&check);
        array(&bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let check: [u8; 8] = start(&sha512(&bytes[..CHECKED]));
        let known = u32::from_le_bytes(array(&bytes[36..40])) & 1 == 1;
        let place = Place {
            topic: hex(&bytes[24..32]),
            by_name: None,
            partition: i32::from_le_bytes(array(&bytes[32..36])),
            offset: i64::from_le_bytes(array(&bytes[40..48])),
            time_ms: i64::from_le_bytes(array(&bytes[48..56])),
        };
        (bytes[CHECKED..] == check).then(|| Self {
            exact: array(&bytes[16..24]),
            place: (place.partition >= 0).then_some(place),
            size: u64::from_le_bytes(array(&bytes[56..64])),
            on_disk: i64::from_le_bytes(array(&bytes[64..72])),
            modified: known.then(|| i64::from_le_bytes(array(&bytes[72..80]))),
            content: array(&bytes[80..112]),
        })
    }
}

/// A stand as a record keeps it: of the topic's identity, the start of its hash.
pub(super) fn kept(stand: Stand) -> Stand {
    let start_of = |topic: &str| hex(&start::<8>(&sha512(topic.as_bytes())));
    let place = stand.place.map(|place| Place {
        topic: start_of(&place.topic),
        by_name: place.by_name.as_deref().map(start_of),
        ..place
    });
    Stand { place, ..stand }
}

struct Key {
    path: [u8; 16],
    exact: [u8; 8],
}

/// The records beside which that of one path lies, or goes. They are locked as long as this lives, with all that
/// have the same first digits.
pub(super) struct Locked {
    /// Missing where the file system has no locks.
    _lock: Option<FileLock>,
    file: File,
    bytes: Vec<u8>,
    key: Key,
    at: Option<usize>,
}

/// A record of a path.
pub(super) enum Found {
    Nothing,
    /// Of this very path.
    Origin(Origin),
    /// Of a path that differs in case only, on a file system that does not tell them apart.
    OtherCase,
}

impl Origins {
    /// `folds_case`: the file system does not tell `a` from `A`.
    pub(super) fn open(folder: PathBuf, folds_case: bool) -> io::Result<Self> {
        let origins = Self { folder, folds_case };
        origins.make_again()?;
        Ok(origins)
    }

    /// Makes the folder where it is missing.
    pub(super) fn make_again(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)
    }

    /// Waits for the lock that the path's records have, and reads them.
    pub(super) fn lock(&self, path: &str) -> io::Result<Locked> {
        let folded = if self.folds_case { path.to_lowercase() } else { path.to_owned() };
        let key = Key { path: start(&sha512(folded.as_bytes())), exact: start(&sha512(path.as_bytes())) };
        let name = hex(&key.path);
        let mut lock = None;
        let mut bytes = Vec::new();
        for digits in DIGITS..name.len() {
            let name = self.folder.join(&name[..digits]);
            let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&name)?;
            if digits == DIGITS {
                lock = take(&file, &name)?;
            }
            bytes.clear();
            file.read_to_end(&mut bytes)?;
            let at = bytes.chunks_exact(RECORD).position(|record| record[..16] == key.path);
            if at.is_some() || bytes.len() / RECORD < FULL {
                return Ok(Locked { _lock: lock, file, bytes, key, at });
            }
        }
        Err(io::Error::other(format!("all files of records in `{}` are full", self.folder.display())))
    }
}

fn take(file: &File, name: &Path) -> io::Result<Option<FileLock>> {
    static ONCE: Once = Once::new();
    match FileLock::take(file.try_clone()?, LOCK_LIMIT) {
        Ok(lock) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => {
            let text = format!("another process holds a lock on `{}` and does not go on", name.display());
            Err(io::Error::new(io::ErrorKind::WouldBlock, text))
        }
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
            ONCE.call_once(|| {
                tracing::warn!(file = %name.display(),
                    "the file system has no locks: let one process alone write to this folder");
            });
            Ok(None)
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl Locked {
    /// What is recorded of the path.
    pub(super) fn find(&self) -> Found {
        let record = self.at.and_then(|at| Origin::from_bytes(&self.bytes[at * RECORD..][..RECORD]));
        match record {
            None => Found::Nothing,
            Some(origin) if origin.exact == self.key.exact => Found::Origin(origin),
            Some(_) => Found::OtherCase,
        }
    }

    /// Replaces what is recorded of the path.
    pub(super) fn set(&mut self, origin: &Origin) -> io::Result<()> {
        // half a record at the end, as a crash leaves it, is written over
        let at = self.at.unwrap_or(self.bytes.len() / RECORD);
        self.file.seek(SeekFrom::Start((at * RECORD) as u64))?;
        self.file.write_all(&origin.to_bytes(&self.key))
    }
}

fn start<const N: usize>(hash: &[u8; 64]) -> [u8; N] {
    array(&hash[..N])
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

/// The bytes of eight that were written in hexadecimal digits.
fn unhex(text: &str) -> [u8; 8] {
    u64::from_str_radix(text, 16).unwrap_or_default().to_be_bytes()
}

fn nanoseconds(time: SystemTime) -> i64 {
    let of = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => of(since),
        Err(before) => -of(before.duration()),
    }
}

fn time(nanoseconds: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanoseconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if nanoseconds < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
    time.unwrap_or(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(offset: i64, modified: Option<i64>) -> Origin {
        let place = Place { topic: "log/files".to_owned(), by_name: None, partition: 3, offset, time_ms: 12 };
        let Stand { place, .. } = kept(Stand { place: Some(place), modified: None });
        Origin { exact: [0; 8], place, modified, size: 5, on_disk: -7, content: [9; 32] }
    }

    fn found(origins: &Origins, path: &str) -> Option<Origin> {
        match origins.lock(path).unwrap().find() {
            Found::Origin(origin) => Some(Origin { exact: [0; 8], ..origin }),
            Found::Nothing | Found::OtherCase => None,
        }
    }

    #[test]
    fn what_was_recorded_last_of_a_path_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let origins = Origins::open(folder.path().join("origins"), false).unwrap();
        let paths: Vec<String> = (0..2000).map(|i| format!("a/{i}.dat")).collect();
        for round in 0..2 {
            for (i, path) in paths.iter().enumerate() {
                let modified = (i % 2 == 0).then_some(i as i64 - 9);
                origins.lock(path).unwrap().set(&origin(round + i as i64, modified)).unwrap();
            }
        }
        for (i, path) in paths.iter().enumerate() {
            let modified = (i % 2 == 0).then_some(i as i64 - 9);
            assert_eq!(found(&origins, path), Some(origin(1 + i as i64, modified)), "{path}");
        }
        assert_eq!(found(&origins, "b"), None);
        let bytes: u64 = std::fs::read_dir(folder.path().join("origins"))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert_eq!(bytes, 2000 * RECORD as u64, "one record for each path");
    }

    #[test]
    fn a_full_file_is_left_as_it_is_and_further_paths_go_to_those_of_one_more_digit() {
        let folder = tempfile::tempdir().unwrap();
        let origins = Origins::open(folder.path().to_owned(), false).unwrap();
        let of_one_file = |path: &String| hex(&sha512(path.as_bytes())).starts_with("3f");
        let paths: Vec<String> =
            (0..).map(|i| format!("a/{i}.dat")).filter(of_one_file).take(FULL + FULL / 2).collect();
        for round in 0..2 {
            for (i, path) in paths.iter().enumerate() {
                origins.lock(path).unwrap().set(&origin(round + i as i64, None)).unwrap();
            }
        }
        for (i, path) in paths.iter().enumerate() {
            assert_eq!(found(&origins, path), Some(origin(1 + i as i64, None)), "{path}");
        }
        let mut sizes: Vec<(String, u64)> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len() / RECORD as u64))
            .collect();
        sizes.sort();
        assert_eq!(sizes[0], ("3f".to_owned(), FULL as u64));
        assert!(sizes.len() > 10 && sizes[1..].iter().all(|(name, _)| name.len() == 3), "{sizes:?}");
        assert_eq!(sizes.iter().map(|(_, records)| records).sum::<u64>(), paths.len() as u64);
    }

    #[test]
    fn a_torn_or_damaged_record_does_not_count_and_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let origins = Origins::open(folder.path().to_owned(), false).unwrap();
        origins.lock("x").unwrap().set(&origin(1, None)).unwrap();
        let name = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(&name).unwrap();
        bytes[70] ^= 1;
        for torn in [100, RECORD] {
            std::fs::write(&name, &bytes[..torn]).unwrap();
            assert_eq!(found(&origins, "x"), None, "{torn}");
            origins.lock("x").unwrap().set(&origin(2, None)).unwrap();
            assert_eq!(found(&origins, "x"), Some(origin(2, None)));
            assert_eq!(std::fs::metadata(&name).unwrap().len(), RECORD as u64);
        }
    }

    #[test]
    fn paths_that_differ_in_case_clash_only_where_the_file_system_folds_it() {
        for folds_case in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let origins = Origins::open(folder.path().to_owned(), folds_case).unwrap();
            origins.lock("Data/A.txt").unwrap().set(&origin(1, None)).unwrap();
            assert!(found(&origins, "Data/A.txt").is_some());
            let other = origins.lock("data/a.txt").unwrap().find();
            assert_eq!(matches!(other, Found::OtherCase), folds_case);
        }
    }
}
