//! What a store has of a topic, without its content.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use object_store::path::Path;

use super::failure;
use super::key::{folder, path_of};
use super::target::{Target, TargetError};
use crate::survey::SurveyError;

/// Hands out path and size of each object that a transfer of files of this topic has put into the store that `url` names.
///
/// # Errors
/// A URL, settings or credentials that cannot be right, a store that does not answer, and those of `sink`.
pub(crate) fn list(
    url: &str,
    section: Option<&BTreeMap<String, String>>,
    topic: &str,
    sink: &mut dyn FnMut(&str, u64) -> Result<(), SurveyError>,
) -> Result<(), SurveyError> {
    // one that is there already is as good
    let _ = rustls::crypto::ring::default_provider().install_default();
    let target = Target::open_existing(url, section)?;
    let failed = |reason: String| SurveyError::Store { store: target.shown.clone(), reason };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| SurveyError::Target(TargetError::Threads(error)))?;
    runtime.block_on(async {
        target.check().await?;
        let folder = folder(&target.prefix, topic).map_err(|error| failed(error.to_string()))?;
        let mut objects = target.store.list(Some(&folder));
        while let Some(object) = objects.next().await {
            let object = object.map_err(|error| failed(failure::said(&error)))?;
            if let Some(path) = below(&object.location, &folder) {
                sink(&path_of(path), object.size)?;
            }
        }
        Ok(())
    })
}

/// The key of an object without that of the folder that it is in.
fn below<'k>(key: &'k Path, folder: &Path) -> Option<&'k str> {
    key.as_ref().strip_prefix(folder.as_ref())?.strip_prefix('/')
}
