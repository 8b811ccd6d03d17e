//! The files on this machine that open logs consist of.
//!
//! Nothing may be read from them or written to them except by the log: content that is renamed over one of them
//! takes the log away, and closing one of them drops the locks that SQLite holds on it in the whole process. So a
//! file is told by what the file system says of it, without opening it: by device and inode, which finds links and
//! other paths to it, and by its folder and name, which finds files that the log makes later.
//!
//! ```text
//! {file}  {file}-wal  {file}-shm  {file}-journal  {file}-group-{number}.lock
//! ```

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

/// What the name of the file is followed by in the names of SQLite's files beside it.
const BESIDE: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// The files of logs, as they are when they are asked for. Logs that are elsewhere have none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnFiles(Vec<Database>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Database {
    /// The real path.
    path: PathBuf,
    name: OsString,
    folder: Option<Identity>,
    files: Vec<Identity>,
}

/// Device and inode. Other systems than Unix do not tell: there, real paths are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

impl Identity {
    /// That of what is at a path, links followed.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().and_then(|found| identity(&found))
    }
}

impl OwnFiles {
    /// The files of the logs in the files with these real paths.
    pub(crate) fn of_databases<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        Self(paths.into_iter().map(Database::look).collect())
    }

    /// Whether the logs are all elsewhere.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the file at `path`, of which the file system says `metadata`, is a log's. `path` is no symbolic link.
    pub fn has(&self, path: &Path, metadata: &Metadata) -> bool {
        self.0.iter().any(|database| database.has(path, metadata))
    }

    /// Whether a file of this name, of which the file system says `metadata`, may be a log's, so that
    /// [`OwnFiles::has`] is to be asked: for scans, since most files may not, and no path is needed to say so.
    pub fn may_have(&self, name: &OsStr, metadata: &Metadata) -> bool {
        self.0.iter().any(|database| database.may_have(name, metadata))
    }

    /// Whether something that is written to `path` would be or become a file of a log, or take the place of one:
    /// links are followed, and the path may lead through a folder with the name of such a file.
    pub fn would_hold(&self, path: &Path) -> bool {
        self.0.iter().any(|database| database.would_hold(path))
    }

    /// Whether a log lies in this folder or below it.
    pub fn are_in(&self, folder: &Path) -> bool {
        !self.is_empty()
            && fs::canonicalize(folder).is_ok_and(|real| self.0.iter().any(|database| database.path.starts_with(&real)))
    }
}

impl Database {
    fn look(path: &Path) -> Self {
        let files = BESIDE.iter().filter_map(|end| Identity::at(&with_end(path, end))).collect();
        let folder = path.parent().and_then(Identity::at);
        let name = path.file_name().unwrap_or_default().to_owned();
        Self { path: path.to_owned(), name, folder, files }
    }

    fn has(&self, path: &Path, metadata: &Metadata) -> bool {
        let is_known = identity(metadata).is_some_and(|identity| self.files.contains(&identity));
        is_known || self.names(path, false) || self.has_lock(metadata)
    }

    fn may_have(&self, name: &OsStr, metadata: &Metadata) -> bool {
        let is_known = identity(metadata).is_some_and(|identity| self.files.contains(&identity));
        let begins_so = name.as_encoded_bytes().starts_with(self.name.as_encoded_bytes());
        is_known || begins_so || metadata.len() == 0 && has_other_names(metadata)
    }

    fn would_hold(&self, path: &Path) -> bool {
        // A file system may not tell upper from lower case, and a refusal is safe.
        if path.ancestors().any(|part| self.names(part, true)) {
            return true;
        }
        let Ok(found) = fs::symlink_metadata(path) else { return false };
        if !found.is_symlink() {
            return self.has(path, &found);
        }
        let real = fs::canonicalize(path);
        real.is_ok_and(|real| self.names(&real, true) || fs::metadata(&real).is_ok_and(|found| self.has(&real, &found)))
    }

    /// Whether the path is one of the log's by its name and folder.
    fn names(&self, path: &Path, any_case: bool) -> bool {
        let Some((name, own)) = path.file_name().zip(self.path.file_name()) else { return false };
        let matches = match any_case {
            true => is_name(&name.to_ascii_lowercase(), &own.to_ascii_lowercase()),
            false => is_name(name, own),
        };
        matches && self.is_folder(path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")))
    }

    fn is_folder(&self, folder: &Path) -> bool {
        match self.folder {
            Some(own) => fs::metadata(folder).is_ok_and(|found| identity(&found) == Some(own)),
            None => fs::canonicalize(folder).is_ok_and(|real| self.path.parent() == Some(&*real)),
        }
    }

    /// Whether it is another name of the lock file of a group. These are empty.
    fn has_lock(&self, metadata: &Metadata) -> bool {
        let Some((own, folder)) = self.path.file_name().zip(self.path.parent()) else { return false };
        let Some(wanted) = identity(metadata).filter(|_| metadata.len() == 0 && has_other_names(metadata)) else {
            return false;
        };
        let Ok(entries) = fs::read_dir(folder) else { return false };
        entries.flatten().any(|entry| {
            is_name(&entry.file_name(), own)
                && entry.metadata().is_ok_and(|found| identity(&found).is_some_and(|identity| identity == wanted))
        })
    }
}

/// Whether `name` is `own` with one of the ends that the log's files have.
fn is_name(name: &OsStr, own: &OsStr) -> bool {
    let Some(end) = name.as_encoded_bytes().strip_prefix(own.as_encoded_bytes()) else { return false };
    let number = end.strip_prefix(b"-group-").and_then(|rest| rest.strip_suffix(b".lock"));
    BESIDE.iter().any(|beside| beside.as_bytes() == end)
        || number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut whole = path.as_os_str().to_owned();
    whole.push(end);
    whole.into()
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    Some(Identity(metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> Option<Identity> {
    None
}

#[cfg(unix)]
fn has_other_names(metadata: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(metadata) > 1
}

#[cfg(not(unix))]
fn has_other_names(_metadata: &Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        folder: tempfile::TempDir,
        own: OwnFiles,
    }

    impl Place {
        /// A log with three files in a folder of its own, beside other things.
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().canonicalize().unwrap();
            fs::create_dir_all(root.join("sub")).unwrap();
            fs::create_dir_all(root.join("other")).unwrap();
            for name in ["sub/my.log", "sub/my.log-wal", "sub/my.log-shm", "sub/my.log.csv", "other/my.log", "empty"] {
                fs::write(root.join(name), if name == "empty" { "" } else { "x" }).unwrap();
            }
            let own = OwnFiles::of_databases([&*root.join("sub/my.log")]);
            Self { folder, own }
        }

        fn path(&self, relative: &str) -> PathBuf {
            self.folder.path().join(relative)
        }

        fn has(&self, relative: &str) -> bool {
            let path = self.path(relative);
            self.own.has(&path, &fs::symlink_metadata(&path).unwrap())
        }
    }

    #[test]
    fn files_are_told_by_folder_and_name_also_those_that_come_later() {
        let place = Place::new();
        fs::write(place.path("sub/my.log-journal"), "").unwrap();
        fs::write(place.path("sub/my.log-group-12.lock"), "").unwrap();
        fs::write(place.path("sub/my.log-group-x.lock"), "").unwrap();
        for name in ["my.log", "my.log-wal", "my.log-shm", "my.log-journal", "my.log-group-12.lock"] {
            assert!(place.has(&format!("sub/{name}")), "{name}");
        }
        for name in ["sub/my.log.csv", "other/my.log", "empty", "sub/my.log-group-x.lock"] {
            assert!(!place.has(name) && !place.own.would_hold(&place.path(name)), "{name}");
        }
    }

    #[test]
    fn nothing_is_written_to_a_name_that_a_file_of_the_log_may_get() {
        let place = Place::new();
        let own =
            ["my.log", "my.log-journal", "MY.LOG-Group-3.lock", "my.log-group-4.lock/below/a.csv", "../sub/my.log"];
        for name in own {
            assert!(place.own.would_hold(&place.path("sub").join(name)), "{name}");
        }
        for name in ["my.log2", "my.log-group-.lock", "a/my.log", "new/folder/a.csv"] {
            assert!(!place.own.would_hold(&place.path("sub").join(name)), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_of_every_kind_and_other_paths_lead_to_the_same_file() {
        use std::os::unix::fs::symlink;
        let place = Place::new();
        fs::write(place.path("sub/my.log-group-1.lock"), "").unwrap();
        for (file, link) in [("my.log", "hard"), ("my.log-wal", "hard-wal"), ("my.log-group-1.lock", "hard-lock")] {
            fs::hard_link(place.path("sub").join(file), place.path(link)).unwrap();
            assert!(place.has(link) && place.own.would_hold(&place.path(link)), "{link}");
        }
        fs::hard_link(place.path("empty"), place.path("hard-empty")).unwrap();
        assert!(!place.has("hard-empty"));
        symlink("sub/my.log", place.path("link")).unwrap();
        symlink("sub", place.path("way")).unwrap();
        symlink("nowhere", place.path("broken")).unwrap();
        assert!(place.own.would_hold(&place.path("link")));
        assert!(
            place.own.would_hold(&place.path("way/my.log")) && place.own.would_hold(&place.path("way/my.log-journal"))
        );
        assert!(!place.own.would_hold(&place.path("broken")));
        assert!(place.own.are_in(&place.path("way")) && place.own.are_in(&place.path("")));
        assert!(!place.own.are_in(&place.path("other")) && !place.own.are_in(&place.path("none")));
        assert!(OwnFiles::default().is_empty() && !OwnFiles::default().would_hold(&place.path("sub/my.log")));
    }
}
