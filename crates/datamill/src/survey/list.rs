//! A topic as a list of files, in the order of their paths.

use std::sync::Arc;

use datamill_broker::Log;

use super::error::SurveyError;
use super::pass;
use super::table::{Table, versions};
use super::upload::Upload;
use crate::assemble::Filter;
use crate::control::Control;

/// An upload with the number of its version among those of its path, from 1: uploads of the same content have the same
/// number.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The upload.
    pub upload: Upload,
    /// Number of its version.
    pub version: usize,
}

/// What a list is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages of the topic.
    pub messages: u64,
    /// Messages that are not chunks of files.
    pub others: u64,
    /// Characters of the longest path.
    pub longest_path: usize,
}

/// Takes a list.
pub trait Listing {
    /// Once, before all uploads.
    ///
    /// # Errors
    /// What ends the listing.
    fn begin(&mut self, totals: Totals) -> Result<(), SurveyError>;

    /// One upload after another.
    ///
    /// # Errors
    /// What ends the listing.
    fn upload(&mut self, listed: &Listed) -> Result<(), SurveyError>;
}

/// Hands out all uploads of files whose path is `wanted`, by path, the oldest of a path first.
///
/// # Errors
/// Those of the log, of the temporary table and of `listing`.
pub fn list(
    log: &Arc<dyn Log>,
    topic: &str,
    wanted: impl Fn(&str) -> bool + Send + 'static,
    control: &Control,
    listing: &mut dyn Listing,
) -> Result<(), SurveyError> {
    let topic = log.topic(topic)?;
    let table = Table::new()?;
    let filter: Filter = Box::new(wanted);
    let passed = pass::uploads(log, &topic, filter, control, &mut |upload| table.add_upload(&upload))?;
    listing.begin(Totals { messages: passed.messages, others: passed.others, longest_path: table.longest_path()? })?;
    table.each_path(&mut |_, known| {
        let numbers = versions(&known.uploads);
        known
            .uploads
            .into_iter()
            .zip(numbers)
            .try_for_each(|(upload, version)| listing.upload(&Listed { upload, version }))
    })
}

/// All uploads of one path, the oldest first.
///
/// # Errors
/// As [`list`].
pub(super) fn list_path(
    log: &Arc<dyn Log>,
    topic: &str,
    path: &str,
    control: &Control,
) -> Result<Vec<Listed>, SurveyError> {
    let (mut found, path) = (Found(Vec::new()), path.to_owned());
    list(log, topic, move |other| other == path, control, &mut found)?;
    Ok(found.0)
}

struct Found(Vec<Listed>);

impl Listing for Found {
    fn begin(&mut self, _: Totals) -> Result<(), SurveyError> {
        Ok(())
    }

    fn upload(&mut self, listed: &Listed) -> Result<(), SurveyError> {
        self.0.push(listed.clone());
        Ok(())
    }
}
