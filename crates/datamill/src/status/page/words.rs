//! What a program does now, in words: on the page, and where it says why it is not ready.

use std::time::Duration;

use super::{Page, ago, in_capitals};
use crate::facts::{Hold, Rest};
use crate::report::text::{counted, duration};
use crate::status::health::is_long;
use crate::status::recent::Said;

/// A log that has not answered for so long is said to be silent: more than one question had no answer.
const SILENT_FOR: Duration = Duration::from_secs(6);

/// What a program does now.
pub(super) struct Now {
    /// How that is: `good`, `waits` or `bad`.
    pub(super) class: &'static str,
    pub(super) words: String,
    /// What more there is to say.
    pub(super) more: String,
}

impl Now {
    fn new(class: &'static str, words: impl Into<String>) -> Self {
        Self { class, words: words.into(), more: String::new() }
    }

    fn and(self, more: impl Into<String>) -> Self {
        Self { more: more.into(), ..self }
    }
}

/// Whether it holds the reading alone, while there is work.
pub(super) fn is_work(hold: Hold) -> bool {
    matches!(hold, Hold::Crowded | Hold::ReadingAgain)
}

impl Page<'_> {
    pub(super) fn now_in_words(&self) -> Now {
        let now = self.at_work_in_words();
        let is_held = self.snapshot.state.held.is_some_and(|(hold, _)| hold == Hold::OutputFolder);
        match self.happened.folder_gone.as_ref().filter(|_| !is_held) {
            Some(gone) => {
                let more = format!(
                    "{}What needs the folder waits: tables, the log file and what does not fit into memory. {}",
                    self.said(gone),
                    now.more
                );
                Now { class: "bad", more: more.trim_end().to_owned(), ..now }
            }
            None => now,
        }
    }

    fn at_work_in_words(&self) -> Now {
        let state = &self.snapshot.state;
        if let Some((hold, since_ms)) = state.held.filter(|(hold, _)| !is_work(*hold)) {
            return self.held_in_words(hold, since_ms);
        }
        if self.is_upload() {
            return self.sending_in_words();
        }
        if !state.is_member {
            return Now::new("waits", "joining its group");
        }
        let silent = self.look.silent.filter(|silent| *silent >= SILENT_FOR);
        if let (Some(silent), Some(source)) = (silent, &self.shown.source) {
            let time = duration(silent);
            return Now::new("waits", format!("`{}` does not answer", source.log.name())).and(format!(
                "It has not answered for {time}. Nothing is lost meanwhile, and the program goes on by itself."
            ));
        }
        if state.partitions == 0 {
            return Now::new("waits", "waiting for a partition")
                .and("The other members of the group have all partitions of the topic. It takes over when one of them leaves.");
        }
        let held = state.held.map(|(hold, _)| hold);
        if state.in_hand > 0 {
            let more = if held == Some(Hold::Crowded) {
                "Further files are not read before the function has caught up."
            } else {
                ""
            };
            return Now::new("good", format!("working on {}", counted(state.in_hand, "file"))).and(more);
        }
        if let Some(hold) = held {
            return Now::new("good", hold.words());
        }
        let coming = self.happened.filling.iter().filter(|file| file.rest == Rest::Comes).count() as u64;
        if coming > 0 {
            return Now::new("good", format!("waiting for the rest of {}", counted(coming, "file")));
        }
        match state.cut_off {
            0 => Now::new("good", "waiting for files"),
            number => Now::new("waits", "waiting for files")
                .and(format!("The upload of {} was probably cut off: see below.", counted(number, "file"))),
        }
    }

    fn held_in_words(&self, hold: Hold, since_ms: i64) -> Now {
        let class = if is_long(hold, self.now_ms - since_ms) { "bad" } else { "waits" };
        let (since, ago) = (self.when(since_ms), ago(since_ms, self.now_ms));
        let said = match hold {
            Hold::Commits => self.happened.not_committed.as_ref(),
            Hold::NotAvailable | Hold::Target => self.happened.not_available.as_ref(),
            Hold::OutputFolder => self.happened.folder_gone.as_ref(),
            _ => None,
        };
        let outage = self.shown.outage().filter(|outage| Hold::of_outage(outage) == hold);
        let (what, said) = match (said, &outage) {
            (Some(said), _) => (hold.words().to_owned(), self.said(said)),
            (None, Some(outage)) => (outage.to_string(), in_capitals(&format!("{}. ", outage.why()))),
            (None, None) => (self.without_outage(hold), String::new()),
        };
        let next = match hold {
            Hold::Standby => "this program takes over when that one is gone",
            Hold::Login => "it goes on once the login is accepted. If it is refused for long, the program ends",
            Hold::Broker if outage.is_some() => "it goes on by itself once the broker is back",
            _ => "it goes on by itself",
        };
        Now::new(class, format!("{}: {what}", hold.does()))
            .and(format!("{said}Since {since} ({ago}). Nothing is lost meanwhile, and {next}."))
    }

    /// What holds, where the log itself says nothing of it.
    fn without_outage(&self, hold: Hold) -> String {
        match &self.shown.log {
            Some(log) if hold == Hold::Broker => format!("`{}` takes no messages", log.name()),
            _ => hold.words().to_owned(),
        }
    }

    /// What was said when, and when that is tried again: until then, nobody knows whether it is so still.
    fn said(&self, said: &Said) -> String {
        let again = match said.again_ms {
            Some(again_ms) if again_ms > self.now_ms => format!(" It is tried again at {}.", self.when(again_ms)),
            Some(_) => " It is being tried again.".to_owned(),
            None => String::new(),
        };
        let text = said.text.trim_end_matches('.');
        let end = if text.ends_with(['?', '!', '…']) { "" } else { "." };
        format!("At {} it was said: {text}{end}{again} ", self.when(said.at_ms))
    }

    fn sending_in_words(&self) -> Now {
        let state = &self.snapshot.state;
        if state.in_hand > 0 {
            return Now::new("good", format!("sending {}", counted(state.in_hand, "file")));
        }
        match state.waiting {
            0 => Now::new("good", "waiting for something to send"),
            1 => Now::new("good", "waiting until 1 file no longer changes"),
            many => Now::new("good", format!("waiting until {} no longer change", counted(many, "file"))),
        }
    }
}
