//! A topic as a list of files, in the order of their paths.

use std::sync::Arc;

use datamill_broker::{Log, nearest};
use parking_lot::Mutex;

use super::error::SurveyError;
use super::pass;
use super::table::{Table, versions};
use super::upload::Upload;
use crate::assemble::Filter;
use crate::control::Control;

/// Paths that may have been meant: most that are remembered, and most that are named.
const MOST_SEEN: usize = 100;
const MOST_NAMED: usize = 3;

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

/// All uploads of one path, the oldest first; where there are none, paths that may have been meant.
///
/// # Errors
/// As [`list`].
pub(super) fn list_path(
    log: &Arc<dyn Log>,
    topic: &str,
    path: &str,
    control: &Control,
) -> Result<(Vec<Listed>, Vec<String>), SurveyError> {
    let mut found = Found(Vec::new());
    let near = Arc::new(Mutex::new(Near::to(path)));
    let (seen, wanted) = (Arc::clone(&near), path.to_owned());
    let is_wanted = move |other: &str| {
        let is_it = other == wanted;
        if !is_it {
            seen.lock().see(other);
        }
        is_it
    };
    list(log, topic, is_wanted, control, &mut found)?;
    let near = near.lock().best();
    Ok((found.0, near))
}

/// Paths that look like one, or have its name in another folder.
struct Near {
    path: String,
    name: String,
    found: Vec<String>,
}

impl Near {
    fn to(path: &str) -> Self {
        Self { path: path.to_owned(), name: name_of(path).to_owned(), found: Vec::new() }
    }

    fn see(&mut self, other: &str) {
        // the usual case first: nearly all paths are others altogether
        let has_its_name = name_of(other).eq_ignore_ascii_case(&self.name);
        let has_its_length = other.len().abs_diff(self.path.len()) <= 1 + self.path.len() / 5;
        let is_near = has_its_name || has_its_length && !nearest(&self.path, [other], 1).is_empty();
        if is_near && self.found.len() < MOST_SEEN && !self.found.iter().any(|known| known == other) {
            self.found.push(other.to_owned());
        }
    }

    fn best(&self) -> Vec<String> {
        let near = nearest(&self.path, self.found.iter().map(String::as_str), MOST_NAMED);
        let mut best: Vec<String> = near.into_iter().map(str::to_owned).collect();
        for path in &self.found {
            if best.len() < MOST_NAMED && !best.contains(path) && name_of(path).eq_ignore_ascii_case(&self.name) {
                best.push(path.clone());
            }
        }
        best
    }
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
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
