//! What an upload or a watch did, counted and in words.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use datamill_broker::ErrorKind;

use super::filter::Reason;
use crate::report::named::{NAMES_KEPT, Named};
use crate::report::text;

/// What was done. Its display form is a few lines for people; the alternate one is for below the log, which has the reason
/// of what was broken off.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Topic that was uploaded to.
    pub topic: String,
    /// There was no file to send in what the user named.
    pub found_nothing: bool,
    /// Files that the log acknowledged whole.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that the log acknowledged.
    pub messages: u64,
    /// Files that are on the topic already, where only missing ones were to be sent.
    pub on_topic: u64,
    /// Files that looked changed and hold what was delivered before.
    pub unchanged: u64,
    /// What was left out, by reason. Of a folder that was not entered, the folder alone counts.
    pub left_out: BTreeMap<Reason, Named>,
    /// Files that the log refused.
    pub failed: Named,
    /// Why the work was broken off before its end.
    pub broken_off: Option<String>,
    /// What sends the rest, where it was stopped before everything that it was to send was sent. A watch that runs until it
    /// is stopped never is.
    pub cut_short: Option<&'static str>,
    /// What kind of refusal of the log that was, where it was one.
    pub refusal: Option<ErrorKind>,
    /// How long it took.
    pub elapsed: Duration,
}

impl Summary {
    /// Whether every file that was wanted is in the log, and there was one.
    pub fn is_complete(&self) -> bool {
        !self.has_failures()
            && self.broken_off.is_none()
            && self.cut_short.is_none()
            && !self.left_out.contains_key(&Reason::Stopped)
    }

    /// Whether there was nothing to send, or a file that was wanted cannot be sent: another start alone changes nothing.
    pub fn has_failures(&self) -> bool {
        let cannot_be_sent = |reason: &Reason| reason.is_failure() && *reason != Reason::Stopped;
        self.found_nothing || self.failed.count > 0 || self.left_out.keys().any(cannot_be_sent)
    }

    pub(super) fn leave_out_all(&mut self, reason: Reason, named: Named) {
        if named.count > 0 {
            let all = self.left_out.entry(reason).or_default();
            all.count += named.count;
            let room = NAMES_KEPT.saturating_sub(all.first.len());
            all.first.extend(named.first.into_iter().take(room));
        }
    }

    pub(super) fn leave_out(&mut self, reason: Reason, name: impl Into<String>) {
        self.left_out.entry(reason).or_default().add(name);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sent {}", text::counted(self.files, "file"))?;
        if self.messages > 0 {
            write!(f, " ({} in {})", text::bytes(self.bytes), text::counted(self.messages, "message"))?;
        }
        write!(f, " to topic `{}` in {}", self.topic, text::duration(self.elapsed))?;
        if self.bytes > 0 {
            write!(f, ", {}", text::rate(self.bytes, self.elapsed))?;
        }
        if self.unchanged > 0 {
            write!(
                f,
                "\nnot sent again, since their content was delivered before: {}",
                text::counted(self.unchanged, "file")
            )?;
        }
        if self.on_topic > 0 {
            write!(f, "\non the topic already, whole and as they are: {}", text::counted(self.on_topic, "file"))?;
        }
        for (reason, named) in &self.left_out {
            let word = if reason.is_failure() { "not sent" } else { "left out" };
            write!(f, "\n{word}: {} {}: {named}", text::count(named.count), reason.of(named.count))?;
        }
        if self.failed.count > 0 {
            write!(f, "\nrefused by the log: {}: {}", text::counted(self.failed.count, "file"), self.failed)?;
        }
        if self.found_nothing {
            write!(f, "\nfound no file to send: check the paths, and what was left out")?;
        }
        if let Some(rest) = self.cut_short {
            write!(f, "\nstopped before everything was sent: {rest}")?;
        }
        match &self.broken_off {
            Some(_) if f.alternate() => f.write_str("\nbroken off, for the reason above"),
            Some(why) => write!(f, "\nbroken off: {why}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_name_what_was_left_out_and_why() {
        let mut summary = Summary {
            topic: "t".into(),
            files: 1,
            bytes: 2_500_000,
            messages: 5,
            elapsed: Duration::from_millis(500),
            ..Summary::default()
        };
        for number in 0..7 {
            summary.leave_out(Reason::Hidden, format!(".h{number}"));
        }
        assert!(summary.is_complete());
        assert_eq!(
            summary.to_string(),
            "sent 1 file (2.5 MB in 5 messages) to topic `t` in 500 ms, 5.0 MB/s\n\
             left out: 7 hidden: `.h0`, `.h1`, `.h2`, `.h3`, `.h4`, …"
        );
        let broken_off = Summary { broken_off: Some("no".to_owned()), ..summary.clone() };
        assert!(broken_off.to_string().ends_with("\nbroken off: no"), "{broken_off}");
        assert!(format!("{broken_off:#}").ends_with("\nbroken off, for the reason above"), "{broken_off:#}");
        summary.leave_out(Reason::BrokenLink, "y");
        assert!(summary.to_string().ends_with("\nleft out: 1 link that leads nowhere: `y`"), "{summary}");
        summary.leave_out(Reason::Unreadable, "x");
        assert!(!summary.is_complete());
        assert!(summary.to_string().ends_with("\nnot sent: 1 not readable: `x`"));
    }
}
