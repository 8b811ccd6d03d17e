//! Files that are written aside and renamed, and files that are kept because they cannot be used.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::report::clock;

/// Puts a new file in the place of `path`. Whoever looks sees the file before or after. Where that fails, nothing
/// is left of the new one.
pub(super) fn replace(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    put_in_place(path, false, fill)
}

/// [`replace`], and the new file is on the disk when this returns.
pub(super) fn replace_synced(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    put_in_place(path, true, fill)
}

fn put_in_place(
    path: &Path,
    synced: bool,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let aside = aside_of(path);
    let written = write(&aside, synced, fill).and_then(|()| rename(&aside, path));
    if let Err(error) = written {
        // A full disk gets back what the attempt took; there may be nothing to remove.
        let _ = fs::remove_file(&aside);
        return Err(error);
    }
    if synced { sync_folder_of(path) } else { Ok(()) }
}

/// Renames. On Windows a virus scanner or a backup may have one of the files open for a moment, so it tries for a second.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let mut pause = Duration::from_millis(10);
    loop {
        match fs::rename(from, to) {
            Err(error) if is_held_open(&error) && pause < Duration::from_secs(1) => std::thread::sleep(pause),
            renamed => return renamed,
        }
        pause *= 2;
    }
}

/// ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION and ERROR_LOCK_VIOLATION of Windows.
fn is_held_open(error: &io::Error) -> bool {
    cfg!(windows) && matches!(error.raw_os_error(), Some(5 | 32 | 33))
}

/// Puts a file at `path` unless there is one meanwhile: of several processes the first wins. It is on the disk when this
/// returns. It gets its name by a link, or by a rename where the file system has no links.
pub(crate) fn put_unless_there(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = format!(".datamill_{}.aside", uuid::Uuid::new_v4().simple());
    let aside = path.with_file_name(name);
    let written = write(&aside, true, |file| file.write_all(content));
    let put = written.and_then(|()| match fs::hard_link(&aside, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !path.exists() => fs::rename(&aside, path),
        // another process was first, or it is there
        _ => Ok(()),
    });
    // it is gone where it was renamed
    let _ = fs::remove_file(&aside);
    put.and_then(|()| sync_folder_of(path))
}

fn write(aside: &Path, synced: bool, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(aside)?);
    fill(&mut file)?;
    file.flush()?;
    if synced { file.get_ref().sync_all() } else { Ok(()) }
}

/// A hidden name in the same folder.
fn aside_of(path: &Path) -> PathBuf {
    let mut hidden = OsString::from(".");
    hidden.push(path.file_name().unwrap_or_default());
    hidden.push(".tmp");
    path.with_file_name(hidden)
}

/// Makes the name of a file durable, where the system can.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes the names in a folder durable, where the system can.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    match File::open(folder)?.sync_all() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

/// Moves a file away that cannot be used. Answers where it is.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = damaged(path);
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// Keeps a copy of a file that is about to be written anew without what cannot be read in it. Answers where it is.
pub(super) fn keep_copy(path: &Path) -> io::Result<PathBuf> {
    let copy = damaged(path);
    let copied = fs::copy(path, &copy);
    if copied.is_err() {
        let _ = fs::remove_file(&copy);
    }
    copied.map(|_| copy)
}

fn damaged(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{}", clock::now_ms()));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(windows)]
    #[test]
    fn a_file_that_another_program_has_open_for_a_moment_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table");
        fs::write(&path, "before").unwrap();
        let held = std::os::windows::fs::OpenOptionsExt::share_mode(File::options().read(true), 0).open(&path).unwrap();
        let closes = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(held);
        });
        replace(&path, |file| file.write_all(b"after")).unwrap();
        closes.join().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after");
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_file_that_cannot_be_written_to_its_end_leaves_the_old_one_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        for put in [replace, replace_synced] as [fn(&Path, fn(&mut BufWriter<File>) -> io::Result<()>) -> _; 2] {
            put(&path, |file| file.write_all(b"old")).unwrap();
            let failed = put(&path, |file| {
                file.write_all(b"half")?;
                Err(io::ErrorKind::StorageFull.into())
            });
            assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
            assert_eq!(fs::read(&path).unwrap(), b"old");
            assert_eq!(names(folder.path()), ["table.csv"]);
        }
    }
}
