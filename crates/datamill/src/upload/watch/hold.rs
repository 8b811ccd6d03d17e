//! A watch holds while its folder cannot be used or is another one, and goes over to the one that is there now.

use std::time::Instant;

use tracing::{info, warn};

use super::{SCAN_ALONE, TICK, Watch, between_scans, hints, open_registry, tell_another_topic};
use crate::report::chain;
use crate::upload::busy::Busy;
use crate::upload::error::UploadError;
use crate::upload::filter::Reason;
use crate::upload::place::Arrival;

/// Nothing is scanned or sent while the folder cannot be used, or is another one than what is on its way comes from.
#[derive(Debug, Default)]
pub(super) struct Hold {
    pub(super) holds: bool,
    /// Why was said.
    said: bool,
    /// What is there is still to be counted as existing.
    first: bool,
}

impl Watch<'_> {
    /// Whether the folder may be scanned and files of it be sent. If it is another one than before, the watch goes
    /// over to it, once nothing is on its way any more.
    pub(super) fn may_go_on(&mut self) -> bool {
        match self.go_on() {
            Ok(true) => {
                self.hold.holds = false;
                if std::mem::take(&mut self.hold.said) {
                    info!("the folder `{}` can be used again", self.place.named().display());
                }
                true
            }
            Ok(false) => {
                self.hold.holds = true;
                self.next_scan = Instant::now() + TICK;
                false
            }
            Err(error) => {
                self.hold_for(&error);
                false
            }
        }
    }

    /// At the end: what is in a folder that cannot be used was perhaps not sent.
    pub(super) fn name_folder(&mut self) {
        if self.hold.holds && self.hold.said {
            self.run.summary.leave_out(Reason::Unreadable, format!("{}/", self.place.named().display()));
        }
    }

    pub(super) fn hold_for(&mut self, error: &UploadError) {
        self.hold.holds = true;
        self.next_scan = Instant::now() + SCAN_ALONE;
        if !std::mem::replace(&mut self.hold.said, true) {
            warn!(
                error = chain(error),
                "the folder `{}` cannot be used: nothing is sent until it can",
                self.place.named().display()
            );
        }
    }

    fn go_on(&mut self) -> Result<bool, UploadError> {
        let is_on_its_way = self.run.is_on_its_way();
        let topic_id = self.run.topic_id().map(str::to_owned);
        let Some(ledger) = &mut self.run.ledger else {
            return Ok(true);
        };
        let named = self.place.named();
        let away = |source| UploadError::Path { path: named.to_owned(), source };
        if !self.place.is_unchanged(&ledger.record).map_err(away)? {
            if is_on_its_way {
                return Ok(false);
            }
            let arrival = self.place.arrive(&mut ledger.record)?;
            if ledger.record.set_topic_id(topic_id.as_deref(), self.upload_existing)? {
                tell_another_topic(&self.run.summary.topic, &self.place, self.upload_existing);
            }
            self.hold.first |= arrival == Arrival::First;
            ledger.go_over_to(open_registry(self.place.logs())?);
            self.go_over_to(arrival);
        }
        if self.hold.first {
            self.take_existing("is another file system now, of which nothing is known", true)?;
            self.hold.first = false;
        }
        Ok(true)
    }

    /// What was found of the folder before counts no more.
    fn go_over_to(&mut self, arrival: Arrival) {
        self.scanner.go_to(self.place.root());
        self.settle.clear();
        self.looks.clear();
        self.busy = Busy::default();
        self.suspects.clear();
        self.run.drop_put_off();
        self.hints = if self.polling { None } else { hints(&self.place) };
        self.between_scans = between_scans(self.hints.as_ref());
        let (named, root) = (self.place.named().display(), self.place.root().display());
        match arrival {
            Arrival::Same => warn!(
                "datamill's own files in `{root}` were removed or replaced: the record of what was sent is written anew"
            ),
            Arrival::Back => warn!("the folder at `{named}` was mounted anew or is back: going on with what is there"),
            Arrival::OwnRecord => warn!(
                "another folder is at the path `{named}` now (`{root}`), which was watched before: going on from the \
                record in it"
            ),
            Arrival::Replaced => warn!(
                "another folder is at the path `{named}` now (`{root}`): what is there and was not sent before is sent"
            ),
            // said with the number of files
            Arrival::First => {}
        }
    }
}
