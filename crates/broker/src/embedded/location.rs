//! Where the file of a log may be: in a folder that exists, on a disk of this machine.
//!
//! The file itself is never opened here: closing it would drop the locks that SQLite holds on it in
//! this process.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// The real path of the file that `sqlite:PATH` names, or why there can be no log.
pub(super) fn resolve(path: &str) -> Result<PathBuf> {
    let refused = |text: String| Err(Error::new(ErrorKind::Settings, text));
    if path.is_empty() {
        return refused("`sqlite:` names no file: write `sqlite:PATH`".to_owned());
    }
    if path == ":memory:" || path.starts_with("file:") || path.contains('\0') {
        return refused(format!("`sqlite:{}` is no file: write `sqlite:PATH`", path.escape_debug()));
    }
    let given = Path::new(path);
    let Some(file_name) = given.file_name().filter(|_| !path.ends_with(std::path::is_separator)) else {
        return refused(format!("log file `{path}` is a folder: name a file in it, like `sqlite:{path}/datamill.db`"));
    };
    if given.is_dir() {
        return refused(format!("log file `{path}` is a folder: name a file in it, like `sqlite:{path}/datamill.db`"));
    }
    let folder = given.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let folder = folder.display();
        return refused(format!("the folder `{folder}` of the log file `{path}` does not exist: create it first"));
    }
    let real = match given.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = folder.canonicalize().map_err(|error| unreachable_folder(path, error))?;
            folder.join(file_name)
        }
        Err(error) => return Err(unreachable_folder(path, error)),
    };
    if let Some(kind) = network_file_system(real.parent().unwrap_or(Path::new("/"))) {
        return refused(format!(
            "log file `{path}` is on a network file system ({kind}), where its locks and its memory cannot be shared \
             safely: put it on a disk of this machine, or use Apache Kafka for work on several machines"
        ));
    }
    Ok(real)
}

fn unreachable_folder(path: &str, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Settings,
    };
    Error::with_source(kind, format!("log file `{path}` cannot be reached"), error)
}

/// What network file system a folder is on; `None` for a local disk, and where the system does not tell.
#[cfg(target_os = "linux")]
fn network_file_system(folder: &Path) -> Option<String> {
    let magic = rustix::fs::statfs(folder).ok()?.f_type as u32;
    if magic != FUSE {
        return network_name(magic).map(str::to_owned);
    }
    // FUSE is the way in for disks (`fuseblk`), folders of a host (`virtiofs`), and `sshfs` alike; the
    // table of mounts tells which.
    let device = std::os::unix::fs::MetadataExt::dev(&folder.metadata().ok()?);
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    mount_type(&mounts, &device).filter(|kind| kind.starts_with("fuse.")).map(str::to_owned)
}

/// A drive that a share has gets the path of the share when it is made real.
#[cfg(windows)]
fn network_file_system(folder: &Path) -> Option<String> {
    use std::path::{Component, Prefix};

    let Component::Prefix(prefix) = folder.components().next()? else { return None };
    matches!(prefix.kind(), Prefix::UNC(..) | Prefix::VerbatimUNC(..)).then(|| "a share".to_owned())
}

#[cfg(not(any(target_os = "linux", windows)))]
fn network_file_system(_folder: &Path) -> Option<String> {
    None
}

/// Number of FUSE in `statfs`, from Linux' `magic.h`, as those below.
#[cfg(target_os = "linux")]
const FUSE: u32 = 0x6573_5546;

/// Name of a network or cluster file system.
#[cfg(target_os = "linux")]
fn network_name(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x0000_6969 => "NFS",
        0x0000_517b | 0xfe53_4d42 => "SMB",
        0xff53_4d42 => "CIFS",
        0x0000_564c => "NCP",
        0x0102_1997 => "9P",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x00c3_6400 => "Ceph",
        0x0bd0_0bd0 => "Lustre",
        0x1983_0326 => "BeeGFS",
        0x4750_4653 => "GPFS",
        0x7461_636f => "OCFS2",
        0x0116_1970 => "GFS2",
        _ => return None,
    })
}

/// Type of the file system of a device in the table of mounts (`proc(5)`, mountinfo).
#[cfg(target_os = "linux")]
fn mount_type<'a>(mounts: &'a str, device: &str) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        (mount.split(' ').nth(2)? == device).then(|| source.split(' ').next())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &str) -> String {
        let error = resolve(path).expect_err("no place for a log");
        assert_eq!(error.kind(), ErrorKind::Settings, "{error:?}");
        error.to_string()
    }

    #[test]
    fn what_is_no_file_is_refused() {
        assert_eq!(refusal(""), "`sqlite:` names no file: write `sqlite:PATH`");
        assert_eq!(refusal(":memory:"), "`sqlite::memory:` is no file: write `sqlite:PATH`");
        assert_eq!(refusal("file:x?mode=memory"), "`sqlite:file:x?mode=memory` is no file: write `sqlite:PATH`");
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap();
        for path in [folder, ".", "..", &format!("{folder}/"), &format!("{folder}/none/")] {
            assert!(refusal(path).contains("is a folder"), "{path}");
        }
        let told = refusal(&format!("{folder}/none/log.db"));
        assert!(told.contains("does not exist: create it first"), "{told}");
    }

    #[cfg(windows)]
    #[test]
    fn shares_are_known() {
        for share in [r"\\server\lab\logs", r"\\?\UNC\server\lab\logs"] {
            assert!(network_file_system(Path::new(share)).is_some(), "{share}");
        }
        for disk in [r"C:\logs", r"\\?\C:\logs"] {
            assert_eq!(network_file_system(Path::new(disk)), None, "{disk}");
        }
    }

    #[test]
    fn a_path_becomes_the_real_path() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        assert_eq!(resolve(&path("log.db")).unwrap(), real.join("log.db"));
        std::fs::write(path("log.db"), "").unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(path("log.db"), path("link.db")).unwrap();
            assert_eq!(resolve(&path("link.db")).unwrap(), real.join("log.db"));
        }
        assert_eq!(resolve("log.db").unwrap(), Path::new(".").canonicalize().unwrap().join("log.db"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn network_file_systems_are_known() {
        let local: [u32; 4] = [0xef53, 0x0102_1994, 0x5846_5342, 0x9123_683e];
        assert_eq!(local.map(network_name), [None; 4]);
        assert_eq!([0x6969, 0xff53_4d42, 0x517b].map(network_name), [Some("NFS"), Some("CIFS"), Some("SMB")]);
        let mounts = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                      90 22 0:45 / /mnt/far rw,nosuid shared:9 master:1 - fuse.sshfs me@host:/data rw\n\
                      91 22 0:46 / /mnt/stick rw - fuseblk /dev/sdb1 rw\n";
        assert_eq!(mount_type(mounts, "0:45"), Some("fuse.sshfs"));
        assert_eq!(mount_type(mounts, "0:46"), Some("fuseblk"));
        assert_eq!(mount_type(mounts, "0:47"), None);
        assert_eq!(network_file_system(Path::new("/proc")), None);
    }
}
