//! Which files of a folder are on the topic, whole and in the version that the folder has: for uploads of what is missing,
//! and for the comparison of a folder with its topic.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datamill_broker::{ErrorKind, Log};

use super::copies::sha512_of;
use super::error::SurveyError;
use super::pass;
use super::table::{Table, distinct};
use super::upload::Upload;
use crate::assemble::CUT_OFF_MS;
use crate::control::Control;
use crate::facts::Facts;
use crate::report::clock;
use crate::upload::{Stamp, Summary, UploadError, UploadSettings, upload_where};

/// Which version of its path a file is. `None` where it is none of these uploads.
///
/// Size and modification time decide where one version alone has both. Else the file is hashed, if it may be one of them;
/// `always` hashes it in any case.
pub(super) fn version_of(at: &Path, stamp: Stamp, uploads: &[Upload], always: bool) -> io::Result<Option<[u8; 64]>> {
    let mtime = stamp.mtime_seconds();
    let as_large = || uploads.iter().filter(|upload| upload.is_whole() && upload.size == stamp.size);
    let alike = distinct(as_large().filter(|upload| upload.modified.is_some() && upload.modified == mtime));
    if let (false, 1, Some(sha512)) = (always, alike.len(), alike.first()) {
        return Ok(Some(**sha512));
    }
    let may_be = as_large().next().is_some() || uploads.iter().any(|upload| !upload.is_whole());
    if !may_be && !always {
        return Ok(None);
    }
    sha512_of(at).map(Some)
}

/// Uploads files and folders as [`upload_paths`] does, without the files that are on the topic already, whole and as they
/// are. The topic is read first.
///
/// # Errors
/// As [`upload_paths`], and what keeps the topic from being read.
///
/// [`upload_paths`]: crate::upload::upload_paths
pub fn upload_missing(
    log: &Arc<dyn Log>,
    paths: &[PathBuf],
    settings: &UploadSettings,
    control: &Control,
    facts: &Facts,
) -> Result<Summary, UploadError> {
    let mut on_topic = None;
    upload_where(log.as_ref(), paths, settings, control, facts, &mut |path, at, stamp| {
        let on_topic = match &mut on_topic {
            Some(read) => read,
            unread => unread.insert(OnTopic::read(log, &settings.topic, control)?),
        };
        on_topic.lacks(path, at, stamp)
    })
}

/// The uploads of a topic, by path.
struct OnTopic(Option<Table>);

impl OnTopic {
    /// Reads the topic. One that the first upload makes holds nothing.
    fn read(log: &Arc<dyn Log>, topic: &str, control: &Control) -> Result<Self, SurveyError> {
        let topic = match log.topic(topic) {
            Ok(topic) => topic,
            Err(error) if error.kind() == ErrorKind::UnknownTopic && log.makes_topics() => return Ok(Self(None)),
            Err(error) => return Err(error.into()),
        };
        let table = Table::new()?;
        pass::uploads(log, &topic, Box::new(|_| true), control, &mut |upload| table.add_upload(&upload))?;
        table.index_uploads()?;
        Ok(Self(Some(table)))
    }

    /// Of a file of the folder that is not there, whole: the other versions of it that were cut off. A file that cannot
    /// be read is not there: whoever sends it says why.
    fn lacks(&self, path: &str, at: &Path, stamp: Stamp) -> Result<Option<Vec<[u8; 64]>>, SurveyError> {
        let Some(table) = &self.0 else { return Ok(Some(Vec::new())) };
        let uploads = table.uploads_of(path)?;
        let version = version_of(at, stamp, &uploads, false).unwrap_or(None);
        if uploads.iter().any(|upload| upload.is_whole() && Some(upload.sha512) == version) {
            return Ok(None);
        }
        // one that goes on may be another machine's
        let now_ms = clock::now_ms();
        let is_cut_off = |upload: &&Upload| !upload.is_whole() && now_ms - upload.last_ms > CUT_OFF_MS;
        Ok(Some(uploads.iter().filter(is_cut_off).map(|upload| upload.sha512).collect()))
    }
}
