//! The page for people: what the program does now, how far it is, and what became of the last files.
//!
//! All of it is written here, so it needs no script; with one, the part that changes comes again every two seconds.

use std::time::Duration;

use super::Shown;
use super::health::is_long;
use super::html::Html;
use super::lag::{Lag, PartitionLag, Source, Sum};
use super::recent::{Happened, How};
use crate::facts::{Counts, Hold, Snapshot, State};
use crate::report::clock::local_time_text;
use crate::report::heartbeat::ProgramKind;
use crate::report::text::{duration, frequency, rate, shell_word};

/// All that a page shows.
pub(super) struct Page<'a> {
    pub(super) shown: &'a Shown,
    pub(super) now_ms: i64,
    /// When the program began, milliseconds since the epoch.
    pub(super) began_ms: i64,
    pub(super) snapshot: Snapshot,
    pub(super) happened: Happened,
    pub(super) lag: Option<Lag>,
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
    html.text(&page.shown.program).raw("</h1>\n<p>");
    page.about(&mut html);
    html.raw("</p>\n<p id=\"link\" role=\"status\"></p>\n</header>\n<main id=\"shown\">\n");
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

/// What a program does now, in words, and how that is.
fn now_in_words(kind: ProgramKind, state: &State, now_ms: i64) -> (&'static str, String) {
    let files = |count: u64| crate::report::text::counted(count, "file");
    if let Some((hold, since_ms)) = state.held {
        let class = if is_long(hold, now_ms - since_ms) { "bad" } else { "waits" };
        return (class, format!("holding: {}", hold.words()));
    }
    if kind != ProgramKind::Producer && !state.is_member {
        return ("waits", "joining its group".to_owned());
    }
    if state.in_hand > 0 {
        let what = if kind == ProgramKind::Producer { "sending" } else { "working on" };
        return ("good", format!("{what} {}", files(state.in_hand)));
    }
    if kind == ProgramKind::Producer && state.waiting > 0 {
        return ("good", format!("waiting until {} no longer change, or to try again", files(state.waiting)));
    }
    if state.filling > 0 {
        return ("good", format!("waiting for the rest of {}", files(state.filling)));
    }
    let waits = if kind == ProgramKind::Producer { "waiting for something to send" } else { "waiting for files" };
    ("good", waits.to_owned())
}

impl Page<'_> {
    fn about(&self, html: &mut Html) {
        if let Some(source) = &self.shown.source {
            html.raw("topic <b>").text(&source.topic).raw("</b>, group <b>").text(&source.group).raw("</b>, ");
        }
        html.raw("began ").text(&local_time_text(self.began_ms));
    }

    fn write(&self, html: &mut Html) {
        self.now(html);
        self.numbers(html);
        if let (Some(lag), Some(source)) = (&self.lag, &self.shown.source) {
            self.behind(html, lag, source);
        }
        self.failed(html);
        self.refused(html);
        self.filling(html);
        self.ended(html);
        self.left_out(html);
        self.held(html);
    }

    fn now(&self, html: &mut Html) {
        let state = &self.snapshot.state;
        let (class, words) = now_in_words(self.shown.kind, state, self.now_ms);
        html.raw("<section id=\"now\" class=\"").text(class).raw("\">\n<h2>Now</h2>\n<p class=\"words\">").text(&words);
        html.raw("</p>\n");
        if let Some((_, since_ms)) = state.held {
            html.raw("<p>since ").text(&local_time_text(since_ms)).raw(" (").text(&ago(since_ms, self.now_ms));
            html.raw("); nothing is lost meanwhile</p>\n");
        }
        html.raw("</section>\n");
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
        if self.shown.kind == ProgramKind::Producer {
            number("delivered", "files sent", counts.delivered);
            number("produced", "messages sent", counts.messages_produced);
            number("waiting", "waiting until they no longer change, or to be tried again", state.waiting);
            number("in-hand", "on their way", state.in_hand);
            number("unchanged", "looked changed and are the same", counts.unchanged);
            number("left-out", "left out", counts.left_out);
            number("refused", "refused by the broker", counts.refused);
        } else {
            let of =
                |outcome: &str| counts.by_outcome().iter().find(|(name, _)| *name == outcome).map_or(0, |(_, n)| *n);
            number("done", "files done", of("done"));
            number("failed", "failed", of("failed"));
            number("incomplete", "incomplete", of("incomplete"));
            number("waiting", "whole, waiting", state.waiting);
            number("in-hand", "worked on", state.in_hand);
            number("filling", "not whole yet", state.filling);
            if counts.left_out > 0 {
                number("left-out", "left out by --download_regex", counts.left_out);
            }
        }
        let (files, bytes) = match self.shown.kind {
            ProgramKind::Producer => (lately.delivered, lately.delivered_bytes),
            _ => (lately.done, lately.done_bytes),
        };
        html.raw("<div id=\"files-rate\"><dt>files in the last minute</dt><dd>").text(&frequency(files, span));
        html.raw("</dd></div>\n<div id=\"bytes-rate\"><dt>bytes in the last minute</dt><dd>").text(&rate(bytes, span));
        html.raw("</dd></div>\n</dl>\n</section>\n");
    }

    fn behind(&self, html: &mut Html, lag: &Lag, source: &Source) {
        let sum = lag.sum(self.now_ms);
        html.raw("<section id=\"lag\">\n<h2>Behind</h2>\n<p>");
        if sum.messages == 0 && sum.files == 0 {
            html.raw("Every file on topic <b>").text(&source.topic).raw("</b> that is this process's has its outcome.");
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
        html.raw("</section>\n");
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
            html.raw("<td>").name(&file.file).raw("</td><td class=\"why\"><b>").text(file.status.as_str()).raw("</b> ");
            html.text(&file.reason).raw("</td><td class=\"when\">").text(&local_time_text(file.at_ms)).raw("</td>");
        });
        if self.happened.failed_before > 0 {
            html.raw("<p>").number(self.happened.failed_before).raw(" more failed before these.</p>\n");
        }
        if let Some(source) = &self.shown.source {
            let (topic, group) = (shell_word(&source.topic), shell_word(&source.group));
            let retry = |more: &str| {
                source.log.command(&format!("retry --topic_name {topic} --consumer_group_id {group}{more}"))
            };
            html.raw("<p>This tries all failed files again, those of earlier runs as well; <code>--list</code> shows them:</p>\n");
            html.raw("<pre>").text(&retry("")).raw("</pre>\n");
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

    fn filling(&self, html: &mut Html) {
        const MOST: usize = 50;
        let filling = &self.happened.filling;
        if filling.is_empty() {
            return;
        }
        html.raw("<section id=\"fill-up\">\n<h2>Files that fill up</h2>\n");
        table(html, &["file", "chunks there", "bytes there", "last chunk"], filling.iter().take(MOST), |html, file| {
            let row = &file.row;
            html.raw("<td>").name(&row.rel_filepath).raw("</td><td>").progress(file.there.into(), row.n_chunks.into());
            html.raw(" ").number(file.there.into()).raw(" of ").number(row.n_chunks.into()).raw("</td><td>");
            html.bytes(file.bytes).raw("</td><td>").text(&ago(row.most_recent_message_ms, self.now_ms)).raw("</td>");
        });
        if filling.len() > MOST {
            html.raw("<p>and ").number((filling.len() - MOST) as u64).raw(" more</p>\n");
        }
        html.raw("</section>\n");
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
                    How::Failed(status) => ("bad", status.as_str()),
                    How::Refused => ("bad", "refused"),
                };
                html.raw("<td>")
                    .name(&file.file)
                    .raw("</td><td class=\"")
                    .raw(class)
                    .raw("\">")
                    .raw(word)
                    .raw("</td><td>");
                html.bytes(file.bytes).raw("</td><td class=\"when\">").text(&local_time_text(file.at_ms)).raw("</td>");
            });
        }
        html.raw("</section>\n");
    }

    fn left_out(&self, html: &mut Html) {
        if self.happened.left_out_by_reason.is_empty() {
            return;
        }
        html.raw("<section id=\"not-sent\">\n<h2>Left out</h2>\n<ul>\n");
        for (reason, count) in &self.happened.left_out_by_reason {
            html.raw("<li>").number(*count).raw(" ").text(reason.of(*count)).raw("</li>\n");
        }
        html.raw("</ul>\n<details id=\"names\"><summary>the last ones</summary>\n");
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

/// The lag of all partitions in one sentence.
fn written(html: &mut Html, sum: &Sum) {
    let (have, they_are) = match sum.messages {
        1 => (" message has no outcome yet. ", "It is of "),
        _ => (" messages have no outcome yet. ", "They are of "),
    };
    html.number(sum.messages).raw(have);
    if sum.files > 0 {
        html.raw(they_are).number(sum.files).raw(if sum.files == 1 { " file" } else { " files" });
        html.raw(" of which chunks were read (").bytes(sum.bytes).raw(" are there)");
    } else {
        html.raw("None of them was read");
    }
    match sum.estimate {
        Some((files, _)) if files < 0.5 => {}
        Some((files, bytes)) => {
            html.raw(", and of about ").number(files.round() as u64).raw(" files that were not (about ");
            html.bytes(bytes.round() as u64).raw("): <em>estimated</em> from the last ones that were read");
        }
        None => {
            html.raw("; how many files the others are of is not known before some are read");
        }
    }
    html.raw(". The oldest is ").text(&sum.seconds.map_or("of a time that is not known".to_owned(), age)).raw(" old.");
}

fn age(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
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
