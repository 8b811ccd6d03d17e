//! The golden vectors, made with the serializer of OpenMSIStream.

use std::collections::BTreeSet;
use std::error::Error;

use datamill_testkit::vectors;
use datamill_wire::{Chunk, ChunkError, NameFault, hex, result_key, sha512};

#[test]
fn every_message_decodes_to_what_the_manifest_says_and_encodes_to_the_same_bytes() {
    let vectors = vectors::load().unwrap();
    assert_eq!(vectors.messages.len(), 24);
    for message in &vectors.messages {
        let chunk = Chunk::decode(&message.bytes).unwrap_or_else(|e| panic!("{}: {e}", message.file));
        assert_eq!(chunk.filename, message.filename, "{}", message.file);
        assert_eq!(chunk.subdir, message.subdir, "{}", message.file);
        assert_eq!(chunk.filename_append, message.filename_append, "{}", message.file);
        assert_eq!(chunk.index, message.chunk_i, "{}", message.file);
        assert_eq!(chunk.total, message.n_total_chunks, "{}", message.file);
        assert_eq!(chunk.offset, message.chunk_offset_write, "{}", message.file);
        assert_eq!(hex(chunk.chunk_hash), message.chunk_hash_sha512, "{}", message.file);
        assert_eq!(hex(chunk.file_hash), message.file_hash_sha512, "{}", message.file);
        assert_eq!(chunk.data.len() as u64, message.data_len, "{}", message.file);
        assert_eq!(chunk.mtime, message.file_mtime, "{}", message.file);
        assert_eq!(chunk.key(), message.key, "{}", message.file);
        chunk.verify().unwrap();
        chunk.check().unwrap();

        let mut encoded = b"before".to_vec();
        chunk.encode(&mut encoded);
        assert_eq!(&encoded[..6], b"before");
        assert!(encoded[6..] == message.bytes, "{}", message.file);
    }
}

#[test]
fn every_rebuilt_file_has_the_hash_the_path_and_the_result_key_of_the_manifest() {
    let vectors = vectors::load().unwrap();
    assert_eq!(vectors.files.len(), 8);
    let mut used = 0;
    for file in &vectors.files {
        let mut content = vec![0; usize::try_from(file.content_len).unwrap()];
        let mut written = 0;
        for (number, path) in file.messages.iter().enumerate() {
            let chunk = Chunk::decode(&vectors.message(path).unwrap().bytes).unwrap();
            assert_eq!(chunk.index as usize, number + 1, "{path}");
            assert_eq!(chunk.total as usize, file.messages.len(), "{path}");
            assert_eq!(hex(chunk.file_hash), file.content_sha512, "{path}");
            assert_eq!(chunk.rebuilt_filename(), file.reconstructed_filename, "{path}");
            assert_eq!(chunk.rebuilt_path(), file.reconstructed_relative_path, "{path}");
            assert_eq!(result_key(chunk.subdir, &chunk.rebuilt_filename()), file.result_key);
            let start = usize::try_from(chunk.offset).unwrap();
            content[start..start + chunk.data.len()].copy_from_slice(chunk.data);
            written += chunk.data.len();
            used += 1;
        }
        assert_eq!(written as u64, file.content_len, "{}", file.name);
        assert_eq!(hex(&sha512(&content)), file.content_sha512, "{}", file.name);
    }
    assert_eq!(used, vectors.messages.len());
}

/// What each invalid message must be refused with, and words that the text must hold.
fn expectation(file: &str) -> (fn(&ChunkError) -> bool, &'static str) {
    use ChunkError as E;
    match file {
        "empty" => (|e| matches!(e, E::Empty), "empty"),
        "not_msgpack" => (|e| matches!(e, E::NotAnArray { .. }), "found the byte `0xc1`"),
        "json" => (|e| matches!(e, E::Json), "JSON"),
        "eight_fields" => (|e| matches!(e, E::FieldCount { found: 8 }), "has 8 fields"),
        "eleven_fields" => (|e| matches!(e, E::FieldCount { found: 11 }), "has 11 fields"),
        "chunk_hash_mismatch" => {
            (|e| matches!(e, E::ChunkHashMismatch { index: 1, total: 1 }), "does not match its `chunk_hash`")
        }
        "parent_traversal" => {
            (|e| matches!(e, E::UnsafeName { field: "subdir", fault: NameFault::Parent, .. }), "leaves the folder")
        }
        "absolute_subdir" => {
            (|e| matches!(e, E::UnsafeName { field: "subdir", fault: NameFault::Absolute, .. }), "is absolute")
        }
        "filename_with_slash" => (
            |e| matches!(e, E::UnsafeName { field: "filename", fault: NameFault::Slash, .. }),
            "`filename` `../../evil.bin` holds a `/`",
        ),
        "filename_dotdot" => (
            |e| matches!(e, E::UnsafeName { field: "filename", fault: NameFault::Parent, .. }),
            "`filename` `..` has the part `..`",
        ),
        "filename_nul" => {
            (|e| matches!(e, E::UnsafeName { field: "filename", fault: NameFault::Nul, .. }), "`a\\0b` holds a NUL")
        }
        "filename_empty" => {
            (|e| matches!(e, E::UnsafeName { field: "filename", fault: NameFault::Empty, .. }), "is empty")
        }
        "huge_total" => (|e| matches!(e, E::TooManyChunks { total: 0x100_0000_0000 }), "claims 1099511627776 chunks"),
        "huge_offset" => {
            (|e| matches!(e, E::OffsetTooLarge { offset: 0x4000_0000_0000_0000, .. }), "exceeds the longest file")
        }
        "zero_index" => (|e| matches!(e, E::IndexZero), "`chunk_i` is 0"),
        "index_over_total" => (|e| matches!(e, E::IndexAboveTotal { .. }), "above the total"),
        "negative_offset" => {
            (|e| matches!(e, E::Negative { field: "chunk_offset_write", .. }), "`chunk_offset_write` is negative")
        }
        "truncated" => (|e| matches!(e, E::Truncated { .. }), "truncated"),
        "bomb" => (|e| matches!(e, E::FieldCount { found: u32::MAX }), "has 4294967295 fields"),
        other => panic!("no expectation for `{other}`"),
    }
}

#[test]
fn every_invalid_message_is_refused_for_its_own_reason() {
    let vectors = vectors::load().unwrap();
    let mut texts = BTreeSet::new();
    for invalid in &vectors.invalid {
        let name = invalid.file.trim_start_matches("invalid/").trim_end_matches(".bin");
        let error = match Chunk::decode(&invalid.bytes) {
            Err(error) => error,
            Ok(chunk) if name == "chunk_hash_mismatch" => chunk.verify().unwrap_err(),
            Ok(chunk) => panic!("{name} ({}) was accepted: {chunk:?}", invalid.why),
        };
        let (is_expected, words) = expectation(name);
        let text = error.to_string();
        assert!(is_expected(&error), "{name}: {error:?}");
        assert!(text.contains(words), "{name}: {text}");
        assert!(!text.ends_with('.') && error.source().is_none(), "{name}: {text}");
        texts.insert(text);
    }
    assert_eq!(texts.len(), vectors.invalid.len(), "each has a text of its own");
    assert_eq!(texts.len(), 19);
}

#[test]
fn a_message_of_nine_fields_differs_only_in_the_modification_time() {
    for message in vectors::load().unwrap().messages {
        let whole = Chunk::decode(&message.bytes).unwrap();
        // The last field is a float: its marker and eight bytes.
        let mut nine = message.bytes[..message.bytes.len() - 9].to_vec();
        nine[0] = 0x99;
        let chunk = Chunk::decode(&nine).unwrap_or_else(|e| panic!("{}: {e}", message.file));
        assert_eq!(chunk, Chunk { mtime: None, ..whole }, "{}", message.file);
        let mut encoded = Vec::new();
        chunk.encode(&mut encoded);
        assert_eq!(Chunk::decode(&encoded).unwrap(), chunk, "{}", message.file);
    }
}

#[test]
fn decoding_borrows_names_hashes_and_data_from_the_message() {
    let vectors = vectors::load().unwrap();
    for message in &vectors.messages {
        let within = message.bytes.as_ptr_range();
        let chunk = Chunk::decode(&message.bytes).unwrap();
        for part in [chunk.data, chunk.filename.as_bytes(), chunk.subdir.as_bytes(), chunk.file_hash, chunk.chunk_hash]
        {
            let lies = part.as_ptr_range();
            assert!(within.start <= lies.start && lies.end <= within.end, "{}", message.file);
        }
    }
}
