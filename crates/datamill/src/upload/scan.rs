//! A folder tree becomes candidates: the files that may be sent, and for all else the reason to leave
//! it out. Nothing is opened here.
//!
//! A hidden folder, a folder of datamill's own and a link to a folder are one entry each; what is in them is
//! not looked at, so no chain of links can make a walk endless.

mod walk;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use datamill_broker::OwnFiles;
use datamill_wire::Chunk;
use datamill_wire::name::fault_on_windows;

use super::UploadSettings;
use super::filter::{Filter, Reason, has_hidden_attribute, is_hidden};
use super::own_folders::OwnFolders;
use super::prefix::PathPrefix;
use super::stamp::{Stamp, Trace};

pub(super) use walk::{Walk, Walker};

/// A file that may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its path relative to the root, with `/`, behind the prefix: under this path it is rebuilt.
    pub relative: String,
    /// Where it is read; for a link the file that it leads to.
    pub path: PathBuf,
    /// What it looked like when it was found.
    pub stamp: Stamp,
    /// What else the file system told.
    pub trace: Option<Trace>,
}

/// What a walk found.
#[derive(Debug)]
pub(crate) enum Found {
    /// A file that may be sent.
    File(Candidate),
    /// A file or folder that is left out.
    LeftOut {
        /// Its path relative to the root, behind the prefix, readable, with `/` at the end of a folder's.
        path: String,
        /// Why.
        reason: Reason,
        /// What the file system or the message format said, if one of them did.
        detail: Option<String>,
    },
}

impl Found {
    fn left_out(path: impl Into<String>, reason: Reason) -> Self {
        Self::LeftOut { path: path.into(), reason, detail: None }
    }

    /// The path of what was found.
    pub(super) fn path(&self) -> &str {
        match self {
            Self::File(file) => &file.relative,
            Self::LeftOut { path, .. } => path,
        }
    }

    /// The path of what was wanted and cannot be sent.
    pub(super) fn failure(&self) -> Option<&str> {
        match self {
            Self::LeftOut { path, reason, .. } if reason.is_failure() => Some(path),
            _ => None,
        }
    }

    fn unreadable(path: impl Into<String>, error: &io::Error) -> Self {
        let detail = Some(error.to_string());
        Self::LeftOut { path: path.into(), reason: Reason::Unreadable, detail }
    }
}

/// Finds the files below a root.
#[derive(Debug)]
pub(crate) struct Scanner {
    root: PathBuf,
    prefix: PathPrefix,
    filter: Filter,
    own: OwnFiles,
    own_folders: OwnFolders,
}

impl Scanner {
    /// A scanner of everything below `root`, whose paths get `prefix`; `own` are the files of the log.
    ///
    /// # Errors
    /// Where `root` is not there or not a folder.
    pub(crate) fn new(root: &Path, prefix: PathPrefix, filter: Filter, own: OwnFiles) -> io::Result<Self> {
        let root = fs::canonicalize(root)?;
        if !root.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a folder"));
        }
        Ok(Self { root, prefix, filter, own, own_folders: OwnFolders::default() })
    }

    /// The root, without links.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Goes over to another root, which has no links in it.
    pub(crate) fn go_to(&mut self, root: &Path) {
        root.clone_into(&mut self.root);
    }

    /// Where the file or folder with this relative path is, as [`Candidate::relative`] has it. What is above the prefix is
    /// the root.
    pub(crate) fn path_of(&self, relative: &str) -> PathBuf {
        let below = self.prefix.cut(relative);
        let parts = below.split('/').filter(|part| !part.is_empty());
        self.root.iter().chain(parts.map(OsStr::new)).collect()
    }

    /// Looks at one path below the root, as a walk would. `None` where nothing is there (any more),
    /// where it is a folder, and where it is not reached without links to folders.
    pub(crate) fn look(&self, path: &Path) -> Option<Found> {
        let folder = path.parent()?;
        let reached_without_links = folder == self.root || fs::canonicalize(folder).is_ok_and(|real| real == folder);
        if !path.starts_with(&self.root) || !reached_without_links {
            return None;
        }
        let metadata = fs::symlink_metadata(path).ok()?;
        if metadata.is_dir() {
            return None;
        }
        if let Some(found) = self.folders_above(path) {
            return Some(found);
        }
        let name = path.file_name()?;
        let Some(relative) = self.relative(path) else {
            return Some(Found::left_out(self.readable(path), Reason::NotUtf8));
        };
        let place = Place { folder, name, relative: &relative };
        self.entry(&place, metadata.is_symlink(), || Ok(metadata), &mut |_, _, _| false)
    }

    /// Whether a walk from the root would come to this folder.
    pub(crate) fn is_entered(&self, folder: &Path) -> bool {
        self.folders_above(&folder.join("in it")).is_none() && fs::canonicalize(folder).is_ok_and(|real| real == folder)
    }

    /// The folder between the root and this path that is not entered, if there is one.
    fn folders_above(&self, path: &Path) -> Option<Found> {
        let mut above: Vec<&Path> = path.ancestors().skip(1).take_while(|above| *above != self.root).collect();
        above.reverse();
        above.into_iter().find_map(|folder| self.folder(folder))
    }

    /// Why a folder is not entered, if so.
    fn folder(&self, path: &Path) -> Option<Found> {
        let Some(relative) = self.relative(path) else {
            return Some(Found::left_out(format!("{}/", self.readable(path)), Reason::NotUtf8));
        };
        let is_hidden = is_hidden(&relative) || is_hidden_folder(path);
        let reason = if is_hidden { Some(Reason::Hidden) } else { self.own_folders.reason(path) };
        Some(Found::left_out(format!("{relative}/"), reason?))
    }

    /// What there is to say of what is no folder; `None` also where `is_settled` says so of a file.
    fn entry(
        &self,
        place: &Place<'_>,
        is_link: bool,
        metadata: impl FnOnce() -> io::Result<fs::Metadata>,
        is_settled: &mut dyn FnMut(&str, Stamp, Option<Trace>) -> bool,
    ) -> Option<Found> {
        let relative = place.relative;
        if is_hidden(relative) {
            return Some(Found::left_out(relative, Reason::Hidden));
        }
        let (target, metadata) = if is_link {
            match self.follow(&place.path()) {
                Ok((target, metadata)) => (Some(target), metadata),
                Err(reason) => return Some(Found::left_out(relative, reason)),
            }
        } else {
            match metadata() {
                Ok(metadata) => (None, metadata),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                Err(error) => return Some(Found::unreadable(relative, &error)),
            }
        };
        if !metadata.is_file() {
            return Some(Found::left_out(relative, Reason::Special));
        }
        if has_hidden_attribute(&metadata) {
            return Some(Found::left_out(relative, Reason::Hidden));
        }
        let name = target.as_ref().and_then(|target| target.file_name()).unwrap_or(place.name);
        let may_be_own = self.own.may_have(name, &metadata);
        let target = || target.clone().unwrap_or_else(|| place.path());
        if may_be_own && self.own.has(&target(), &metadata) {
            return Some(Found::left_out(relative, Reason::OwnTopics));
        }
        if let Some(reason) = self.filter.leaves_out(self.prefix.cut(relative)) {
            return Some(Found::left_out(relative, reason));
        }
        if is_settled(relative, Stamp::of(&metadata), Trace::of(&metadata)) {
            return None;
        }
        let path = target();
        match fresh(&path, metadata) {
            Ok(metadata) => Some(candidate(relative.to_owned(), path, &metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(Found::unreadable(relative, &error)),
        }
    }

    /// The file that a link leads to, if it may be sent in the link's place.
    fn follow(&self, path: &Path) -> Result<(PathBuf, fs::Metadata), Reason> {
        let target = fs::canonicalize(path).map_err(|_| Reason::BrokenLink)?;
        let metadata = fs::metadata(&target).map_err(|_| Reason::BrokenLink)?;
        if metadata.is_dir() {
            return Err(Reason::FolderLink);
        }
        if !target.starts_with(&self.root) {
            return Err(Reason::LinkOutside);
        }
        if self.relative(&target).is_some_and(|target| is_hidden(&target)) {
            return Err(Reason::Hidden);
        }
        match self.folders_above(&target) {
            Some(Found::LeftOut { reason, .. }) => Err(reason),
            _ => Ok((target, metadata)),
        }
    }

    /// The path below the root with `/`, behind the prefix; `None` where it is not UTF-8.
    fn relative(&self, path: &Path) -> Option<String> {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        let parts: Option<Vec<&str>> = below.components().map(part).collect();
        Some(self.prefix.before(&parts?.join("/")))
    }

    fn readable(&self, path: &Path) -> String {
        self.prefix.before(&path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy())
    }
}

/// What a file is like. A folder of Windows tells of its files what held when they were closed last, so a file that is being
/// written to is asked itself.
fn fresh(path: &Path, told: fs::Metadata) -> io::Result<fs::Metadata> {
    if cfg!(windows) { fs::metadata(path) } else { Ok(told) }
}

fn is_hidden_folder(path: &Path) -> bool {
    cfg!(windows) && fs::symlink_metadata(path).is_ok_and(|metadata| has_hidden_attribute(&metadata))
}

/// Where something is that was found.
struct Place<'a> {
    folder: &'a Path,
    name: &'a OsStr,
    /// Its path relative to the root, with `/`, behind the prefix.
    relative: &'a str,
}

impl Place<'_> {
    fn path(&self) -> PathBuf {
        self.folder.join(self.name)
    }
}

fn part(component: Component<'_>) -> Option<&str> {
    component.as_os_str().to_str()
}

/// One file that the user named: sent under its path below the root of these settings, or under its name alone where there
/// is none, whatever the default rules say of it.
///
/// # Errors
/// Where it is not there, cannot be looked at, or is not below the root.
pub(super) fn named_file(path: &Path, settings: &UploadSettings, own: &OwnFiles) -> io::Result<Found> {
    let metadata = fs::metadata(path)?;
    let below = match &settings.root {
        None => path.file_name().and_then(OsStr::to_str).map(str::to_owned),
        Some(root) => below(path, root)?,
    };
    let Some(below) = below else {
        return Ok(Found::left_out(path.to_string_lossy(), Reason::NotUtf8));
    };
    let relative = settings.path_prefix.before(&below);
    if !metadata.is_file() {
        return Ok(Found::left_out(relative, Reason::Special));
    }
    if own.has(&fs::canonicalize(path)?, &metadata) {
        return Ok(Found::left_out(relative, Reason::OwnTopics));
    }
    if settings.filter.has_pattern() && settings.filter.leaves_out(&below).is_some() {
        return Ok(Found::left_out(relative, Reason::Pattern));
    }
    Ok(candidate(relative, path.to_owned(), &metadata))
}

/// The path of a file relative to a folder, as both are named or, with links in them, as they really are. `None` where
/// it is not UTF-8.
fn below(path: &Path, root: &Path) -> io::Result<Option<String>> {
    let (named, really) = (std::path::absolute(path)?, fs::canonicalize(path)?);
    let relative = named
        .strip_prefix(std::path::absolute(root)?)
        .ok()
        .filter(|relative| relative.components().all(|component| matches!(component, Component::Normal(_))));
    let root_really = fs::canonicalize(root)
        .map_err(|error| io::Error::new(error.kind(), format!("the folder `{}`: {error}", root.display())))?;
    let Some(relative) = relative.or_else(|| really.strip_prefix(&root_really).ok()) else {
        return Err(io::Error::other(format!("it is not below the folder `{}`", root.display())));
    };
    let parts: Option<Vec<&str>> = relative.components().map(part).collect();
    Ok(parts.map(|parts| parts.join("/")))
}

fn candidate(relative: String, path: PathBuf, metadata: &fs::Metadata) -> Found {
    match refusal(&relative) {
        None => {
            let (stamp, trace) = (Stamp::of(metadata), Trace::of(metadata));
            Found::File(Candidate { relative, path, stamp, trace })
        }
        Some(why) => Found::LeftOut { path: relative, reason: Reason::Name, detail: Some(why) },
    }
}

/// Splits a relative path into folder (empty at the root) and name.
pub(super) fn split(relative: &str) -> (&str, &str) {
    relative.rsplit_once('/').unwrap_or(("", relative))
}

/// What the message format has against a path.
pub(super) fn refusal(relative: &str) -> Option<String> {
    let (subdir, filename) = split(relative);
    let probe = Chunk {
        filename,
        file_hash: &[0; 64],
        chunk_hash: &[0; 64],
        offset: 0,
        index: 1,
        total: 1,
        subdir,
        filename_append: "",
        data: &[],
        mtime: None,
    };
    let on_windows = || {
        let fault = if cfg!(windows) { fault_on_windows(relative) } else { None };
        fault.map(|fault| format!("`{relative}` {fault}"))
    };
    probe.check().err().map(|error| error.to_string()).or_else(on_windows)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn write(root: &Path, relative: &str) {
        let path = root.join(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, relative).unwrap();
    }

    fn walk(root: &Path, filter: Filter) -> (Vec<String>, BTreeMap<String, Reason>) {
        let scanner = Scanner::new(root, PathPrefix::default(), filter, OwnFiles::default()).unwrap();
        let (mut files, mut left_out) = (Vec::new(), BTreeMap::new());
        scanner
            .walk(scanner.root(), &mut |found| {
                match found {
                    Found::File(file) => {
                        assert_eq!(Stamp::of(&fs::metadata(&file.path).unwrap()), file.stamp);
                        files.push(file.relative);
                    }
                    Found::LeftOut { path, reason, .. } => {
                        left_out.insert(path, reason);
                    }
                }
                true
            })
            .unwrap();
        files.sort();
        (files, left_out)
    }

    #[test]
    fn files_are_found_and_the_rest_has_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "b.csv",
            "a/deep/er/x y.csv",
            "a/ünï.csv",
            "quote'\";.csv",
            ".hidden/in",
            "a/.b",
            "LOGS/uploaded_to_t.csv",
            "a/LOGS/data.csv",
            "run.log",
            "~$x.docx",
            "big.part",
        ] {
            write(dir.path(), name);
        }
        let (files, left_out) = walk(dir.path(), Filter::default_rules());
        assert_eq!(files, ["a/LOGS/data.csv", "a/deep/er/x y.csv", "a/ünï.csv", "b.csv", "quote'\";.csv"]);
        let expected = BTreeMap::from([
            (".hidden/".to_owned(), Reason::Hidden),
            ("a/.b".to_owned(), Reason::Hidden),
            ("LOGS/".to_owned(), Reason::OwnFolder),
            ("run.log".to_owned(), Reason::LogFile),
            ("~$x.docx".to_owned(), Reason::OfficeLock),
            ("big.part".to_owned(), Reason::Unfinished),
        ]);
        assert_eq!(left_out, expected);
    }

    #[test]
    fn a_prefix_is_before_every_path_and_no_rule_looks_at_it() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["top.csv", "a/b.csv", "a/run.log", ".hidden/in", "a/.b"] {
            write(dir.path(), name);
        }
        let prefix: PathPrefix = "lab 1/x".parse().unwrap();
        let scan = |filter| {
            let scanner = Scanner::new(dir.path(), prefix.clone(), filter, OwnFiles::default()).unwrap();
            let mut found = Vec::new();
            let take = &mut |one: Found| {
                if let Found::File(file) = &one {
                    assert_eq!(scanner.path_of(&file.relative), file.path);
                }
                found.push(one.path().to_owned());
                true
            };
            scanner.walk(scanner.root(), take).unwrap();
            found.sort();
            for path in ["lab 1/x", "lab 1", ""] {
                assert_eq!(scanner.path_of(path), scanner.root());
            }
            assert_eq!(scanner.path_of("lab 1/x/a/"), scanner.root().join("a"));
            let looked = scanner.look(&scanner.root().join("a/b.csv")).unwrap();
            (found, matches!(looked, Found::File(file) if file.relative == "lab 1/x/a/b.csv"))
        };
        let all = ["lab 1/x/.hidden/", "lab 1/x/a/.b", "lab 1/x/a/b.csv", "lab 1/x/a/run.log", "lab 1/x/top.csv"];
        assert_eq!(scan(Filter::default_rules()), (all.map(str::to_owned).to_vec(), true));
        assert!(scan(Filter::from_python("a/b").unwrap()).1);
        assert!(!scan(Filter::from_python("lab").unwrap()).1);
    }

    #[cfg(unix)]
    #[test]
    fn links_to_files_are_followed_inside_the_root_only() {
        use std::os::unix::fs::symlink;
        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), "secret");
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "a/real.csv");
        write(root, ".hidden/h.csv");
        symlink("a/real.csv", root.join("good.csv")).unwrap();
        symlink(outside.path().join("secret"), root.join("outside.csv")).unwrap();
        symlink("nowhere", root.join("broken.csv")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink(".", root.join("a/up")).unwrap();
        symlink(outside.path(), root.join("away")).unwrap();
        symlink(".hidden/h.csv", root.join("to-hidden.csv")).unwrap();
        let (files, left_out) = walk(root, Filter::default_rules());
        assert_eq!(files, ["a/real.csv", "good.csv"]);
        let expected = BTreeMap::from([
            (".hidden/".to_owned(), Reason::Hidden),
            ("a/up".to_owned(), Reason::FolderLink),
            ("away".to_owned(), Reason::FolderLink),
            ("broken.csv".to_owned(), Reason::BrokenLink),
            ("loop".to_owned(), Reason::BrokenLink),
            ("outside.csv".to_owned(), Reason::LinkOutside),
            ("to-hidden.csv".to_owned(), Reason::Hidden),
        ]);
        assert_eq!(left_out, expected);
        let scanner = Scanner::new(root, PathPrefix::default(), Filter::default_rules(), OwnFiles::default()).unwrap();
        let through = scanner.root().join("a/up/real.csv");
        assert!(scanner.look(&through).is_none());
        assert!(scanner.look(&outside.path().join("secret")).is_none());
        assert!(matches!(scanner.look(&scanner.root().join("good.csv")), Some(Found::File(_))));
    }

    #[cfg(unix)]
    #[test]
    fn sockets_and_names_that_are_not_utf_8_are_reported() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("sock")).unwrap();
        fs::write(dir.path().join(OsStr::from_bytes(b"bad\xff.csv")), "x").unwrap();
        fs::create_dir(dir.path().join(OsStr::from_bytes(b"dir\xff"))).unwrap();
        let (files, left_out) = walk(dir.path(), Filter::default_rules());
        assert!(files.is_empty());
        let expected = BTreeMap::from([
            ("bad\u{fffd}.csv".to_owned(), Reason::NotUtf8),
            ("dir\u{fffd}/".to_owned(), Reason::NotUtf8),
            ("sock".to_owned(), Reason::Special),
        ]);
        assert_eq!(left_out, expected);
    }

    #[test]
    fn names_with_line_breaks_are_files_like_others() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "two\nlines.csv");
        let (files, _) = walk(dir.path(), Filter::default_rules());
        assert_eq!(files, ["two\nlines.csv"]);
    }

    #[test]
    fn a_named_file_is_sent_whatever_the_default_rules_say() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "sub/run.log");
        let path = dir.path().join("sub/run.log");
        let named = |path: &Path, settings: &UploadSettings| named_file(path, settings, &OwnFiles::default());
        let found = named(&path, &UploadSettings::new("t")).unwrap();
        assert!(matches!(found, Found::File(file) if file.relative == "run.log"));
        let settings = UploadSettings { path_prefix: "lab".parse().unwrap(), ..UploadSettings::new("t") };
        let found = named(&path, &settings).unwrap();
        assert!(matches!(found, Found::File(file) if file.relative == "lab/run.log"));
        let settings = UploadSettings { filter: Filter::from_python(r".*\.csv$").unwrap(), ..settings };
        let found = named(&path, &settings).unwrap();
        assert!(matches!(found, Found::LeftOut { path, reason: Reason::Pattern, .. } if path == "lab/run.log"));
        assert!(named(&dir.path().join("none"), &settings).is_err());
    }

    #[test]
    fn a_root_that_is_no_folder_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "file");
        for name in ["file", "none"] {
            let (root, filter) = (dir.path().join(name), Filter::default_rules());
            assert!(Scanner::new(&root, PathPrefix::default(), filter, OwnFiles::default()).is_err());
        }
    }
}
