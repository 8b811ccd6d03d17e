//! Numbers and errors as people read them.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

pub use datamill_broker::shell_word;

/// A number of bytes in decimal units: `999 B`, `12.3 MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    // What would be shown as 1000.0 is 1.0 of the next unit.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A time span: `250 ms`, `4.2 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`.
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    if seconds == 0 {
        return format!("{} ms", span.as_millis());
    }
    // What would be shown as 60.0 s is a minute.
    if span < Duration::from_millis(59_950) {
        return format!("{:.1} s", span.as_secs_f64());
    }
    match seconds.max(60) {
        seconds @ 0..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds @ 3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        seconds => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Bytes per second: `12.3 MB/s`; `-` where no time has passed.
pub fn rate(count: u64, span: Duration) -> String {
    match per_second(count, span) {
        Some(value) => format!("{}/s", bytes(value as u64)),
        None => "-".to_owned(),
    }
}

/// A number with its thousands apart: `12,345`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun: `1 file`, `12,345 files`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A number with its noun and its verb: `counted_with(1, "file", "is", "are")` is `1 file is`, as `12,345 files are`.
pub fn counted_with(number: u64, noun: &str, one: &str, many: &str) -> String {
    format!("{} {}", counted(number, noun), if number == 1 { one } else { many })
}

/// An error with its causes, each behind a colon; without the numbers that systems give to errors, and
/// without a cause that says again what was said.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = plain(&error.to_string()).to_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        let said = plain(&said);
        if !text.ends_with(said) {
            text.push_str(": ");
            text.push_str(said);
        }
        cause = error.source();
    }
    text
}

/// What an error says, without ` (os error 2)` at its end.
pub(super) fn plain(said: &str) -> &str {
    match said.rsplit_once(" (os error ") {
        Some((words, number)) if number.ends_with(')') => words,
        _ => said,
    }
}

/// A text that came from outside, for a terminal: control characters (line ends and terminal codes
/// among them) are written out.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut printable = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    Cow::Owned(printable)
}

/// What a topic of files with `cleanup.policy=compact` does to them, and what mends it. The key of a chunk is its path, with
/// `/` as `_`, its index and the number of chunks.
pub const COMPACTED: &str = "it keeps only the newest message of each key. So the broker removes the chunks of a file, \
    read or not, once the file is sent again in as many chunks, or another file whose path differs only in `/` and `_`: set \
    `cleanup.policy=delete`";

fn per_second(number: u64, span: Duration) -> Option<f64> {
    (!span.is_zero()).then(|| number as f64 / span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short() {
        for (count, wanted) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (12_345_678, "12.3 MB"),
            (999_949_999, "999.9 MB"),
            (999_950_000, "1.0 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(count), wanted);
        }
    }

    #[test]
    fn time_spans_are_short() {
        for (ms, wanted) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1000, "1.0 s"),
            (59_949, "59.9 s"),
            (59_960, "1 min 0 s"),
            (185_000, "3 min 5 s"),
            (3_600_000, "1 h 0 min"),
            (7_800_000, "2 h 10 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), wanted);
        }
    }

    #[test]
    fn causes_follow_without_numbers_and_repetitions() {
        let missing = std::io::Error::from_raw_os_error(2);
        let words = chain(&missing);
        assert!(!words.is_empty() && !words.contains("os error"), "{words}");
        let outer = datamill_broker::Error::with_source(datamill_broker::ErrorKind::Fatal, "cannot open `x`", missing);
        assert_eq!(chain(&outer), format!("cannot open `x`: {words}"));
        let twice = datamill_broker::Error::with_source(datamill_broker::ErrorKind::Fatal, "odd: full", "full");
        assert_eq!(chain(&twice), "odd: full");
    }

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(printable("a ü.csv"), "a ü.csv");
        assert_eq!(printable("a\n\u{1b}[31m"), r"a\n\u{1b}[31m");
    }

    #[test]
    fn words_of_a_command_can_be_pasted() {
        for (word, pasted) in [("lab.config", "lab.config"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''")] {
            assert_eq!(shell_word(word), pasted);
        }
    }

    #[test]
    fn rates_and_counts_are_short() {
        assert_eq!(rate(50_000_000, Duration::from_secs(4)), "12.5 MB/s");
        assert_eq!(rate(1, Duration::ZERO), "-");
        assert_eq!(count(0), "0");
        assert_eq!(count(123_456), "123,456");
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(1234, "file"), "1,234 files");
        assert_eq!(counted_with(1, "file", "is", "are"), "1 file is");
        assert_eq!(counted_with(0, "file", "is", "are"), "0 files are");
        assert_eq!(counted_with(8000, "file", "is", "are"), "8,000 files are");
    }
}
