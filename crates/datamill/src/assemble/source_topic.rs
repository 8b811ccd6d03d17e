//! The topic that files are read from.

use std::sync::Arc;

use datamill_broker::OwnFiles;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceTopic {
    pub(crate) name: Arc<str>,
    /// See [`super::DownloadDataFile::topic_id`].
    pub(crate) id: Arc<str>,
    /// What identified it where the log did not tell one topic of its name from another.
    pub(crate) by_name: Option<Arc<str>>,
    /// See [`super::DownloadDataFile::own_files`].
    pub(crate) own_files: OwnFiles,
}
