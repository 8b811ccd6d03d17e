//! Folders that datamill and OpenMSIStream made for files of their own: nothing in them is data, and sending it
//! would change it, for ever. Their marks tell them ([`crate::mark`]), and what is in them where release 0.1.0 or
//! OpenMSIStream made them, which leave no mark.
//!
//! ```text
//! LOGS/uploaded_to_{topic}.csv …          LOGS of a watched folder (any folder named LOGS with such a table)
//! OUTPUT/.datamill/lock                   output folder of a program
//! OUTPUT/LOGS/processed_from_{topic}_…    the same, OpenMSIStream's
//! FOLDER/.datamill/origins                folder that a download fills
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::filter::Reason;
use crate::mark::{LOGS, OWN, Role, is_filled, is_marked, is_output_folder};

/// Longest time that a folder `LOGS` without a table of a program is not looked through again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Tells folders of programs from those of the user.
#[derive(Debug, Default)]
pub(super) struct OwnFolders {
    /// Folders named `LOGS` that held no table, and when that was seen.
    of_users: Mutex<Vec<(PathBuf, Instant)>>,
}

impl OwnFolders {
    /// Why this folder is not entered, if it is a program's.
    pub(super) fn reason(&self, folder: &Path) -> Option<Reason> {
        if is_marked(folder, &Role::Logs) || folder.ends_with(LOGS) && self.has_tables(folder) {
            return Some(Reason::OwnFolder);
        }
        // one look instead of four at each of many folders, where nothing is there
        let has_own = has_something(&folder.join(OWN));
        if has_own && is_filled(folder) {
            return Some(Reason::Filled);
        }
        (has_own && is_output_folder(folder) || has_table(&folder.join(LOGS), is_name_of_a_consumer))
            .then_some(Reason::OwnFolder)
    }

    fn has_tables(&self, folder: &Path) -> bool {
        let now = Instant::now();
        let mut of_users = self.of_users.lock();
        of_users.retain(|(_, seen)| now.duration_since(*seen) < LOOK_EVERY);
        if of_users.iter().any(|(known, _)| known == folder) {
            return false;
        }
        let has = has_table(folder, is_name_of_a_program);
        if !has {
            of_users.push((folder.to_owned(), now));
        }
        has
    }
}

/// Whether a folder that the user names is a `LOGS` of programs, as a shell puts it into the place of a `*`.
pub(crate) fn is_logs(folder: &Path) -> bool {
    is_marked(folder, &Role::Logs) || folder.ends_with(LOGS) && is_logs_of_programs(folder)
}

/// Whether a folder is one in which programs keep their tables: it has the mark, or holds a table or record.
pub(super) fn is_logs_of_programs(folder: &Path) -> bool {
    is_marked(folder, &Role::Logs) || has_table(folder, is_name_of_a_program)
}

fn has_something(path: &Path) -> bool {
    fs::symlink_metadata(path).map_or_else(|error| error.kind() != ErrorKind::NotFound, |_| true)
}

fn has_table(folder: &Path, is_name: fn(&str) -> bool) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        entry.file_name().to_str().is_some_and(is_name) && entry.file_type().is_ok_and(|kind| kind.is_file())
    })
}

/// Whether a file is named like a table, a record or a log file that a program keeps in its folder `LOGS`.
fn is_name_of_a_program(name: &str) -> bool {
    let of_an_upload = name.starts_with("uploaded_to_") || name.starts_with("upload_to_");
    let of_datamill = name.starts_with(".datamill_upload") && (name.ends_with(".jsonl") || name.ends_with(".lock"));
    of_an_upload && name.ends_with(".csv") || of_datamill || name == super::LOG_FILE || is_name_of_a_consumer(name)
}

/// The same for programs that read a topic.
fn is_name_of_a_consumer(name: &str) -> bool {
    let by_group = ["consuming_from_", "processed_from_", "failed_from_"];
    name.ends_with(".csv")
        && (name.starts_with("results_produced_to_")
            || by_group.iter().any(|start| name.starts_with(start)) && name.contains("_by_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mark::Mark;

    fn reason_with(file: &str) -> Option<Reason> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        let folder = dir.path().join(file.split('/').next().unwrap());
        OwnFolders::default().reason(&folder)
    }

    #[test]
    fn folders_without_a_mark_are_told_by_the_names_in_them() {
        for file in [
            "LOGS/uploaded_to_files.csv",
            "LOGS/upload_to_files_in_progress.csv",
            "LOGS/.datamill_uploaded_to_files_0a1b2c3d.jsonl",
            "LOGS/.datamill_upload_to_files_0a1b2c3d.lock",
            "LOGS/datamill_watch.log",
            "LOGS/results_produced_to_metadata.csv",
            "out/LOGS/processed_from_files_by_group.csv",
            "out/LOGS/consuming_from_files_in_progress_by_group.csv",
            "out/LOGS/failed_from_files_by_group.csv",
            "out/.datamill/lock",
        ] {
            assert_eq!(reason_with(file), Some(Reason::OwnFolder), "{file}");
        }
        assert_eq!(reason_with("mirror/.datamill/origins/3f"), Some(Reason::Filled));
        for file in [
            "LOGS/scan.csv",
            "LOGS/instrument.log",
            "LOGS/uploaded_to_files.txt",
            "LOGS/uploaded_to_files.csv/a.csv",
            "LOGS/processed_from_raw.csv",
            "logs/uploaded_to_files.csv",
            "out/uploaded_to_files.csv",
            "out/LOGS/uploaded_to_files.csv",
            "out/.datamill_watched_to_t_00000000",
        ] {
            assert_eq!(reason_with(file), None, "{file}");
        }
    }

    #[test]
    fn a_mark_tells_whatever_the_folder_is_called() {
        for (role, reason) in
            [(Role::Logs, Reason::OwnFolder), (Role::Output, Reason::OwnFolder), (Role::Target, Reason::Filled)]
        {
            let dir = tempfile::tempdir().unwrap();
            assert_eq!(OwnFolders::default().reason(dir.path()), None);
            Mark::find_or_make(dir.path(), &role).unwrap();
            assert_eq!(OwnFolders::default().reason(dir.path()), Some(reason), "{role:?}");
        }
    }
}
