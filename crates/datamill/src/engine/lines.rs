//! The lines of the log about files and messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use datamill_broker::Log;
use parking_lot::Mutex;

use super::alike::{Alike, FIRST_FILES, shape};
use super::origin::spans_text;
use crate::assemble::Span;
use crate::facts::{Fact, FailureStatus, FileRow, FillingFile, Listener};
use crate::report::{clock, text};

/// Writes them. Of very many failures that are alike, the first ones are named.
pub(super) struct Lines {
    topic: Arc<str>,
    /// The commands that help where an upload was cut off.
    sends_rest: String,
    failures: Mutex<Alike>,
    attempts: Mutex<Alike>,
    others: Mutex<Vec<Others>>,
    has_chunks: AtomicBool,
}

/// Messages that are not chunks of files, and that no line has named yet.
struct Others {
    /// What is wrong with the first of them.
    error: String,
    messages: u64,
    spans: Vec<Span>,
}

/// Runs of offsets that one line names, and kinds that are kept for their lines.
const MAX_RUNS: usize = 50;
const MAX_OTHERS: usize = 20;

/// Files that are named, of those that are found to be cut off at one time.
const CUT_OFF_NAMED: usize = 5;

impl Lines {
    pub(super) fn about(log: &dyn Log, topic: &Arc<str>) -> Self {
        let word = text::shell_word(topic);
        let compares = log.command(&format!("reconcile DIR --topic_name {word} --problems"));
        let sends = log.command(&format!("upload DIR --topic_name {word} --only-missing"));
        Self {
            topic: Arc::clone(topic),
            sends_rest: format!(
                "{compares} compares a folder with the topic, {sends} sends what is missing; \
                give both the `--path_prefix` of the upload, where it had one"
            ),
            failures: Mutex::default(),
            attempts: Mutex::default(),
            others: Mutex::default(),
            has_chunks: AtomicBool::new(false),
        }
    }

    /// Says how many files have failed as others before them that were named.
    pub(super) fn tell_rest(&self, all: bool) {
        for (files, reason) in self.failures.lock().rest(Instant::now(), all) {
            tracing::error!(topic = %self.topic, files, error = %reason,
                "more files could not be processed, in the same way as others before; the table of failures names them");
        }
    }

    /// A message is not a chunk of a file. It is named before a position passes it, together with others that are alike.
    fn add_other(&self, partition: i32, offset: i64, error: &str) {
        let mut all = self.others.lock();
        let kind = shape(error, "");
        let at = all.iter().position(|others| shape(&others.error, "") == kind).unwrap_or_else(|| {
            all.push(Others { error: error.to_owned(), messages: 0, spans: Vec::new() });
            all.len() - 1
        });
        let others = &mut all[at];
        others.messages += 1;
        match others.spans.last_mut().filter(|span| (span.partition, span.last + 1) == (partition, offset)) {
            Some(span) => span.last = offset,
            None => others.spans.push(Span { partition, first: offset, last: offset }),
        }
        let is_much = others.spans.len() >= MAX_RUNS || all.len() >= MAX_OTHERS;
        drop(all);
        if is_much {
            self.tell_others();
        }
    }

    /// Names the messages that are not chunks of files.
    pub(super) fn tell_others(&self) {
        let topic = &self.topic;
        let all = std::mem::take(&mut *self.others.lock());
        for Others { error, messages, spans } in all {
            let offsets = spans_text(&spans);
            let hint = match self.has_chunks.load(Relaxed) {
                true => "",
                false => ". No file was found in the topic so far: is it the topic that files are uploaded to?",
            };
            match messages {
                1 => {
                    tracing::error!(%topic, offsets, error, "a message is not a chunk of a file, and is left out{hint}")
                }
                _ => tracing::error!(%topic, offsets, error,
                    "{} messages are not chunks of files, and are left out{hint}", text::count(messages)),
            }
        }
    }

    /// The uploads of these files were probably cut off: what is there, and what sends the rest.
    fn tell_cut_off(&self, files: &[FillingFile]) {
        let (topic, sends_rest) = (&self.topic, &self.sends_rest);
        for file in files.iter().take(CUT_OFF_NAMED) {
            let since = clock::local_time_text(file.row.most_recent_message_ms);
            tracing::warn!(file = %file.row.rel_filepath, %topic, offsets = %file.row.offsets,
                "no chunk of a file has come since {since}, {} of {} are there: its upload was probably cut off. \
                {sends_rest}", text::count(file.there.into()), text::count(file.row.n_chunks.into()));
        }
        let more = files.len().saturating_sub(CUT_OFF_NAMED) as u64;
        if more > 0 {
            tracing::warn!(%topic, "the same holds for {}; the table of files in progress names them",
                text::counted(more, "more file"));
        }
    }

    fn tell_failure(&self, file: &FileRow, status: FailureStatus, reason: &str, attempts: u32) {
        let topic = &self.topic;
        let told = self.failures.lock().failed(Instant::now(), status, reason, &file.rel_filepath);
        match told.after {
            Some(0) => tracing::error!(file = %file.rel_filepath, %topic, offsets = %file.offsets, attempts,
                error = %reason, "the file could not be processed"),
            Some(alike) => tracing::error!(file = %file.rel_filepath, %topic, offsets = %file.offsets, attempts,
                error = %reason, alike, "the file could not be processed. {} before it failed in the same way; the table \
                of failures names them", text::counted(alike, "more file")),
            None => {}
        }
        if told.is_hundredth
            && let Some(what_to_do) = what_to_do(status)
        {
            let then = match status {
                FailureStatus::EndedTheProgram => "`datamill retry` asks for another try of the failed files",
                _ => "the failed files are tried again then",
            };
            tracing::error!(%topic, error = %reason,
                "the first {FIRST_FILES} files of this run have all failed in the same way. {what_to_do}. Stop the program \
                with `q` or Ctrl-C, mend that, and start it again: {then}");
        }
    }
}

impl Listener for Lines {
    fn hear(&self, fact: &Fact<'_>) {
        let topic = &self.topic;
        match *fact {
            Fact::Undecodable { partition, offset, error } => self.add_other(partition, offset, error),
            Fact::FirstChunk { .. } => self.has_chunks.store(true, Relaxed),
            Fact::Lost { partition, offset } => tracing::error!(%topic, partition, offset,
                "the first chunk of an unfinished file was removed from the topic; the file is lost, upload it again"),
            Fact::CutOff(files) => self.tell_cut_off(files),
            Fact::AttemptFailed { file, attempt, max_attempts, status, reason, wait } => {
                match self.attempts.lock().failed(Instant::now(), status, reason, file).after {
                    Some(0) => tracing::warn!(attempt, max_attempts, error = %reason,
                        "the function failed; it runs again in {wait:?}"),
                    Some(alike) => tracing::warn!(attempt, max_attempts, error = %reason, alike,
                        "the function failed, in the same way as {} since the last such line; it runs again in {wait:?}",
                        text::counted(alike, "other time")),
                    None => {}
                }
            }
            Fact::Done { file, .. } => {
                self.failures.lock().succeeded();
                tracing::debug!(file = %file.rel_filepath, "file done");
            }
            Fact::Failed { file, status, reason, attempts, .. } => self.tell_failure(file, status, reason, attempts),
            Fact::CameLate { file } => tracing::info!(file = %file.rel_filepath, %topic, offsets = %file.offsets,
                "chunks of an incomplete file came late and were added to it"),
            Fact::BegunBefore { file, reason, .. } => tracing::warn!(file = %file.rel_filepath, %topic,
                offsets = %file.offsets, "only the end of a file was read: {reason}"),
            Fact::Replaced { file, by_newer } => {
                let why = match by_newer {
                    true => {
                        "an upload of this file was given up because the file had changed; a newer version follows it"
                    }
                    false => "a repeated upload of this file is incomplete; its chunks are not waited for any longer",
                };
                tracing::info!(file = %file.rel_filepath, %topic, offsets = %file.offsets, "{why}");
            }
            Fact::OutputFolder { gone: Some(gone) } => {
                let end = if gone.ends_with('?') { "" } else { "." };
                tracing::error!(%topic, "{gone}{end} What needs the output folder waits until it is back; nothing is lost");
            }
            Fact::OutputFolder { gone: None } => tracing::info!(%topic, "the output folder is back; going on"),
            Fact::NoDeadLetter { file, message } => {
                let left_out = "the topic of dead letters takes none that says what happened; it is left out";
                let (partition, offset) = message.unzip();
                tracing::error!(file, %topic, partition, offset, "{left_out}");
            }
            _ => {}
        }
    }
}

fn what_to_do(status: FailureStatus) -> Option<&'static str> {
    match status {
        FailureStatus::Failed | FailureStatus::ComputingResultMessageFailed => {
            Some("Look at the function, and whether `--consumer_topic_name` names a topic with files for it")
        }
        FailureStatus::MismatchedHash => Some("What arrives is not what was sent: look at the program that uploads"),
        FailureStatus::ProducingMessageFailed => Some("Look at the settings of the topic of the results"),
        FailureStatus::EndedTheProgram => {
            Some("Look at what the function uses: a library that crashes, or more memory than there is")
        }
        FailureStatus::Incomplete | FailureStatus::BegunBefore | FailureStatus::Expired => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use datamill_broker::Properties;

    use super::*;
    use crate::facts::Rest;

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn said(work: impl FnOnce(&Lines)) -> Vec<String> {
        let said = Said::default();
        let kept = said.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || kept.clone()).finish();
        let folder = tempfile::tempdir().unwrap();
        let servers = format!("sqlite:{}", folder.path().join("log.db").display());
        let log = datamill_broker::open(&Properties {
            broker: BTreeMap::from([("bootstrap.servers".to_owned(), servers)]),
            options: "--config 'my lab.config'".to_owned(),
            ..Properties::default()
        });
        let about = Lines::about(log.unwrap().as_ref(), &"t".into());
        tracing::subscriber::with_default(lines, || work(&about));
        let text = String::from_utf8(said.0.lock().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn messages_that_are_not_chunks_have_one_line_with_their_number_and_offsets() {
        let other = |lines: &Lines, offset, error: &str| {
            lines.hear(&Fact::Undecodable { partition: 0, offset, error });
        };
        let found = said(|lines| {
            (0..6).chain(7..13).for_each(|offset| other(lines, offset, &format!("no array at byte {offset}")));
            lines.tell_others();
            lines.tell_others();
            lines.hear(&Fact::FirstChunk { file: "a", chunks: 1 });
            other(lines, 20, "empty");
            lines.tell_others();
        });
        assert_eq!(found.len(), 2, "{found:?}");
        for part in ["12 messages are not chunks", "0:0-5,0:7-12", "no array at byte 0", "is it the topic that files"] {
            assert!(found[0].contains(part), "{part}: {found:?}");
        }
        assert!(found[1].contains("a message is not a chunk of a file"), "{found:?}");
        assert!(found[1].contains("0:20") && !found[1].contains("is it the topic"), "{found:?}");
    }

    #[test]
    fn no_line_about_such_messages_is_long() {
        let found = said(|lines| {
            for offset in 0..500 {
                lines.hear(&Fact::Undecodable { partition: 0, offset: 2 * offset, error: "empty" });
            }
            lines.tell_others();
        });
        assert_eq!(found.len(), 10);
    }

    #[test]
    fn the_commands_for_an_upload_that_was_cut_off_can_be_pasted() {
        let row = FileRow { rel_filepath: "half".to_owned(), n_chunks: 2, ..FileRow::default() };
        let file = FillingFile { row, there: 1, bytes: 3, rest: Rest::CutOff };
        let found = said(|lines| lines.hear(&Fact::CutOff(&[file])));
        let end = "`datamill reconcile DIR --topic_name t --problems --config 'my lab.config'` compares a folder with the \
            topic, `datamill upload DIR --topic_name t --only-missing --config 'my lab.config'` sends what is missing; \
            give both the `--path_prefix` of the upload, where it had one";
        assert!(found.len() == 1 && found[0].contains(end), "{found:?}");
    }
}
