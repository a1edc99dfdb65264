//! How the C allocator keeps memory. Owns: its two thresholds, set once, before any thread starts.
//!
//! Request frames, write blocks and objects are pieces of about 1 MiB that come and go all the time. By default glibc gives
//! each its own mapping, so that every one pays for fresh zeroed pages: a fifth of the CPU of a loaded broker.

/// Pieces below this size come from the heap, which keeps its pages. glibc takes no larger value.
#[cfg(target_env = "gnu")]
const MAPPED_FROM_BYTES: i32 = 32 << 20;

/// Free memory at the heap's end that is kept.
#[cfg(target_env = "gnu")]
const KEPT_FREE_BYTES: i32 = 64 << 20;

/// Tells glibc; other C libraries have no such settings.
#[cfg(target_env = "gnu")]
pub fn configure() {
    // SAFETY: mallopt takes two integers and only sets the allocator's parameters; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_FREE_BYTES);
    }
}

#[cfg(not(target_env = "gnu"))]
pub fn configure() {}
