//! Widths and limits of the format that the golden vectors do not reach.

use datamill_wire::{Chunk, ChunkError, MAX_CHUNKS, MAX_FILE_BYTES, hex, sha512};

const HASH: [u8; 64] = [7; 64];

fn small() -> Chunk<'static> {
    Chunk {
        filename: "f.bin",
        file_hash: &HASH,
        chunk_hash: &HASH,
        offset: 0,
        index: 1,
        total: 1,
        subdir: "",
        filename_append: "",
        data: b"",
        mtime: None,
    }
}

fn encoded(chunk: &Chunk<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    chunk.encode(&mut message);
    message
}

/// A message whose fields 3, 4, 5 and 9 are given as MessagePack.
fn with_numbers(offset: &[u8], index: &[u8], total: &[u8], mtime: &[u8]) -> Vec<u8> {
    let mut message = vec![0x9a, 0xa5];
    message.extend(b"f.bin");
    for _ in 0..2 {
        message.extend([0xc4, 64]);
        message.extend(HASH);
    }
    message.extend(offset);
    message.extend(index);
    message.extend(total);
    message.extend([0xa0, 0xa0, 0xc4, 1, b'x']);
    message.extend(mtime);
    message
}

#[test]
fn wide_fields_have_the_bytes_of_pythons_msgpack() {
    let data: Vec<u8> = (0..70_000u32).map(|i| (i % 251) as u8).collect();
    let filename = format!("{}.bin", "n".repeat(40));
    let subdir = ["d".repeat(99), "d".repeat(99), "d".repeat(99)].join("/");
    let append = format!("_{}", "a".repeat(31));
    let chunk = Chunk {
        filename: &filename,
        file_hash: &sha512(b"file"),
        chunk_hash: &sha512(&data),
        offset: 1 << 40,
        index: 70_000,
        total: MAX_CHUNKS,
        subdir: &subdir,
        filename_append: &append,
        data: &data,
        mtime: Some(1_700_000_000.25),
    };
    let message = encoded(&chunk);
    assert_eq!(message.len(), 70_548);
    // From `msgpack.packb([...], use_bin_type=True)` of msgpack 1.2.4 with the same values.
    assert_eq!(
        hex(&sha512(&message)),
        "09eefefc94c2b476a5f28f751c31afd65da5e70bf5e3dcdf6953fc03b041dd04\
         30e69eeb1e29d1128ece9d8b375c57c48edf41be005be89fb7897de071ad6e1a"
    );
    assert_eq!(Chunk::decode(&message).unwrap(), chunk);
    chunk.verify().unwrap();
}

#[test]
fn integers_come_in_any_width() {
    let ones: [&[u8]; 9] = [
        &[1],
        &[0xcc, 1],
        &[0xcd, 0, 1],
        &[0xce, 0, 0, 0, 1],
        &[0xcf, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0xd0, 1],
        &[0xd1, 0, 1],
        &[0xd2, 0, 0, 0, 1],
        &[0xd3, 0, 0, 0, 0, 0, 0, 0, 1],
    ];
    for one in ones {
        let message = with_numbers(one, one, one, one);
        let chunk = Chunk::decode(&message).unwrap();
        assert_eq!((chunk.offset, chunk.index, chunk.total), (1, 1, 1));
        assert_eq!(chunk.mtime, Some(1.0));
    }
    let minus_one: [&[u8]; 5] = [
        &[0xff],
        &[0xd0, 0xff],
        &[0xd1, 0xff, 0xff],
        &[0xd2, 0xff, 0xff, 0xff, 0xff],
        &[0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ];
    for negative in minus_one {
        for (field, message) in [
            ("chunk_offset_write", with_numbers(negative, &[1], &[1], &[1])),
            ("chunk_i", with_numbers(&[0], negative, &[1], &[1])),
            ("n_total_chunks", with_numbers(&[0], &[1], negative, &[1])),
        ] {
            assert_eq!(Chunk::decode(&message), Err(ChunkError::Negative { field, value: -1 }));
        }
        let before_1970 = with_numbers(&[0], &[1], &[1], negative);
        assert_eq!(Chunk::decode(&before_1970).unwrap().mtime, Some(-1.0));
    }
}

#[test]
fn a_float_is_no_count() {
    let one = [0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0];
    let error = Chunk::decode(&with_numbers(&one, &[1], &[1], &[1])).unwrap_err();
    assert_eq!(error.to_string(), "`chunk_offset_write` must be an integer, found a float");
}

#[test]
fn the_modification_time_is_a_number_or_unknown() {
    let f32_half = [0xca, 0x3f, 0, 0, 0];
    let message = with_numbers(&[0], &[1], &[1], &f32_half);
    assert_eq!(Chunk::decode(&message).unwrap().mtime, Some(0.5));
    for unknown in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0] {
        let mut field = vec![0xcb];
        field.extend(unknown.to_be_bytes());
        let message = with_numbers(&[0], &[1], &[1], &field);
        let chunk = Chunk::decode(&message).unwrap();
        assert_eq!(chunk.mtime, None);
    }
    let nil = with_numbers(&[0], &[1], &[1], &[0xc0]);
    assert_eq!(Chunk::decode(&nil).unwrap_err().to_string(), "`file_mtime` must be a number, found nil");
}

#[test]
fn a_header_tells_the_time_that_the_message_cannot() {
    for (mtime, header) in [(None, None), (Some(0.0), Some(&b"0"[..])), (Some(-0.5), None), (Some(1e-9), None)] {
        let chunk = Chunk { mtime, ..small() };
        assert_eq!(chunk.mtime_header(), header.map(|value| ("datamill.mtime", value)));
        let message = encoded(&chunk);
        let mut decoded = Chunk::decode(&message).unwrap();
        assert_eq!(decoded.mtime, mtime.filter(|seconds| *seconds != 0.0), "as readers of the message alone have it");
        decoded.take_mtime_header(header.unwrap_or(b"1"));
        assert_eq!(decoded.mtime, mtime.or(Some(1.0)), "a header counts where the message has no time");
    }
    for nothing in [&b""[..], b"then", b"\xff", b"NaN", b"inf", b"1 "] {
        let mut chunk = small();
        chunk.take_mtime_header(nothing);
        assert_eq!(chunk.mtime, None);
    }
}

#[test]
fn an_empty_file_is_one_chunk_without_data() {
    let empty_hash = sha512(b"");
    let chunk = Chunk { file_hash: &empty_hash, chunk_hash: &empty_hash, ..small() };
    let message = encoded(&chunk);
    let decoded = Chunk::decode(&message).unwrap();
    assert_eq!(decoded, chunk);
    decoded.verify().unwrap();
}

#[test]
fn the_limits_are_where_the_format_says() {
    let accepted = [
        Chunk { total: MAX_CHUNKS, index: MAX_CHUNKS, ..small() },
        Chunk { offset: MAX_FILE_BYTES, ..small() },
        Chunk { offset: MAX_FILE_BYTES - 1, data: b"x", ..small() },
    ];
    for chunk in accepted {
        chunk.check().unwrap();
        assert_eq!(Chunk::decode(&encoded(&chunk)).unwrap(), chunk);
    }
    let refused = [
        (Chunk { total: MAX_CHUNKS + 1, ..small() }, ChunkError::TooManyChunks { total: 1 << 31 }),
        (Chunk { index: 0, total: 0, ..small() }, ChunkError::IndexZero),
        (Chunk { total: 0, ..small() }, ChunkError::IndexAboveTotal { index: 1, total: 0 }),
        (
            Chunk { offset: MAX_FILE_BYTES, data: b"x", ..small() },
            ChunkError::OffsetTooLarge { offset: MAX_FILE_BYTES, length: 1 },
        ),
        (Chunk { offset: u64::MAX, data: b"x", ..small() }, ChunkError::OffsetTooLarge { offset: u64::MAX, length: 1 }),
    ];
    for (chunk, error) in refused {
        assert_eq!(chunk.check(), Err(error.clone()));
        assert_eq!(Chunk::decode(&encoded(&chunk)), Err(error));
    }
}

#[test]
fn nothing_may_follow_the_last_field() {
    let mut message = encoded(&small());
    message.push(0);
    assert_eq!(Chunk::decode(&message), Err(ChunkError::TrailingBytes { count: 1 }));
}

#[test]
fn the_debug_form_does_not_show_the_data() {
    let text = format!("{:?}", Chunk { data: b"secret", ..small() });
    assert!(text.contains("6 bytes") && !text.contains("secret") && !text.contains("115"));
}
