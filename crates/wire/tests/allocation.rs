//! Decoding takes memory for nothing that a message claims. A test program of its own, since it
//! counts what the allocator gives out.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use datamill_testkit::vectors;
use datamill_wire::{Chunk, ChunkError};

thread_local! {
    static GIVEN: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to `System` with the arguments unchanged, and the counter is a thread-local
// cell that is built at compile time and has no destructor, so that touching it allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        GIVEN.with(|given| given.set(given.get() + layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`, which is the same for `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: `place` came from `System.alloc` above with this layout.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The bytes that the allocator gave out on this thread while `work` ran.
fn given_during<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = GIVEN.get();
    let result = work();
    (GIVEN.get() - before, result)
}

#[test]
fn a_valid_message_takes_no_memory() {
    for message in vectors::load().unwrap().messages {
        let (given, chunk) = given_during(|| Chunk::decode(&message.bytes));
        let append = chunk.unwrap().filename_append;
        // The rebuilt name is composed where something is appended.
        let most = if append.is_empty() { 0 } else { 100 };
        assert!(given <= most, "{}: {given} bytes", message.file);
    }
}

#[test]
fn a_hostile_message_takes_no_more_than_the_text_of_its_error() {
    for invalid in vectors::load().unwrap().invalid {
        let (given, _) = given_during(|| Chunk::decode(&invalid.bytes).map(drop));
        assert!(given <= 512, "{}: {given} bytes", invalid.file);
    }
    let claims: [&[u8]; 4] = [
        b"\xdd\xff\xff\xff\xff",
        b"\x9a\xdb\xff\xff\xff\xff",
        b"\x9a\xa1f\xc6\xff\xff\xff\xff",
        b"\x9a\xdf\xff\xff\xff\xff",
    ];
    for message in claims {
        let (given, result) = given_during(|| Chunk::decode(message));
        assert_eq!(given, 0);
        assert!(matches!(
            result,
            Err(ChunkError::FieldCount { .. } | ChunkError::Truncated { .. } | ChunkError::WrongType { .. })
        ));
    }
}
