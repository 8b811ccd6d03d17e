//! The time of day. It is asked for here and nowhere else; all others are given it.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::TimeZone;

/// Writes times of the day to the second, with a space before them.
const LOCAL_TIME: DateTimePrinter = DateTimePrinter::new().separator(b' ').precision(Some(0));

/// Milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "this is the clock of the crate")]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time in ISO 8601, UTC, with microseconds and the offset `+00:00`: the form that every version of
/// Python reads.
pub fn iso8601_utc(ms: i64) -> String {
    timestamp(ms).to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
}

/// A time in the zone of this machine: `2026-11-22 10:00:01`.
pub fn local_time_text(ms: i64) -> String {
    LOCAL_TIME.datetime_to_string(&timestamp(ms).to_zoned(TimeZone::system()).datetime())
}

/// A month in the zone of this machine: `2026-11`.
pub(crate) fn local_month(ms: i64) -> String {
    let mut text = local_time_text(ms);
    text.truncate(text.rfind('-').unwrap_or(text.len()));
    text
}

/// [`local_time_text`] of times of which many follow each other within a second.
#[derive(Debug, Default)]
pub(crate) struct LocalTimes {
    second: Option<i64>,
    text: String,
}

impl LocalTimes {
    /// The text of a time, milliseconds since the epoch.
    pub(crate) fn text(&mut self, ms: i64) -> &str {
        let second = Some(ms.div_euclid(1000));
        if self.second != second {
            (self.second, self.text) = (second, local_time_text(ms));
        }
        &self.text
    }
}

/// A time in the zone of this machine with milliseconds and the offset:
/// `2026-11-22T10:00:01.250+01:00`.
pub(crate) fn local_timestamp(ms: i64) -> String {
    timestamp(ms).to_zoned(TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S.%3f%:z").to_string()
}

/// A time as a person writes it, in milliseconds since the epoch: a day, with or without a time, in the zone of this
/// machine, or a time with an offset or `Z`.
///
/// # Errors
/// The text is no such time.
pub fn parse(text: &str) -> Result<i64, &'static str> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_millisecond());
    }
    let local = text.parse::<DateTime>().ok().and_then(|time| time.to_zoned(TimeZone::system()).ok());
    let local = local.ok_or("write a time as `2026-11-22`, `2026-11-22 14:30` or `2026-11-22T14:30:00Z`")?;
    Ok(local.timestamp().as_millisecond())
}

/// The nearest time that can be written: years -9999 to 9999.
fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_the_forms_that_others_read() {
        assert_eq!(iso8601_utc(1_700_000_000_250), "2023-11-14T22:13:20.250000+00:00");
        assert_eq!(iso8601_utc(0), "1970-01-01T00:00:00.000000+00:00");
        let local = timestamp(1_700_000_000_999).to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        assert_eq!(local_time_text(1_700_000_000_999), local);
        assert!(local_timestamp(1_700_000_000_250).contains(":20.250"));
        assert_eq!(local_month(1_700_000_000_999), local[..7]);
        assert!(!iso8601_utc(i64::MAX).is_empty() && !iso8601_utc(i64::MIN).is_empty());
        assert!(!local_time_text(i64::MIN).is_empty() && !local_timestamp(i64::MAX).is_empty());
    }

    #[test]
    fn times_that_follow_each_other_have_the_texts_that_they_have_alone() {
        let mut times = LocalTimes::default();
        for ms in [0, 999, 1000, 1999, -1, -1000, -1001, 0, 1_700_000_000_999, i64::MAX, i64::MIN] {
            assert_eq!(times.text(ms), local_time_text(ms), "{ms}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(parse("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000));
        assert_eq!(parse("2023-11-14 23:13:20+01:00"), Ok(1_700_000_000_000));
        assert_eq!(parse(&local_time_text(1_700_000_000_000)), Ok(1_700_000_000_000));
        let day = parse("2023-11-14").unwrap();
        assert_eq!(local_time_text(day), "2023-11-14 00:00:00");
        assert_eq!(parse("2023-11-14 08:30"), Ok(day + 30_600_000));
        for wrong in ["", "yesterday", "2023-13-01", "14.11.2023"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_clock_runs() {
        assert!(now_ms() > 1_700_000_000_000);
    }
}
