//! Why a message is no chunk that can be used.

use std::str::Utf8Error;

use crate::chunk::{MAX_CHUNKS, MAX_FILE_BYTES};
use crate::name::{MAX_PATH_BYTES, NameFault};

/// Why a message is refused. Each is final: the same bytes will never be accepted. Fields have the names
/// of the format in [`chunk`](crate::chunk).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkError {
    /// No bytes at all.
    #[error("the message is empty")]
    Empty,
    /// Text in JSON.
    #[error("the message is no chunk: it looks like JSON text")]
    Json,
    /// It does not start with an array.
    #[error("the message is no chunk: expected a MessagePack array, found {found}")]
    NotAnArray {
        /// What it starts with.
        found: &'static str,
    },
    /// An array of another length.
    #[error("the message has {found} fields, a chunk has 9 or 10")]
    FieldCount {
        /// The length that the array claims.
        found: u32,
    },
    /// The bytes end before the last field does.
    #[error("the message is truncated: it ends within `{field}`")]
    Truncated {
        /// The field that is not whole.
        field: &'static str,
    },
    /// Bytes after the last field.
    #[error("the message has {count} bytes after its last field")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A field of another type.
    #[error("`{field}` must be {expected}, found {found}")]
    WrongType {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A text field that is not UTF-8.
    #[error("`{field}` is not UTF-8")]
    NotUtf8 {
        /// The field.
        field: &'static str,
        /// Where it stops being UTF-8.
        source: Utf8Error,
    },
    /// A hash of another length.
    #[error("`{field}` has {length} bytes, SHA-512 has 64")]
    HashLength {
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// A count or offset below zero.
    #[error("`{field}` is negative: {value}")]
    Negative {
        /// The field.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// More chunks than a file can have.
    #[error("`n_total_chunks` claims {total} chunks, a file has at most {MAX_CHUNKS}")]
    TooManyChunks {
        /// The number claimed.
        total: u64,
    },
    /// Index 0.
    #[error("`chunk_i` is 0, the first chunk has index 1")]
    IndexZero,
    /// An index above the number of chunks.
    #[error("`chunk_i` is {index}, above the total of {total} chunks")]
    IndexAboveTotal {
        /// The index.
        index: u64,
        /// The number of chunks.
        total: u64,
    },
    /// Data that would lie beyond the longest file.
    #[error(
        "`chunk_offset_write` {offset} with {length} bytes of data exceeds the longest file, {MAX_FILE_BYTES} bytes"
    )]
    OffsetTooLarge {
        /// The write offset in bytes.
        offset: u64,
        /// Length of the data in bytes.
        length: usize,
    },
    /// More data than one MessagePack field holds.
    #[error("`data` has {length} bytes, a message holds at most {max}", max = u32::MAX)]
    DataTooLong {
        /// Length of the data in bytes.
        length: usize,
    },
    /// A name that could lead out of the output folder, or that no file can have.
    #[error("`{field}` `{name}` {fault}")]
    UnsafeName {
        /// The field, or `rebuilt filename`.
        field: &'static str,
        /// The name, escaped, and cut where it is long.
        name: String,
        /// What is wrong with it.
        fault: NameFault,
    },
    /// A rebuilt path that is too long.
    #[error("the rebuilt path has {length} bytes, the limit is {MAX_PATH_BYTES}")]
    PathTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The data is not what the chunk's hash says.
    #[error("the data of chunk {index} of {total} does not match its `chunk_hash`")]
    ChunkHashMismatch {
        /// Index of the chunk.
        index: u32,
        /// Number of chunks of the file.
        total: u32,
    },
}

impl ChunkError {
    pub(crate) fn unsafe_name(field: &'static str, name: &str, fault: NameFault) -> Self {
        Self::UnsafeName { field, name: printable(name), fault }
    }
}

/// `name` without anything that could disturb a terminal or a log, at most some hundred characters.
fn printable(name: &str) -> String {
    const LONGEST: usize = 120;
    let mut text = String::new();
    for (count, character) in name.chars().enumerate() {
        if count == LONGEST {
            text.push('…');
            break;
        }
        match character {
            '\'' | '"' | '\\' => text.push(character),
            _ => text.extend(character.escape_debug()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_an_error_cannot_disturb_a_terminal() {
        assert_eq!(printable("a\u{1b}[2J\n\0ü 'x'"), "a\\u{1b}[2J\\n\\0ü 'x'");
        let long = printable(&"x".repeat(10_000));
        assert_eq!(long.chars().count(), 121);
        assert!(long.ends_with('…'));
    }
}
