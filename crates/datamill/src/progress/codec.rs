//! The text form of [`Progress`], kept beside a committed offset.
//!
//! ```text
//! text    = "D1" base64url(body checksum)          no padding; the topic's id is not known
//!         | "D2" tag base64url(body checksum)
//! tag     = base64url(first 6 bytes of SHA-256(id of the topic)), 8 characters
//! body    = varint(H - W) varint(n) entry{n}
//! entry   = varint(gap * 2 + shadow)               gap = offset - previous offset, the first from W
//! varint  = LEB128, unsigned
//! checksum = first 4 bytes of SHA-256(W as 8 bytes big-endian, tag, body)
//!
//! "DT" tag ":" key  or  "DS:" key                  stands in the place of a text that is too long, and names the key
//!                                                  of the group's state that holds it
//! ```
//!
//! An empty text is a position that was set by hand or by another program: W with nothing open. The
//! checksum covers W, so a text that was moved to another offset is refused. The tag says for which topic of its
//! name a text was written: one that was deleted and created again has another id, and the offsets of the old one
//! mean nothing in it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::{OpenKind, Progress};

const WITHOUT_TAG: &str = "D1";
const WITH_TAG: &str = "D2";
const ELSEWHERE: &str = "DS:";
const ELSEWHERE_WITH_TAG: &str = "DT";
const TAG_BYTES: usize = 6;
/// Characters of a tag.
const TAG: usize = 8;
const CHECKSUM_BYTES: usize = 4;

/// A progress text that cannot be understood. It is never guessed at.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProgressError {
    /// Written by another version of the format, or by another program.
    #[error("the progress text is of an unknown format (it begins with `{0}`)")]
    UnknownFormat(String),
    /// Damaged.
    #[error("the progress text is damaged: {0}")]
    Damaged(&'static str),
}

/// Tells a topic from others that have had its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTag(String);

impl TopicTag {
    /// That of a topic with this id.
    pub fn of(topic_id: &str) -> Self {
        Self(URL_SAFE_NO_PAD.encode(&Sha256::digest(topic_id)[..TAG_BYTES]))
    }
}

/// The tag and the rest of a text that has one.
fn split_tag<'a>(text: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    text.strip_prefix(prefix)?.split_at_checked(TAG)
}

/// Whether a text was written for another topic than the one with this id.
pub(crate) fn is_foreign(text: &str, topic_id: &str) -> bool {
    let tagged = split_tag(text, WITH_TAG).or_else(|| split_tag(text, ELSEWHERE_WITH_TAG));
    tagged.is_some_and(|(tag, _)| tag != TopicTag::of(topic_id).0)
}

/// Whether a text says for which topic it was written.
pub fn is_tagged(text: &str) -> bool {
    split_tag(text, WITH_TAG).or_else(|| split_tag(text, ELSEWHERE_WITH_TAG)).is_some()
}

/// What stands in the place of a text that lies in the group's state.
pub fn elsewhere(key: &str, topic: Option<&TopicTag>) -> String {
    match topic {
        Some(TopicTag(tag)) => format!("{ELSEWHERE_WITH_TAG}{tag}:{key}"),
        None => format!("{ELSEWHERE}{key}"),
    }
}

/// The key of the group's state that holds the text, where it is not this one.
pub(crate) fn key_of_elsewhere(text: &str) -> Option<&str> {
    let tagged = split_tag(text, ELSEWHERE_WITH_TAG).and_then(|(_, rest)| rest.strip_prefix(':'));
    tagged.or_else(|| text.strip_prefix(ELSEWHERE))
}

/// The position W and the text of `progress` in a topic.
pub fn encode(progress: &Progress, topic: Option<&TopicTag>) -> (i64, String) {
    let position = progress.position();
    let mut body = Vec::with_capacity(8 + 3 * progress.open.len());
    put(&mut body, distance(position, progress.frontier));
    put(&mut body, progress.open.len() as u64);
    let mut previous = position;
    for (&offset, &kind) in &progress.open {
        put(&mut body, distance(previous, offset) << 1 | u64::from(kind == OpenKind::Shadow));
        previous = offset;
    }
    let (version, tag) = topic.map_or((WITHOUT_TAG, ""), |topic| (WITH_TAG, &topic.0));
    let checksum = checksum(position, tag, &body);
    body.extend_from_slice(&checksum);
    (position, format!("{version}{tag}{}", URL_SAFE_NO_PAD.encode(body)))
}

/// The progress that was committed as `position` and `text`, in whatever topic.
pub fn decode(position: i64, text: &str) -> Result<Progress, ProgressError> {
    if text.is_empty() {
        return Ok(Progress::starting_at(position));
    }
    let untagged = text.strip_prefix(WITHOUT_TAG).map(|rest| ("", rest));
    let Some((tag, armoured)) = untagged.or_else(|| split_tag(text, WITH_TAG)) else {
        return Err(ProgressError::UnknownFormat(text.chars().take(8).collect()));
    };
    let bytes = URL_SAFE_NO_PAD.decode(armoured).map_err(|_| ProgressError::Damaged("not base64url"))?;
    let split = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(ProgressError::Damaged("too short"))?;
    let (mut body, sum) = bytes.split_at(split);
    if checksum(position, tag, body) != *sum {
        return Err(ProgressError::Damaged("the checksum does not match its position"));
    }
    let frontier = advance(position, take(&mut body)?)?;
    let count = take(&mut body)?;
    let mut open = BTreeMap::new();
    let mut offset = position;
    for i in 0..count {
        let entry = take(&mut body)?;
        let gap = entry >> 1;
        if (gap == 0) != (i == 0) {
            return Err(ProgressError::Damaged("the open list does not begin at the position or does not rise"));
        }
        offset = advance(offset, gap)?;
        if offset >= frontier {
            return Err(ProgressError::Damaged("an open file begins at or above the frontier"));
        }
        open.insert(offset, if entry & 1 == 1 { OpenKind::Shadow } else { OpenKind::Open });
    }
    if !body.is_empty() {
        return Err(ProgressError::Damaged("bytes follow the open list"));
    }
    if count == 0 && frontier != position {
        return Err(ProgressError::Damaged("nothing is open, but the frontier is not the position"));
    }
    Ok(Progress { frontier, open })
}

fn distance(from: i64, to: i64) -> u64 {
    debug_assert!(to >= from, "offsets of a progress rise");
    to.abs_diff(from)
}

fn advance(offset: i64, by: u64) -> Result<i64, ProgressError> {
    offset.checked_add_unsigned(by).ok_or(ProgressError::Damaged("an offset is out of range"))
}

fn checksum(position: i64, tag: &str, body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new().chain_update(position.to_be_bytes()).chain_update(tag).chain_update(body).finalize();
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
    sum
}

fn put(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn take(from: &mut &[u8]) -> Result<u64, ProgressError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first().ok_or(ProgressError::Damaged("it ends too early"))?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(ProgressError::Damaged("a number is out of range"));
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ProgressError::Damaged("a number is out of range"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn progress() -> impl Strategy<Value = Progress> {
        (0i64..1 << 50, proptest::collection::btree_map(0i64..1 << 40, any::<bool>(), 0..200), 1i64..1 << 40).prop_map(
            |(base, open, beyond)| {
                let open: BTreeMap<_, _> = open
                    .into_iter()
                    .map(|(o, shadow)| (base + o, if shadow { OpenKind::Shadow } else { OpenKind::Open }))
                    .collect();
                let frontier = open.keys().next_back().map_or(base, |last| last + beyond);
                Progress { frontier, open }
            },
        )
    }

    fn topic() -> impl Strategy<Value = Option<TopicTag>> {
        proptest::option::of("[a-z]{1,3}".prop_map(|id| TopicTag::of(&id)))
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(progress in progress(), topic in topic()) {
            let (position, text) = encode(&progress, topic.as_ref());
            prop_assert!(text.is_ascii());
            prop_assert_eq!(decode(position, &text), Ok(progress));
        }

        #[test]
        fn a_changed_character_is_refused(
            progress in progress(),
            topic in topic(),
            at in any::<prop::sample::Index>(),
            with in "[A-Za-z0-9_-]",
        ) {
            let (position, text) = encode(&progress, topic.as_ref());
            let at = at.index(text.len());
            let mut changed = text.clone();
            changed.replace_range(at..=at, &with);
            // the last character may hold bits that do not count; the decoder refuses those that differ
            prop_assert!(changed == text || decode(position, &changed).is_err());
        }

        #[test]
        fn a_text_at_another_position_is_refused(progress in progress(), topic in topic(), by in 1i64..1000) {
            let (position, text) = encode(&progress, topic.as_ref());
            prop_assert!(decode(position + by, &text).is_err());
        }

        #[test]
        fn any_text_is_decoded_or_refused_without_a_panic(position in any::<i64>(), text in "(D1|D2|DT|DS:)?[ -~µ]{0,80}") {
            let _ = (decode(position, &text), is_foreign(&text, "id"), key_of_elsewhere(&text));
        }
    }

    #[test]
    fn an_empty_text_is_a_start_at_the_position() {
        assert_eq!(decode(7, ""), Ok(Progress::starting_at(7)));
    }

    #[test]
    fn a_text_says_for_which_topic_it_was_written() {
        let (mine, progress) = (TopicTag::of("mine"), Progress::starting_at(7));
        let untagged = encode(&progress, None).1;
        assert_eq!(untagged, "D1AAAOSa3s", "as release 0.1.0 wrote it");
        for text in [encode(&progress, Some(&mine)).1, elsewhere("a/key", Some(&mine))] {
            assert!(!is_foreign(&text, "mine") && is_foreign(&text, "other") && is_tagged(&text), "{text}");
        }
        for text in ["", "D2short", "another program", &untagged, &elsewhere("a/key", None)] {
            assert!(!is_foreign(text, "mine") && !is_tagged(text), "{text}");
        }
        for topic in [Some(&mine), None] {
            assert_eq!(key_of_elsewhere(&elsewhere("a/key", topic)), Some("a/key"));
            assert_eq!(key_of_elsewhere(&encode(&progress, topic).1), None);
        }
    }

    #[test]
    fn a_text_of_another_program_is_named() {
        assert_eq!(decode(7, "consumer metadata"), Err(ProgressError::UnknownFormat("consumer".into())));
    }

    #[test]
    fn a_thousand_open_files_fit_beside_an_offset() {
        let open: BTreeMap<_, _> = (0..1000).map(|i| (i * 600, OpenKind::Open)).collect();
        let (_, text) = encode(&Progress { frontier: 600_000, open }, Some(&TopicTag::of("id")));
        assert!(text.len() <= datamill_broker::MAX_PROGRESS_TEXT, "{} characters", text.len());
    }
}
