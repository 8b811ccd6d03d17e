//! What a watch knows of files beside what it sends: those that failed and are healed, and those that look as they were
//! delivered and may have been replaced.

use std::collections::HashSet;
use std::path::Path;

use tracing::info;

use super::Watch;
use crate::upload::scan::{Candidate, Found};
use crate::upload::suspects::Compared;

impl Watch<'_> {
    /// Takes off the list of what was not sent what a whole look at `folder` found no more, since it is not among what is
    /// `failing` there: folders that can be read now, and files that are gone or are as they were sent.
    pub(super) fn heal(&mut self, folder: &Path, failing: &HashSet<String>) {
        if self.not_sent.is_empty() {
            return;
        }
        let healed = |path: &String| {
            let place = self.scanner.path_of(path);
            let is_wanted = || match self.scanner.look(&place) {
                Some(Found::File(file)) => !self.is_recorded(&file),
                _ => false,
            };
            place.starts_with(folder) && !failing.contains(path) && (path.ends_with('/') || !is_wanted())
        };
        let healed: Vec<String> = self.not_sent.paths().filter(|path| healed(path)).cloned().collect();
        healed.iter().for_each(|path| self.not_sent.healed(path));
    }

    /// A file that is recorded as it looks: if its trace is another one, its content is to be compared.
    pub(super) fn suspect(&mut self, file: &Candidate) {
        let Some(ledger) = &mut self.run.ledger else {
            return;
        };
        match ledger.record.known(&file.relative) {
            Some(known) if known.stamp == file.stamp && known.sha512.is_some() && known.trace != file.trace => {
                match known.trace {
                    // A record of release 0.1.0 has none, or one that was written elsewhere.
                    None => ledger.is_same(&file.relative, file.trace),
                    Some(_) => self.suspects.add(file),
                }
            }
            _ => {}
        }
    }

    /// Goes on comparing files that may have been replaced.
    pub(super) fn compare(&mut self, hurry: bool) {
        if self.suspects.is_empty() || self.hold.holds || self.run.is_held() {
            return;
        }
        let mut suspects = std::mem::take(&mut self.suspects);
        let compared = suspects.step(hurry, |path| match self.scanner.look(&self.scanner.path_of(path)) {
            Some(Found::File(file)) if self.is_recorded(&file) => Some(file),
            _ => None,
        });
        self.suspects = suspects;
        for Compared { file, sha512 } in compared {
            let Some(ledger) = &mut self.run.ledger else {
                return;
            };
            if ledger.record.known(&file.relative).and_then(|known| known.sha512) == Some(sha512) {
                ledger.is_same(&file.relative, file.trace);
                self.run.summary.unchanged += 1;
            } else {
                info!(
                    file = file.relative,
                    "the file has another content, with the size and the time that it had before"
                );
                ledger.record.is_another(&file.relative);
                self.see(Found::File(file));
            }
        }
    }
}
