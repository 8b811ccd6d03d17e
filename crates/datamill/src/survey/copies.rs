//! The copies of files in a third place: a folder that a download fills, or an object store.

#[cfg(feature = "object-store")]
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use datamill_wire::Sha512Hasher;
use walkdir::WalkDir;

use super::error::SurveyError;
use super::table::{CopyOf, Table};
use super::upload::Upload;
use crate::mark::OWN;
use crate::upload::{Stamp, is_logs};

/// Some file systems keep times in steps of two seconds.
const TIME_STEP_NS: f64 = 2e9;
/// How exact the times in chunk messages are.
const TIME_ERROR_NS: f64 = 1e3;

/// Where the copies are.
#[derive(Debug, Clone)]
pub enum Copies {
    /// In a folder, each under its path.
    Mirror(PathBuf),
    /// In an object store, as `datamill transfer` puts them there.
    #[cfg(feature = "object-store")]
    Store(StoreCopies),
}

/// An object store.
#[cfg(feature = "object-store")]
#[derive(Clone)]
pub struct StoreCopies {
    /// Its URL, as `datamill transfer --to` takes it.
    pub url: String,
    /// What `[s3]` of the configuration says.
    pub section: Option<BTreeMap<String, String>>,
}

/// Without the section, which holds secrets.
#[cfg(feature = "object-store")]
impl std::fmt::Debug for StoreCopies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreCopies").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Copies {
    /// What it is called in a sentence.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Mirror(folder) => folder.display().to_string(),
            #[cfg(feature = "object-store")]
            Self::Store(store) => store.url.clone(),
        }
    }

    /// Puts what is there of files of this topic into the table.
    #[cfg_attr(not(feature = "object-store"), expect(unused_variables, reason = "a mirror has no section for a topic"))]
    pub(super) fn collect(&self, topic: &str, table: &Table) -> Result<(), SurveyError> {
        match self {
            Self::Mirror(folder) => walk(folder, table),
            #[cfg(feature = "object-store")]
            Self::Store(store) => {
                crate::deliver::list_store(&store.url, store.section.as_ref(), topic, &mut |path, size| {
                    table.add_copy(path, CopyOf { size, mtime_ns: None })
                })
            }
        }
    }

    /// Whether a copy is one of this upload: by size and time, and by its content where these do not decide or all of it
    /// is to be looked at. What is in a store is told by its size alone.
    pub(super) fn is_of(&self, path: &str, copy: &CopyOf, upload: &Upload, verify: bool) -> io::Result<bool> {
        if copy.size != upload.size {
            return Ok(false);
        }
        match self {
            Self::Mirror(folder) => {
                let has_time = copy.mtime_ns.zip(upload.modified).is_some_and(|(there, modified)| {
                    // a file system that keeps whole seconds may keep every second one
                    let step = if there % 1_000_000_000 == 0 { TIME_STEP_NS } else { TIME_ERROR_NS };
                    (there as f64 - modified * 1e9).abs() < step
                });
                Ok(has_time && !verify || sha512_of(&folder.join(path))? == upload.sha512)
            }
            #[cfg(feature = "object-store")]
            Self::Store(_) => Ok(true),
        }
    }
}

fn walk(folder: &Path, table: &Table) -> Result<(), SurveyError> {
    let failed = |path: &Path, source| SurveyError::Path { path: path.to_owned(), source };
    fs::read_dir(folder).map_err(|error| failed(folder, error))?;
    let is_own = |entry: &walkdir::DirEntry| {
        entry.depth() == 1 && entry.file_type().is_dir() && (entry.file_name() == OWN || is_logs(entry.path()))
    };
    for entry in WalkDir::new(folder).min_depth(1).into_iter().filter_entry(|entry| !is_own(entry)) {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(folder).to_owned();
            failed(&path, error.into())
        })?;
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        let parts: Option<Vec<&str>> = relative.iter().map(|part| part.to_str()).collect();
        if let (true, Some(parts)) = (metadata.is_file(), parts) {
            let Stamp { size, mtime_ns } = Stamp::of(&metadata);
            table.add_copy(&parts.join("/"), CopyOf { size, mtime_ns })?;
        }
    }
    Ok(())
}

/// Bytes that are read at a time.
const BLOCK: usize = 256 << 10;

/// SHA-512 of a file.
pub(super) fn sha512_of(path: &Path) -> io::Result<[u8; 64]> {
    let (mut file, mut hasher, mut block) = (File::open(path)?, Sha512Hasher::new(), vec![0; BLOCK]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&block[..read]),
        }
    }
}
