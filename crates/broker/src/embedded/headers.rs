//! The headers of a record as one blob, so that a record is one row.
//!
//! ```text
//! headers = NULL where there are none, else one after the other, to the end of the blob:
//!   name_length   varint        bytes; 7 bits each, the lowest first, the highest bit set on all but the last (LEB128)
//!   name          UTF-8
//!   value_length  varint        bytes
//!   value         bytes
//! A varint has at most 5 bytes and is below 2^32.
//! ```

use std::fmt;

/// A blob that does not follow the structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stored headers do not follow their structure")
    }
}

impl std::error::Error for Malformed {}

/// Appends the blob of these headers; appends nothing where there are none.
///
/// The record that they belong to MUST be within the limit of a record, which is far below 2^32.
pub(super) fn encode(headers: &[(&str, &[u8])], into: &mut Vec<u8>) {
    for (name, value) in headers {
        put(name.as_bytes(), into);
        put(value, into);
    }
}

fn put(bytes: &[u8], into: &mut Vec<u8>) {
    let mut length = bytes.len();
    while length >= 0x80 {
        into.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    into.push(length as u8);
    into.extend_from_slice(bytes);
}

/// The headers of a blob, borrowed from it.
pub(super) fn decode(mut blob: &[u8]) -> Result<Vec<(&str, &[u8])>, Malformed> {
    let mut headers = Vec::new();
    while !blob.is_empty() {
        let name = std::str::from_utf8(take(&mut blob)?).map_err(|_| Malformed)?;
        headers.push((name, take(&mut blob)?));
    }
    Ok(headers)
}

fn take<'a>(blob: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let mut length = 0_u64;
    for at in 0..5 {
        let (&byte, rest) = blob.split_first().ok_or(Malformed)?;
        *blob = rest;
        length |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let length = usize::try_from(length).map_err(|_| Malformed)?;
            let (bytes, rest) = blob.split_at_checked(length).ok_or(Malformed)?;
            *blob = rest;
            return Ok(bytes);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were() {
        let long = vec![9_u8; 300];
        let headers: [(&str, &[u8]); 5] =
            [("", b""), ("größe", b"\xff\x00"), ("twice", b"1"), ("twice", b"2"), ("long", &long)];
        for count in 0..=headers.len() {
            let mut blob = Vec::new();
            encode(&headers[..count], &mut blob);
            assert_eq!(decode(&blob).unwrap(), headers[..count]);
        }
    }

    #[test]
    fn the_structure_is_pinned() {
        let mut blob = Vec::new();
        encode(&[("ab", &[7; 200])], &mut blob);
        assert_eq!(blob[..5], [2, b'a', b'b', 0xc8, 0x01]);
        assert_eq!(blob.len(), 205);
    }

    #[test]
    fn what_is_cut_or_overlong_is_refused() {
        let mut blob = Vec::new();
        encode(&[("name", b"value")], &mut blob);
        for cut in 1..blob.len() {
            // A cut between name and value leaves a name without a value.
            assert_eq!(decode(&blob[..cut]), Err(Malformed), "cut at {cut}");
        }
        assert_eq!(decode(&[0x80; 6]), Err(Malformed));
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(Malformed));
        assert_eq!(decode(&[1, 0xff, 0]), Err(Malformed), "a name that is not UTF-8");
    }
}
