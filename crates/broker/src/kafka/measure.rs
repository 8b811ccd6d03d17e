//! Records that their topic does not take, found before anything is sent.
//!
//! ```text
//!  record ──▶ larger than the topic's batch? ──▶ larger when it arrives, too? ──▶ asked again, still? ──▶ refused
//! ```
//! A broker measures a batch as it arrives: compressed. A record that is larger than its topic's limit travels in a batch
//! of its own, so what that will have is known beforehand where nothing is compressed, and nearly known for LZ4, which is
//! the default. Where a record may fit, and where it is compressed in another way, the broker decides.

use lz4_flex::block::{compress_into, get_maximum_output_size};

use super::cluster::Cluster;
use crate::contract::NewRecord;
use crate::error::{Error, ErrorKind};

/// How records are compressed on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Not at all.
    None,
    /// By LZ4, at its usual level.
    Lz4,
    /// In a way that is not measured here.
    Other,
}

/// librdkafka compresses blocks of so many bytes, each for itself (`rdkafka_lz4.c`).
const BLOCK: usize = 64 << 10;

/// What is refused here is larger than the limit by this part of its measured size at least: two compressors do not
/// find the same repetitions.
const MARGIN: usize = 8;

/// The records that their topic takes in no way, by their number.
pub(super) fn too_large(cluster: &Cluster, records: &[NewRecord<'_>]) -> Vec<(usize, Error)> {
    let compression = cluster.settings.compression();
    let refused = |(index, record): (usize, &NewRecord<'_>)| {
        let limit = cluster.target(record.topic).ok()?.limits.batch?;
        let bytes = size(record);
        let never = bytes > limit && least_on_arrival(record, compression, limit) > limit;
        never.then(|| (index, refusal(record.topic, bytes, limit, compression)))
    };
    let refused: Vec<_> = records.iter().enumerate().filter_map(refused).collect();
    if refused.is_empty() {
        return refused;
    }
    // the limit may have been raised since it was looked up
    refused.iter().for_each(|(index, _)| cluster.forget(records[*index].topic));
    let again = refused.into_iter().filter(|(index, _)| {
        let record = &records[*index];
        let limit = cluster.target(record.topic).ok().and_then(|target| target.limits.batch);
        limit.is_some_and(|limit| least_on_arrival(record, compression, limit) > limit)
    });
    again.collect()
}

fn refusal(topic: &str, bytes: usize, limit: usize, compression: Compression) -> Error {
    let also = if compression == Compression::None { "" } else { ", also when it is compressed" };
    let text = format!(
        "a record of {bytes} bytes for topic `{topic}` is too large{also}: the topic takes {limit} (its \
        `max.message.bytes`)"
    );
    Error::new(ErrorKind::RecordTooLarge, text)
}

/// Bytes of a record, with what its headers need besides.
pub(super) fn size(record: &NewRecord<'_>) -> usize {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len() + 10).sum();
    record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + headers
}

/// What a batch of this record alone has at least when it arrives. Counting ends above `enough`.
fn least_on_arrival(record: &NewRecord<'_>, compression: Compression, enough: usize) -> usize {
    match compression {
        Compression::None => size(record),
        Compression::Lz4 => {
            let value = record.value.unwrap_or_default();
            let mut room = vec![0; get_maximum_output_size(BLOCK)];
            let (mut bytes, mut least) = (0, 0);
            for block in value.chunks(BLOCK) {
                // a block that does not get smaller travels as it is
                bytes += compress_into(block, &mut room).map_or(block.len(), |packed| packed.min(block.len()));
                least = bytes - bytes / MARGIN;
                if least > enough {
                    break;
                }
            }
            least
        }
        Compression::Other => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least(value: &[u8], compression: Compression, enough: usize) -> usize {
        least_on_arrival(&NewRecord { topic: "t", value: Some(value), ..NewRecord::default() }, compression, enough)
    }

    /// Bytes in which nothing is repeated.
    fn noise(size: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        };
        (0..size).map(|_| next()).collect()
    }

    #[test]
    fn a_record_has_on_arrival_what_compression_leaves_of_it() {
        let (zeros, noise) = (vec![0; 1 << 20], noise(1 << 20));
        assert_eq!(least(&zeros, Compression::None, usize::MAX), 1 << 20);
        assert!(least(&zeros, Compression::Lz4, usize::MAX) < 1 << 14);
        let measured = least(&noise, Compression::Lz4, usize::MAX);
        assert!((7 << 17..=1 << 20).contains(&measured), "{measured}");
        assert_eq!(least(&noise, Compression::Other, usize::MAX), 0);
    }

    #[test]
    fn counting_ends_above_what_is_enough() {
        let measured = least(&noise(1 << 20), Compression::Lz4, 1000);
        assert!((1000..2 * BLOCK).contains(&measured), "{measured}");
    }
}
