//! Round trips of anything valid, and bytes that mean harm.

use datamill_testkit::vectors;
use datamill_wire::{Chunk, MAX_CHUNKS, MAX_FILE_BYTES, partition_for, sha512};
use proptest::prelude::*;
use proptest::sample::Index;

/// Names that pass on every system: no separators, no device names, no dot or space at an end.
const PART: &str = "[a-zA-Z0-9_ü試-][a-zA-Z0-9 ._ü試-]{0,40}[x_ü試-]";

fn within_the_folder(path: &str) -> bool {
    !path.is_empty() && !path.contains('\0') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Decodes, and checks what must hold of anything that is accepted.
fn decode_and_judge(message: &[u8]) {
    match Chunk::decode(message) {
        Ok(chunk) => {
            assert!(within_the_folder(&chunk.rebuilt_path()), "{chunk:?}");
            assert!((1..=chunk.total).contains(&chunk.index) && chunk.total <= MAX_CHUNKS);
            assert!(chunk.data.len() <= message.len());
            let mut again = Vec::new();
            chunk.encode(&mut again);
            assert_eq!(Chunk::decode(&again), Ok(chunk));
            let _ = (chunk.verify(), chunk.key());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_encoded_decodes_to_itself(
        filename in PART,
        folders in prop::collection::vec(PART, 0..4),
        append in "[a-z_é-]{0,40}",
        data in prop::collection::vec(any::<u8>(), 0..70_000),
        file in any::<[u8; 32]>(),
        total in 1..=MAX_CHUNKS,
        index in any::<Index>(),
        offset in 0..MAX_FILE_BYTES - 70_000,
        mtime in prop::option::of(-1e12..1e12f64),
    ) {
        let subdir = folders.join("/");
        let chunk = Chunk {
            filename: &filename,
            file_hash: &sha512(&file),
            chunk_hash: &sha512(&data),
            offset,
            index: 1 + index.index(total as usize) as u32,
            total,
            subdir: &subdir,
            filename_append: &append,
            data: &data,
            mtime,
        };
        chunk.check().unwrap();
        let mut message = Vec::new();
        chunk.encode(&mut message);
        let mut decoded = Chunk::decode(&message).unwrap();
        if let Some((_, value)) = chunk.mtime_header() {
            decoded.take_mtime_header(value);
        }
        prop_assert_eq!(decoded, chunk);
        decoded.verify().unwrap();
        prop_assert!(decoded.rebuilt_path().ends_with(decoded.rebuilt_filename().as_ref()));
    }

    #[test]
    fn whatever_the_names_are_the_rebuilt_path_stays_in_the_folder(
        filename in "[./\\\\a\0:]{0,6}",
        subdir in "[./\\\\a\0:]{0,8}",
        append in "[./\\\\a\0:]{0,4}",
    ) {
        let hash = sha512(b"");
        let chunk = Chunk {
            filename: &filename,
            file_hash: &hash,
            chunk_hash: &hash,
            offset: 0,
            index: 1,
            total: 1,
            subdir: &subdir,
            filename_append: &append,
            data: b"",
            mtime: None,
        };
        let mut message = Vec::new();
        chunk.encode(&mut message);
        prop_assert_eq!(Chunk::decode(&message).map(drop), chunk.check());
        if chunk.check().is_ok() {
            prop_assert!(within_the_folder(&chunk.rebuilt_path()), "{:?}", chunk);
        }
    }

    #[test]
    fn random_bytes_never_panic(message in prop::collection::vec(any::<u8>(), 0..400)) {
        decode_and_judge(&message);
    }

    #[test]
    fn random_bytes_that_begin_like_a_chunk_never_panic(
        fields in 0x99u8..=0x9a,
        rest in prop::collection::vec(
            prop_oneof![any::<u8>(), Just(0xc4), Just(0xa1), Just(0xcf), Just(64)],
            0..400,
        ),
    ) {
        let mut message = vec![fields, 0xa1, b'f'];
        message.extend(rest);
        decode_and_judge(&message);
    }

    #[test]
    fn mutated_messages_never_panic(
        which in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<Index>()),
        inserted in prop::option::of((any::<Index>(), prop::collection::vec(any::<u8>(), 1..9))),
    ) {
        let vectors = vectors::load().unwrap();
        let mut message = which.get(&vectors.messages).bytes.clone();
        for (place, value) in changes {
            // Most bytes are data, which any value fits; the first 250 hold the structure.
            let place = place.index(message.len().min(250));
            message[place] = value;
        }
        if let Some((place, bytes)) = inserted {
            let place = place.index(message.len());
            message.splice(place..place, bytes);
        }
        if let Some(place) = cut {
            message.truncate(place.index(message.len()));
        }
        decode_and_judge(&message);
    }

    #[test]
    fn a_partition_lies_in_its_range(path in ".{0,60}", partitions in 1..=i32::MAX) {
        prop_assert!((0..partitions).contains(&partition_for(&path, partitions)));
    }
}

#[test]
fn a_message_cut_at_any_byte_is_refused() {
    for message in vectors::load().unwrap().messages {
        for length in 0..message.bytes.len() {
            assert!(Chunk::decode(&message.bytes[..length]).is_err(), "{} at {length}", message.file);
        }
    }
}
