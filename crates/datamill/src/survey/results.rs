//! The messages on a topic of results, as what became of files. Those of datamill name their file, its version and its
//! upload in headers; those of OpenMSIStream have a key alone, which several paths may share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill_broker::{Log, Record, Topic};
use datamill_wire::headers;

use super::error::SurveyError;
use super::pass::{all_of, read};
use super::table::{ResultOf, Table};
use crate::control::Control;
use crate::engine::sha512_of_hex;
use crate::read::{Span, header};

/// How long open transactions are waited for: one that a program left open when it died stays so for a minute.
const DECIDED_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Puts the results of files of topic `source` into the table.
pub(super) fn collect(
    log: &Arc<dyn Log>,
    topic: &Topic,
    source: &str,
    table: &Table,
    control: &Control,
) -> Result<(), SurveyError> {
    let spans = decided(log.as_ref(), topic, control)?;
    read(log, topic, &spans, control, &mut |record| take(record, source, table).map(|()| true))
}

/// All that is in the topic, with the results of transactions that are open at this moment. A member knows of its commit,
/// and its position tells of it, a moment before the results are seen.
fn decided(log: &dyn Log, topic: &Topic, control: &Control) -> Result<Vec<Span>, SurveyError> {
    let end = |partition| Ok(log.offsets(&topic.name, partition)?.end);
    let ends = (0..topic.partitions).map(end).collect::<Result<Vec<i64>, SurveyError>>()?;
    let begun = Instant::now();
    loop {
        let spans = all_of(log, topic)?;
        let is_decided = spans.iter().zip(&ends).all(|(span, end)| span.end >= *end);
        if is_decided || begun.elapsed() >= DECIDED_WITHIN || control.stopping().is_some() {
            return Ok(spans);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn take(record: &Record<'_>, source: &str, table: &Table) -> Result<(), SurveyError> {
    let header = |wanted: &str| header(record, wanted);
    let place = format!("{}:{}", record.partition, record.offset);
    let Some(path) = header(headers::SOURCE_PATH) else {
        return match record.key.map(std::str::from_utf8) {
            Some(Ok(key)) => table.add_keyed(key, &place),
            _ => Ok(()),
        };
    };
    if header(headers::SOURCE_TOPIC).is_some_and(|topic| topic != source) {
        return Ok(());
    }
    let group = header(headers::GROUP);
    let of = [header(headers::SOURCE_TOPIC_ID), header(headers::SOURCE_OFFSETS), header(headers::PROGRAM), group];
    table.add_result(&ResultOf {
        path: path.to_owned(),
        sha512: header(headers::SOURCE_SHA512).and_then(sha512_of_hex).map(|sha512| sha512.to_vec()),
        source: of.map(Option::unwrap_or_default).join(" "),
        group: group.map(str::to_owned),
        answers: [headers::RETRY_OF, headers::RERUN_OF].iter().any(|answer| header(answer).is_some()),
        place,
    })
}
