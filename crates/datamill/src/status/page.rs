//! The page for people: what the program does now, how far it is, and what became of the last files.
//!
//! All of it is written here, so it needs no script; with one, the part that changes comes again every two seconds.

mod words;

use std::time::Duration;

use serde_json::json;

use super::Shown;
use super::health::{NotReady, not_ready};
use super::html::Html;
use super::lag::{Lag, Look, PartitionLag, Source, Sum};
use super::recent::{Happened, How};
use crate::facts::{Counts, FailureStatus, FillingFile, Hold, Rest, Snapshot};
use crate::report::clock::{iso8601_utc, local_time_text};
use crate::report::heartbeat::ProgramKind;
use crate::report::text::{duration, rate, shell_word};
use words::{Now, is_work};

/// All that a page shows.
pub(super) struct Page<'a> {
    pub(super) shown: &'a Shown,
    pub(super) now_ms: i64,
    /// When the program began, milliseconds since the epoch.
    pub(super) began_ms: i64,
    pub(super) snapshot: Snapshot,
    pub(super) happened: Happened,
    pub(super) look: Look,
    /// What was counted lately, and in what time.
    pub(super) lately: (Counts, Duration),
}

/// The page with what it shows at first.
pub(super) fn whole(page: &Page<'_>) -> String {
    let mut html = Html::default();
    html.raw(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
    );
    html.text(&page.shown.program).raw(
        " – datamill</title>\n<link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"status.css\">\n\
        <script src=\"status.js\" defer></script>\n<noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\n\
        </head>\n<body>\n<header>\n<h1>",
    );
    html.text(&page.shown.program).raw("</h1>\n<p id=\"link\" role=\"status\"></p>\n</header>\n<main id=\"shown\">\n");
    page.write(&mut html);
    html.raw("</main>\n<footer><a href=\"metrics\">metrics</a> · datamill ").text(env!("CARGO_PKG_VERSION"));
    html.raw(" · this page shows and changes nothing</footer>\n</body>\n</html>\n");
    html.done()
}

/// The part of it that changes.
pub(super) fn changing(page: &Page<'_>) -> String {
    let mut html = Html::default();
    page.write(&mut html);
    html.done()
}

/// What the program does now, as an object of JSON.
pub(super) fn now(page: &Page<'_>) -> String {
    let (shown, state) = (page.shown, &page.snapshot.state);
    let Now { words, more, .. } = page.now_in_words();
    let held = state.held.map(|(hold, since_ms)| json!({"reason": hold.as_str(), "since": iso8601_utc(since_ms)}));
    let object = json!({
        "program": shown.program,
        "kind": shown.kind.as_str(),
        "version": env!("CARGO_PKG_VERSION"),
        "topic": page.topic(),
        "group": shown.source.as_ref().map(|source| &source.group),
        "running_since": iso8601_utc(page.began_ms),
        "ready": not_ready(shown.kind, state, page.now_ms).is_none(),
        "now": words,
        "more": more,
        "held": held,
        "output_folder_gone": state.is_folder_gone,
    });
    format!("{object}\n")
}

/// Why the program is not ready, in the words of the page. `None` where it is.
pub(super) fn why_not_ready(page: &Page<'_>) -> Option<String> {
    Some(match not_ready(page.shown.kind, &page.snapshot.state, page.now_ms)? {
        NotReady::NotJoined => "it has not joined its group".to_owned(),
        NotReady::Held => {
            let Now { words, more, .. } = page.now_in_words();
            format!("{words}. {more}")
        }
    })
}

impl Page<'_> {
    fn is_upload(&self) -> bool {
        self.shown.kind == ProgramKind::Producer
    }

    /// The topic that it reads, or that it sends to.
    fn topic(&self) -> Option<&str> {
        let sending = || self.happened.sending.as_ref().map(|sending| &*sending.topic);
        self.shown.source.as_ref().map(|source| &*source.topic).or_else(sending)
    }

    /// A time of today without the day.
    fn when(&self, ms: i64) -> String {
        let (then, now) = (local_time_text(ms), local_time_text(self.now_ms));
        match (then.split_once(' '), now.split_once(' ')) {
            (Some((day, time)), Some((today, _))) if day == today => time.to_owned(),
            _ => then,
        }
    }

    fn about(&self, html: &mut Html) {
        if let Some(source) = &self.shown.source {
            html.raw("topic <b>").text(&source.topic).raw("</b>, group <b>").text(&source.group).raw("</b>, ");
        }
        if let Some(sending) = &self.happened.sending {
            html.raw("from <b>").name(&sending.from).raw("</b> to topic <b>").text(&sending.topic).raw("</b>, ");
        }
        html.raw("running since ").text(&local_time_text(self.began_ms));
    }

    fn write(&self, html: &mut Html) {
        self.now(html);
        self.numbers(html);
        self.behind(html);
        self.failed(html);
        self.refused(html);
        self.not_sent(html);
        self.cut_off(html);
        self.filling(html);
        self.waiting(html);
        self.ended(html);
        self.left_out(html);
        self.held(html);
    }

    fn now(&self, html: &mut Html) {
        let Now { class, words, more } = self.now_in_words();
        html.raw("<section id=\"now\" class=\"").raw(class).raw("\">\n<h2>Now</h2>\n<p class=\"words\">").text(&words);
        html.raw("</p>\n");
        if !more.is_empty() {
            html.raw("<p class=\"more\">").text(&more).raw("</p>\n");
        }
        html.raw("<p class=\"about\">");
        self.about(html);
        html.raw("</p>\n</section>\n");
    }

    fn numbers(&self, html: &mut Html) {
        let (counts, state) = (&self.snapshot.counts, &self.snapshot.state);
        let (lately, span) = (&self.lately.0, self.lately.1);
        html.raw("<section>\n<h2>Since the program began</h2>\n<dl id=\"numbers\">\n");
        let mut number = |id: &'static str, label: &'static str, value: u64| {
            html.raw("<div id=\"")
                .raw(id)
                .raw("\"><dt>")
                .raw(label)
                .raw("</dt><dd>")
                .number(value)
                .raw("</dd></div>\n");
        };
        if self.is_upload() {
            number("delivered", "files sent", counts.delivered);
            if let Some(planned) = self.happened.planned {
                number("planned", "files to send in all", planned);
            }
            number("produced", "messages sent", counts.messages_produced);
            number("waiting", "files that wait", state.waiting);
            number("in-hand", "files on their way", state.in_hand);
            number("left-out", "left out", counts.left_out);
            number("refused", "refused by the broker", counts.refused);
            if counts.unchanged > 0 {
                number("unchanged", "looked changed, hold what was sent", counts.unchanged);
            }
        } else {
            let of =
                |outcome: &str| counts.by_outcome().iter().find(|(name, _)| *name == outcome).map_or(0, |(_, n)| *n);
            number("done", "files done", of("done"));
            number("failed", "failed", of("failed"));
            number("incomplete", "incomplete", of("incomplete"));
            if counts.failed_again > 0 {
                number("failed-again", "had failed, failed again", counts.failed_again);
            }
            if counts.retried > 0 {
                number("retried", "had failed, done after another try", counts.retried);
            }
            number("waiting", "wait for the function", state.waiting);
            let is_held = state.held.is_some_and(|(hold, _)| !is_work(hold));
            number("in-hand", if is_held { "begun, and held" } else { "worked on" }, state.in_hand);
            number("filling", "not whole yet", state.filling);
            if counts.left_out > 0 {
                number("left-out", "left out by --download_regex", counts.left_out);
            }
        }
        let (files, bytes) = match self.shown.kind {
            ProgramKind::Producer => (lately.delivered, lately.delivered_bytes),
            _ => (lately.done, lately.done_bytes),
        };
        number("files-lately", "files in the last minute", files);
        html.raw("<div id=\"bytes-rate\"><dt>bytes in the last minute</dt><dd>").text(&rate(bytes, span));
        html.raw("</dd></div>\n</dl>\n</section>\n");
    }

    fn behind(&self, html: &mut Html) {
        let Some(source) = &self.shown.source else { return };
        html.raw("<section id=\"lag\">\n<h2>Not done yet</h2>\n<p>");
        match &self.look.lag {
            None => {
                html.raw("How far it is behind is not known now.</p>\n");
            }
            Some(lag) => self.behind_by(html, lag, source),
        }
        html.raw("</section>\n");
    }

    fn behind_by(&self, html: &mut Html, lag: &Lag, source: &Source) {
        let sum = lag.sum(self.now_ms);
        if sum.messages == 0 && sum.files == 0 {
            html.raw("Nothing: every file on topic <b>").text(&source.topic);
            html.raw("</b> that is this process's has its outcome.");
        } else {
            written(html, &sum);
        }
        html.raw("</p>\n");
        if lag.partitions.len() > 1 && sum.messages > 0 {
            html.raw("<details id=\"partitions\"><summary>by partition</summary>\n");
            table(html, &["partition", "messages", "files", "oldest"], &lag.partitions, |html, partition| {
                self.behind_in(html, partition);
            });
            html.raw("</details>\n");
        }
    }

    fn behind_in(&self, html: &mut Html, partition: &PartitionLag) {
        html.raw("<td>").text(&partition.read.partition.to_string()).raw("</td><td>").number(partition.messages());
        html.raw("</td><td>").number(partition.read.files);
        if partition.unread > 0 {
            html.raw(" read, and ").number(partition.unread).raw(" messages that were not");
        }
        html.raw("</td><td>").text(&partition.seconds(self.now_ms).map_or("not known".to_owned(), age)).raw("</td>");
    }

    fn failed(&self, html: &mut Html) {
        let failed = &self.happened.failed;
        if failed.is_empty() {
            return;
        }
        html.raw("<section id=\"failures\">\n<h2>Failed files</h2>\n");
        table(html, &["file", "why", "when"], failed.iter().rev(), |html, file| {
            html.raw("<td>").name(&file.file).raw("</td><td class=\"why\"><b>").text(file.status.words()).raw(":</b> ");
            html.text(&file.reason).raw(" <span class=\"status\">").text(file.status.as_str()).raw("</span></td>");
            html.raw("<td class=\"when\">").text(&self.when(file.at_ms)).raw("</td>");
        });
        if self.happened.failed_before > 0 {
            html.raw("<p>").number(self.happened.failed_before).raw(" more failed before these.</p>\n");
        }
        if let Some(source) = &self.shown.source {
            let (topic, group) = (shell_word(&source.topic), shell_word(&source.group));
            let retry = format!("retry --topic_name {topic} --consumer_group_id {group}");
            html.raw("<p>Once the reason is gone, this tries all failed files again, those of earlier runs as well. ");
            html.raw("<code>--list</code> shows them:</p>\n");
            command(html, source, &retry);
            if failed.iter().any(|file| file.status == FailureStatus::Incomplete) {
                html.raw(
                    "<p>Of files with missing chunks, this sends what is missing, on the machine that has them. Give it the \
                    <code>--path_prefix</code> of the upload, where it had one:</p>\n",
                );
                command(html, source, &format!("upload --only-missing FOLDER --topic_name {topic}"));
            }
        }
        html.raw("</section>\n");
    }

    fn refused(&self, html: &mut Html) {
        if self.happened.refused.is_empty() {
            return;
        }
        html.raw("<section id=\"refusals\">\n<h2>Refused by the broker</h2>\n");
        table(html, &["file", "why"], &self.happened.refused, |html, (file, error)| {
            html.raw("<td>").name(file).raw("</td><td class=\"why\">").text(error).raw("</td>");
        });
        html.raw("</section>\n");
    }

    fn not_sent(&self, html: &mut Html) {
        if self.happened.not_sent.is_empty() {
            return;
        }
        html.raw("<section id=\"not-sent\">\n<h2>Could not be sent</h2>\n");
        table(html, &["file", "why"], &self.happened.not_sent, |html, (file, (reason, detail))| {
            html.raw("<td>").name(file).raw("</td><td class=\"why\">").text(reason.of(1));
            if let Some(detail) = detail {
                html.raw(": ").text(detail);
            }
            html.raw("</td>");
        });
        html.raw("</section>\n");
    }

    fn waiting(&self, html: &mut Html) {
        let (waiting, all) = (&self.happened.waiting, self.snapshot.state.waiting);
        if waiting.is_empty() {
            return;
        }
        html.raw("<section id=\"wait\">\n<h2>Files that wait to be sent</h2>\n");
        table(html, &["file", "why", "found", "last changed"], waiting.iter(), |html, file| {
            html.raw("<td>").name(&file.file).raw("</td><td class=\"why\">").raw(file.wait.words());
            html.raw("</td><td class=\"when\">").text(&ago(file.found_ms, self.now_ms));
            html.raw("</td><td class=\"when\">").text(&ago(file.changed_ms, self.now_ms)).raw("</td>");
        });
        if all > waiting.len() as u64 {
            html.raw("<p>These have waited longest, of ").number(all).raw(".</p>\n");
        }
        html.raw("</section>\n");
    }

    fn cut_off(&self, html: &mut Html) {
        let files: Vec<_> = self.happened.filling.iter().filter(|file| file.rest == Rest::CutOff).collect();
        let (false, Some(source)) = (files.is_empty(), &self.shown.source) else { return };
        html.raw("<section id=\"cut-off\">\n<h2>Uploads that were probably cut off</h2>\n");
        self.files_in_part(html, &files);
        let topic = shell_word(&source.topic);
        html.raw("<p>No further chunk of them came for ten minutes. On the machine that has the files, ");
        html.raw("the first command compares the folder with the topic, the second one sends what is missing. ");
        html.raw("Give both the <code>--path_prefix</code> of the upload, where it had one:</p>\n");
        command(html, source, &format!("reconcile DIR --topic_name {topic} --problems"));
        command(html, source, &format!("upload DIR --topic_name {topic} --only-missing"));
        html.raw("</section>\n");
    }

    fn filling(&self, html: &mut Html) {
        let files: Vec<_> = self.happened.filling.iter().filter(|file| file.rest != Rest::CutOff).collect();
        if files.is_empty() {
            return;
        }
        html.raw("<section id=\"fill-up\">\n<h2>Files that fill up</h2>\n");
        self.files_in_part(html, &files);
        html.raw("</section>\n");
    }

    /// Files of which not all chunks are there.
    fn files_in_part(&self, html: &mut Html, files: &[&FillingFile]) {
        const MOST: usize = 50;
        table(html, &["file", "chunks there", "bytes there", "last chunk"], files.iter().take(MOST), |html, file| {
            let row = &file.row;
            html.raw("<td>").name(&row.rel_filepath).raw("</td><td>").progress(file.there.into(), row.n_chunks.into());
            html.raw(" ").number(file.there.into()).raw(" of ").number(row.n_chunks.into()).raw("</td><td>");
            html.bytes(file.bytes).raw("</td><td>").text(&ago(row.most_recent_message_ms, self.now_ms));
            html.raw(match file.rest {
                Rest::Outdated => "; a newer version came</td>",
                Rest::SentAgain => "; the file is there without this upload</td>",
                Rest::Comes | Rest::CutOff => "</td>",
            });
        });
        if files.len() > MOST {
            html.raw("<p>and ").number((files.len() - MOST) as u64).raw(" more</p>\n");
        }
    }

    fn ended(&self, html: &mut Html) {
        html.raw("<section id=\"last\">\n<h2>Last files</h2>\n");
        if self.happened.ended.is_empty() {
            html.raw("<p>No file has its outcome yet.</p>\n");
        } else {
            table(html, &["file", "outcome", "size", "when"], self.happened.ended.iter().rev(), |html, file| {
                let (class, word) = match file.how {
                    How::Done => ("good", "done"),
                    How::Delivered => ("good", "sent"),
                    How::Failed(FailureStatus::Incomplete) => ("bad", "incomplete"),
                    How::Failed(FailureStatus::Expired) => ("bad", "expired"),
                    How::Failed(_) => ("bad", "failed"),
                    How::Refused => ("bad", "refused"),
                };
                html.raw("<td>")
                    .name(&file.file)
                    .raw("</td><td class=\"")
                    .raw(class)
                    .raw("\">")
                    .raw(word)
                    .raw("</td><td>");
                html.bytes(file.bytes).raw("</td><td class=\"when\">").text(&self.when(file.at_ms)).raw("</td>");
            });
        }
        html.raw("</section>\n");
    }

    fn left_out(&self, html: &mut Html) {
        if self.happened.left_out_by_reason.is_empty() {
            return;
        }
        html.raw("<section id=\"passed-over\">\n<h2>Left out</h2>\n<ul>\n");
        for (reason, count) in &self.happened.left_out_by_reason {
            html.raw("<li>").number(*count).raw(" ").text(reason.of(*count)).raw("</li>\n");
        }
        html.raw("</ul>\n");
        if self.happened.left_out.is_empty() {
            html.raw("</section>\n");
            return;
        }
        html.raw("<details id=\"names\"><summary>the last ones</summary>\n");
        table(html, &["file or folder", "why"], self.happened.left_out.iter().rev(), |html, (file, reason)| {
            html.raw("<td>").name(file).raw("</td><td class=\"why\">").text(reason.of(1)).raw("</td>");
        });
        html.raw("</details>\n</section>\n");
    }

    fn held(&self, html: &mut Html) {
        let held = |hold: &Hold| self.snapshot.held[*hold as usize];
        let holds: Vec<Hold> = Hold::ALL.into_iter().filter(|hold| held(hold).as_secs() > 0).collect();
        if holds.is_empty() {
            return;
        }
        html.raw("<section id=\"holds\">\n<h2>What has held it</h2>\n");
        table(html, &["what", "for how long"], &holds, |html, hold| {
            html.raw("<td>").raw(hold.words()).raw("</td><td>").text(&duration(held(hold))).raw("</td>");
        });
        html.raw("</section>\n");
    }
}

/// The lag of all partitions in sentences.
fn written(html: &mut Html, sum: &Sum) {
    if sum.files > 0 {
        html.number(sum.files).raw(if sum.files == 1 {
            " file that was read has"
        } else {
            " files that were read have"
        });
        html.raw(" no outcome yet (").bytes(sum.bytes).raw(" are there). ");
    }
    match sum.estimate {
        Some((files, _)) if files < 0.5 => {}
        Some((files, bytes)) => {
            html.raw("About ").number(files.round() as u64).raw(if sum.files > 0 {
                " more files ("
            } else {
                " files ("
            });
            html.bytes(bytes.round() as u64).raw(") are on the topic and were not read: <em>estimated</em> ");
            html.raw("from the last files that were read. ");
        }
        None => {
            html.raw("How many files there are in messages that were not read is not known before some are read. ");
        }
    }
    html.raw("In all, ").number(sum.messages).raw(if sum.messages == 1 { " message waits" } else { " messages wait" });
    match sum.seconds {
        Some(seconds) => html.raw(", the oldest for ").text(&age(seconds)).raw("."),
        None => html.raw(", and the time of the oldest is not known."),
    };
}

/// A command of `datamill`, as it can be pasted.
fn command(html: &mut Html, source: &Source, words: &str) {
    html.raw("<pre>").text(source.log.command(words).trim_matches('`')).raw("</pre>\n");
}

fn age(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// A sentence with a capital letter.
fn in_capitals(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn ago(then_ms: i64, now_ms: i64) -> String {
    format!("{} ago", duration(Duration::from_millis(u64::try_from(now_ms - then_ms).unwrap_or(0))))
}

/// A table that can be moved sideways where it is too wide. `row` writes the cells.
fn table<T>(html: &mut Html, columns: &[&'static str], rows: impl IntoIterator<Item = T>, row: impl Fn(&mut Html, T)) {
    html.raw("<div class=\"wide\"><table>\n<thead><tr>");
    for column in columns {
        html.raw("<th scope=\"col\">").raw(column).raw("</th>");
    }
    html.raw("</tr></thead>\n<tbody>\n");
    for each in rows {
        html.raw("<tr>");
        row(html, each);
        html.raw("</tr>\n");
    }
    html.raw("</tbody></table></div>\n");
}
