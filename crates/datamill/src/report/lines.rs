//! Makes one line of text of each tracing event and hands it to the outputs that want its level.
//!
//! The fields of the spans around an event are part of its line, so that what user code logs carries
//! the name of its file. Names come from messages, which may be hostile: control characters never
//! reach a terminal or a file as they are.

use std::error::Error;
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::clock;
use super::text::{chain, plain, printable};

/// Takes lines.
pub(super) trait Output: Send + Sync {
    /// Lines of more detail are not wanted.
    fn level(&self) -> LevelFilter;

    /// Takes one line. What goes wrong is the output's own business.
    fn write(&self, line: &Line<'_>);
}

/// Target of lines that every output takes, whatever its level: those of Python code with the level `critical`, which is
/// above all levels that lines have here.
pub const CRITICAL: &str = "critical";

/// One event.
pub(super) struct Line<'a> {
    /// Milliseconds since the Unix epoch.
    pub(super) time_ms: i64,
    pub(super) level: Level,
    /// The module that it comes from.
    pub(super) target: &'a str,
    /// The message and ` name=value` of each field.
    pub(super) text: &'a str,
}

impl Line<'_> {
    /// Whether an output of this level takes the line.
    pub(super) fn is_for(&self, level: LevelFilter) -> bool {
        self.level <= level || self.target == CRITICAL
    }

    /// For people: `2026-11-22 10:00:01 INFO  message field=value`.
    pub(super) fn short(&self, colours: bool) -> String {
        let time = clock::local_time_text(self.time_ms);
        let Self { level, text, .. } = self;
        match colours {
            false => format!("{time} {level:<5} {text}\n"),
            true => {
                let colour = match *level {
                    Level::ERROR => 31,
                    Level::WARN => 33,
                    Level::INFO => 32,
                    _ => 36,
                };
                format!("\x1b[2m{time}\x1b[0m \x1b[{colour}m{level:<5}\x1b[0m {text}\n")
            }
        }
    }

    /// For files and topics: `2026-11-22T10:00:01.250+01:00 INFO  target: message field=value`.
    pub(super) fn full(&self) -> String {
        let Self { level, target, text, .. } = self;
        format!("{} {level:<5} {target}: {text}", clock::local_timestamp(self.time_ms))
    }
}

/// The layer.
pub(super) struct Lines<O>(pub(super) O);

/// Fields of a span, kept in its extensions.
struct SpanFields(Fields);

/// How much an event matters to people: what the library of the object stores says of single requests is for
/// who looks for a fault.
fn level_of(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        Level::INFO if metadata.target().starts_with("object_store") => Level::DEBUG,
        level => level,
    }
}

impl<O: Output + 'static, S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines<O> {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // Spans give their fields to events of any level.
        metadata.is_span() || metadata.target() == CRITICAL || level_of(metadata) <= self.0.level()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.level().max(LevelFilter::ERROR))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(SpanFields(fields));
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(SpanFields(fields)) = span.extensions_mut().get_mut()
        {
            record.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(scope) = context.event_scope(event) {
            for span in scope {
                if let Some(SpanFields(outer)) = span.extensions().get() {
                    fields.inherit(outer);
                }
            }
        }
        let text = fields.text();
        let line = Line { time_ms: clock::now_ms(), level: level_of(metadata), target: metadata.target(), text: &text };
        if line.is_for(self.0.level()) {
            self.0.write(&line);
        }
    }
}

/// The message and the other fields of an event or a span.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Fields {
    fn set(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
            return;
        }
        match self.others.iter_mut().find(|(name, _)| *name == field.name()) {
            Some(other) => other.1 = value,
            None => self.others.push((field.name(), value)),
        }
    }

    /// Takes over what is not there yet: the inner value of a name counts.
    fn inherit(&mut self, outer: &Self) {
        for (name, value) in &outer.others {
            if !self.others.iter().any(|(known, _)| known == name) {
                self.others.push((name, value.clone()));
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::with_capacity(self.message.len() + 32 * self.others.len());
        escape(&self.message, &mut text);
        for (name, value) in &self.others {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(name);
            text.push('=');
            let quoted = value.len() > 1 && value.starts_with('"') && value.ends_with('"');
            if !quoted && (value.is_empty() || value.contains([' ', '"', '='])) {
                text.push('"');
                escape(&value.replace('"', "\\\""), &mut text);
                text.push('"');
            } else {
                escape(value, &mut text);
            }
        }
        text
    }
}

/// Appends the text with its control characters written out.
fn escape(value: &str, into: &mut String) {
    into.push_str(&printable(value));
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        self.set(field, plain(&value).to_owned());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.set(field, chain(value));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::{debug, info, info_span, warn};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Output for Kept {
        fn level(&self) -> LevelFilter {
            LevelFilter::INFO
        }

        fn write(&self, line: &Line<'_>) {
            self.0.lock().push(line.text.to_owned());
        }
    }

    fn lines(log: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        let layer = Lines(kept.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let lines = kept.0.lock();
        lines.clone()
    }

    #[test]
    fn a_line_holds_message_and_fields() {
        let lines = lines(|| {
            info!(topic = "raw", partition = 3, "started");
            debug!("not wanted");
            warn!(error = %"two words", empty = "", text = ?"a \"b\"", "odd");
        });
        assert_eq!(lines, ["started topic=raw partition=3", r#"odd error="two words" empty="" text="a \"b\"""#]);
    }

    #[test]
    fn lines_inside_a_span_carry_its_fields() {
        let lines = lines(|| {
            let outer = info_span!("work", file = "a/b.txt", topic = "raw");
            let _outer = outer.enter();
            info!("from user code");
            let inner = info_span!("step", file = tracing::field::Empty);
            let _inner = inner.enter();
            inner.record("file", "c.txt");
            info!(topic = "other", "deeper");
        });
        assert_eq!(lines, ["from user code file=a/b.txt topic=raw", "deeper topic=other file=c.txt"]);
    }

    #[test]
    fn control_characters_do_not_get_through() {
        let lines = lines(|| info!(file = "a\n2026 ERROR \x1b[31mfake", "name\r\n"));
        assert_eq!(lines, [r#"name\r\n file="a\n2026 ERROR \u{1b}[31mfake""#]);
    }

    #[test]
    fn an_error_comes_with_its_causes() {
        let io = std::io::Error::other("disk is full");
        let error = datamill_broker::Error::with_source(datamill_broker::ErrorKind::NoSpace, "cannot commit", io);
        let lines = lines(|| warn!(error = &error as &(dyn Error + 'static), "held"));
        assert_eq!(lines, [r#"held error="cannot commit: disk is full""#]);
    }

    #[test]
    fn the_forms_of_a_line() {
        let line = Line { time_ms: 1_700_000_000_250, level: Level::WARN, target: "datamill::x", text: "odd a=1" };
        assert!(line.short(false).ends_with(":20 WARN  odd a=1\n"), "{}", line.short(false));
        assert!(line.short(true).contains("\x1b[33mWARN "), "{:?}", line.short(true));
        let full = line.full();
        assert!(full.contains(":20.250") && full.ends_with(" WARN  datamill::x: odd a=1"), "{full}");
    }
}
