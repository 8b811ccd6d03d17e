//! Marks: small files by which a folder is known again. A path is only a name: a share that is not
//! mounted, a link that was turned and a folder that was made again have the path of what was there
//! before. Device and inode tell that within one run, but change with each mount; the mark stays.
//!
//! ```text
//! FOLDER/.datamill/watched_to_{topic}_{log}  root of a watch, for each topic and log
//!                  output                    output folder of a program
//!                  target                    folder that a download or a transfer puts files into
//! LOGS/.datamill_logs                        folder `LOGS` of a watched folder
//!     {"datamill":ROLE,"version":1,"id":UUID} "\n"    UTF-8, at most 4096 bytes
//!     ROLE = "watched" | "output" | "target" | "logs"
//!     id   = version 4, made with the mark and never changed
//! ```
//!
//! A mark is written aside in its folder, brought to the disk, and gets its name by a link, or by a rename where the
//! file system has no links. Of several
//! processes that make one at a time the first wins, and all read its id. Readers ignore fields that
//! they do not know; a later version that changes what the three fields mean has another file name.

mod known;

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use known::{Checked, Found, KnownFolder};

use crate::durable::{put_unless_there, sync_folder};

/// Folder of datamill's own things in a folder that it uses. It is hidden, so nothing in it is ever sent,
/// and no message's path leads into it.
pub(crate) const OWN: &str = ".datamill";
/// Folder of the log file and the registry files inside an output folder, and of what a watch keeps.
pub(crate) const LOGS: &str = "LOGS";

/// Version of the format that is written.
const VERSION: u32 = 1;

/// Largest size that is read.
const LARGEST: u64 = 4096;

/// What datamill uses a folder for. A folder can have several roles, each with a mark of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// The root of a watch. Each topic and log has a mark of its own, as it has a record of its own:
    /// the mark tells that there was a record.
    Watched {
        /// The topic and the log, as the names of the record's files hold them.
        name: String,
    },
    /// The folder `LOGS` of a watched folder.
    Logs,
    /// The output folder of a program.
    Output,
    /// The folder that a download or a transfer puts files into.
    Target,
}

impl Role {
    fn word(&self) -> &'static str {
        match self {
            Self::Watched { .. } => "watched",
            Self::Logs => "logs",
            Self::Output => "output",
            Self::Target => "target",
        }
    }

    /// Where the mark of a folder in this role is.
    pub(crate) fn file_in(&self, folder: &Path) -> PathBuf {
        match self {
            Self::Watched { name } => folder.join(OWN).join(format!("watched_to_{name}")),
            Self::Logs => folder.join(".datamill_logs"),
            Self::Output | Self::Target => folder.join(OWN).join(self.word()),
        }
    }
}

/// The mark of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    id: Uuid,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

#[derive(Serialize, Deserialize)]
struct Text {
    datamill: String,
    version: u32,
    id: String,
}

impl Mark {
    /// A mark that no folder has yet.
    pub(crate) fn new() -> Self {
        Self { id: Uuid::new_v4() }
    }

    /// The mark with this id as [`Mark`]'s display form has it.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(|id| Self { id })
    }

    /// The mark that `folder` has in this role: one look at the file system where it has none.
    ///
    /// # Errors
    /// Where the file system refuses, and with [`ErrorKind::InvalidData`] where the file is no mark.
    pub(crate) fn find(folder: &Path, role: &Role) -> io::Result<Option<Self>> {
        let path = role.file_in(folder);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text)?;
        let found = serde_json::from_str::<Text>(&text).ok().filter(|found| found.datamill == role.word());
        match found.and_then(|found| Self::from_text(&found.id)) {
            Some(mark) => Ok(Some(mark)),
            None => Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("`{}` is not a mark of datamill: remove it if nobody needs it", path.display()),
            )),
        }
    }

    /// The mark that `folder` has in this role, made where it has none.
    ///
    /// # Errors
    /// As [`Mark::find`], and where the mark cannot be written; see [`is_refused`].
    pub(crate) fn find_or_make(folder: &Path, role: &Role) -> io::Result<Self> {
        match Self::find(folder, role)? {
            Some(mark) => Ok(mark),
            None => Self::new().give(folder, role),
        }
    }

    /// Gives this mark to `folder`, unless it has one meanwhile; answers which one it has now.
    ///
    /// # Errors
    /// As [`Mark::find`], and where the mark cannot be written; see [`is_refused`].
    pub(crate) fn give(self, folder: &Path, role: &Role) -> io::Result<Self> {
        let text = Text { datamill: role.word().to_owned(), version: VERSION, id: self.to_string() };
        let path = role.file_in(folder);
        let place = path.parent().unwrap_or(folder);
        match fs::create_dir(place) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => sync_folder(folder)?,
        }
        put_unless_there(&path, (serde_json::to_string(&text)? + "\n").as_bytes())?;
        Self::find(folder, role)?.ok_or_else(|| {
            io::Error::new(ErrorKind::NotFound, format!("`{}` vanished when it was written", path.display()))
        })
    }
}

/// Whether the folder may only be read: then it is used without a mark.
pub(crate) fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
}

/// Whether a file of this relative path would lie in a folder that the program keeps for itself, or be one of the
/// files by which programs know their folders. Case counts for nothing, as on some file systems.
pub(crate) fn is_reserved(path: &str) -> bool {
    let is_own = |part: &str| part.get(..OWN.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN));
    path.split('/').any(is_own) || path.split('/').next().is_some_and(|first| first.eq_ignore_ascii_case(LOGS))
}

/// Whether a folder has the mark of this role. A file that is no mark, or cannot be read, is none.
pub(crate) fn is_marked(folder: &Path, role: &Role) -> bool {
    matches!(Mark::find(folder, role), Ok(Some(_)))
}

/// Whether a folder is the output folder of a program. Release 0.1.0 left a lock there, and no mark.
pub(crate) fn is_output_folder(folder: &Path) -> bool {
    is_marked(folder, &Role::Output) || folder.join(OWN).join("lock").is_file()
}

/// Whether a download or a transfer fills a folder. Downloads of release 0.1.0 left no mark there.
pub(crate) fn is_filled(folder: &Path) -> bool {
    is_marked(folder, &Role::Target) || folder.join(OWN).join("origins").is_dir()
}

/// Which file or folder it is, and by which mount it is reached. Both hold as long as the file system
/// stays mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    /// The device, where the system does not number its mounts.
    mount: u64,
}

impl Identity {
    /// What is behind a path now, links followed. `None` where the system does not tell files apart.
    ///
    /// # Errors
    /// Where nothing is there, and what else the file system says.
    pub(crate) fn of(path: &Path) -> io::Result<Option<Self>> {
        // opened, so that both answers are about one thing; a folder that may only be passed through is looked at
        match File::open(path) {
            Ok(file) => Self::of_file(&file),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Ok(Self::of_metadata(&fs::metadata(path)?, None))
            }
            Err(error) => Err(error),
        }
    }

    /// The same for an open file or folder, whatever its path leads to by now.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn of_file(file: &File) -> io::Result<Option<Self>> {
        Ok(Self::of_metadata(&file.metadata()?, mount_of(file)))
    }

    /// Whether the path leads to this open file.
    pub(crate) fn is_of(path: &Path, file: &File) -> bool {
        matches!((Self::of(path), Self::of_file(file)), (Ok(there), Ok(open)) if there == open)
    }

    /// Whether both were reached by the same mount.
    pub(crate) fn shares_mount(&self, other: &Self) -> bool {
        (self.device, self.mount) == (other.device, other.mount)
    }

    #[cfg(unix)]
    fn of_metadata(metadata: &Metadata, mount: Option<u64>) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let device = metadata.dev();
        Some(Self { device, inode: metadata.ino(), mount: mount.unwrap_or(device) })
    }

    #[cfg(not(unix))]
    fn of_metadata(_: &Metadata, _: Option<u64>) -> Option<Self> {
        None
    }
}

/// The number of the mount by which a file was opened, where the kernel tells it (Linux from 5.8 on).
#[cfg(target_os = "linux")]
fn mount_of(file: &File) -> Option<u64> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let told = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    (told.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(told.stx_mnt_id)
}

#[cfg(not(target_os = "linux"))]
fn mount_of(_: &File) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_mark_is_found_again_and_each_role_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let watched = |name: &str| Role::Watched { name: name.to_owned() };
        let roles = [watched("t_0000"), watched("u_0000"), Role::Logs, Role::Output, Role::Target];
        let mut marks = Vec::new();
        for role in &roles {
            assert_eq!(Mark::find(dir.path(), role).unwrap(), None);
            let mark = Mark::find_or_make(dir.path(), role).unwrap();
            assert!(!marks.contains(&mark));
            marks.push(mark);
        }
        for (role, mark) in roles.iter().zip(&marks) {
            assert_eq!(Mark::find(dir.path(), role).unwrap().as_ref(), Some(mark));
            assert_eq!(Mark::find_or_make(dir.path(), role).unwrap(), *mark);
            assert_eq!(Mark::new().give(dir.path(), role).unwrap(), *mark, "the first one stays");
            assert_eq!(Mark::from_text(&mark.to_string()).as_ref(), Some(mark));
        }
        let names = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        assert_eq!(names(&dir.path().join(OWN)).len(), roles.len() - 1, "nothing is left aside");
        let mut here = names(dir.path());
        here.sort_unstable();
        assert_eq!(here, [OWN, ".datamill_logs"]);
    }

    #[test]
    fn of_many_that_mark_a_folder_at_once_all_read_the_same_id() {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let together = Barrier::new(8);
            let make = || {
                together.wait();
                Mark::find_or_make(dir.path(), &Role::Target).unwrap()
            };
            let marks: Vec<Mark> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(marks.iter().all(|mark| *mark == marks[0]), "{marks:?}");
        }
    }

    #[test]
    fn what_is_no_mark_is_told_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = Role::Output.file_in(dir.path());
        fs::create_dir(dir.path().join(OWN)).unwrap();
        for text in ["", "x", r#"{"datamill":"logs","version":1,"id":"67e55044-10b1-426f-9247-bb680e5fe0c8"}"#] {
            fs::write(&path, text).unwrap();
            let error = Mark::find_or_make(dir.path(), &Role::Output).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().contains(".datamill/output"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let later = r#"{"datamill":"output","version":2,"id":"67e55044-10b1-426f-9247-bb680e5fe0c8","more":[]}"#;
        fs::write(&path, later).unwrap();
        let mark = Mark::find(dir.path(), &Role::Output).unwrap().unwrap();
        assert_eq!(mark.to_string(), "67e55044-10b1-426f-9247-bb680e5fe0c8");
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_mark_and_gets_none() {
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("none");
        assert_eq!(Mark::find(&none, &Role::Target).unwrap(), None);
        assert_eq!(Mark::find_or_make(&none, &Role::Target).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_took_the_place_of_another_one_has_another_identity() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir(&a).unwrap();
        fs::create_dir(&b).unwrap();
        let before = Identity::of(&a).unwrap().unwrap();
        assert_eq!(Identity::of(&a).unwrap(), Some(before));
        fs::rename(&a, dir.path().join("c")).unwrap();
        fs::rename(&b, &a).unwrap();
        let now = Identity::of(&a).unwrap().unwrap();
        assert!(now != before && now.shares_mount(&before));
        let proc = Identity::of(Path::new("/proc")).unwrap().unwrap();
        assert!(!proc.shares_mount(&before), "{proc:?}");
    }
}
