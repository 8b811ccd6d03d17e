//! Where the memory of a program comes from: jemalloc, for librdkafka's buffers as well.
//!
//! Most of it is taken on one thread and given back on another, message by message, which costs the
//! allocator of the C library a quarter of the time of small files.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads at its start, a text that ends with a zero: one arena in huge pages, so that a buffer
/// is where another one was; what is not used for three seconds goes back to the system; and what is as large as a
/// small file comes from slabs that hold four to sixteen of its kind without a rest, where pages have 4 KiB, instead of
/// one to four. The environment variable `MALLOC_CONF` has the last word.
#[expect(unsafe_code, reason = "a symbol that jemalloc documents for this, a pointer to such a text")]
#[unsafe(export_name = "malloc_conf")]
static CONFIGURATION: &std::ffi::c_char = {
    const TEXT: &std::ffi::CStr = c"narenas:1,oversize_threshold:0,thp:always,dirty_decay_ms:3000,muzzy_decay_ms:0,\
        slab_sizes:4096-8192:16|5120-5120:20|6144-6144:12|7168-7168:14|10240-10240:20|12288-12288:12|14336-14336:14";
    // SAFETY: a `CStr` is not empty: it has its zero at least
    unsafe { &*TEXT.as_ptr() }
};

/// Lets the arena keep large buffers as it keeps small ones: without this, what is 8 MiB or more goes back to the
/// system as soon as it is free. The option `oversize_threshold` comes too late for the first arena.
pub(crate) fn keep_large_buffers() {
    // SAFETY: jemalloc documents that the value of this name is a `size_t`
    #[expect(unsafe_code, reason = "a setting of jemalloc, by its name")]
    let kept = unsafe { tikv_jemalloc_ctl::raw::write(b"arena.0.oversize_threshold\0", usize::MAX) };
    if let Err(error) = kept {
        tracing::debug!(%error, "the memory of large buffers goes back at once");
    }
}
