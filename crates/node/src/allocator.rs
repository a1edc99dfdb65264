//! How the C allocator keeps memory. Owns: its settings and the heap that it begins with, once, before any thread starts.
//!
//! Request frames, write blocks and objects are pieces of about 1 MiB that come and go all the time. By default glibc gives
//! each its own mapping, so that every one pays for fresh zeroed pages, and each thread a heap of its own, whose free memory
//! the others don't use: a fifth of the CPU of a loaded broker. One heap in huge pages takes another sixth less than several in
//! small ones (docs/performance.md).

#[cfg(target_env = "gnu")]
pub use gnu::configure;

/// Other C libraries have no such settings.
#[cfg(not(target_env = "gnu"))]
pub fn configure() {}

#[cfg(target_env = "gnu")]
mod gnu {
    use std::thread::available_parallelism;

    /// Pieces below this size come from the heap, which keeps its pages. glibc takes no larger value.
    const MAPPED_FROM_BYTES: i32 = 32 << 20;

    /// Address space that the heap begins with, for huge pages; it takes no memory before it is used.
    const HEAP_BYTES: usize = 512 << 20;

    /// Free memory at the heap's end that is kept: what it begins with, and what comes and goes beyond.
    const KEPT_FREE_BYTES: i32 = (HEAP_BYTES as i32) + (64 << 20);

    /// With more threads than this, one heap's lock would be in their way.
    const CORES_OF_ONE_HEAP: usize = 4;

    /// As glibc has it by default.
    const MAX_MAPPINGS: i32 = 65_536;

    const HUGE_PAGE_BYTES: usize = 2 << 20;

    /// Tells glibc. No other thread may run yet.
    pub fn configure() {
        set(libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES);
        set(libc::M_TRIM_THRESHOLD, KEPT_FREE_BYTES);
        if available_parallelism().is_ok_and(|cores| cores.get() <= CORES_OF_ONE_HEAP) {
            set(libc::M_ARENA_MAX, 1);
            begin_heap();
        }
    }

    fn set(parameter: i32, value: i32) {
        // SAFETY: mallopt takes two integers and only sets the allocator's parameters; no other thread runs yet.
        unsafe { libc::mallopt(parameter, value) };
    }

    /// Lets the heap grow to [`HEAP_BYTES`] once, and asks for huge pages there. It stays as large, since so much free memory is
    /// kept; where a limit of the process or the kernel stands against that, it begins as small as ever.
    fn begin_heap() {
        set(libc::M_MMAP_MAX, 0);
        // SAFETY: malloc may be called with any size; what it gives is used for its address only, and given back once. The advice
        // is about whole pages that lie within it, and changes nothing of what they hold.
        unsafe {
            let heap = libc::malloc(HEAP_BYTES);
            if !heap.is_null() {
                let begin = (heap as usize).next_multiple_of(HUGE_PAGE_BYTES);
                let end = (heap as usize + HEAP_BYTES) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
                libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_HUGEPAGE);
                libc::free(heap);
            }
        }
        set(libc::M_MMAP_MAX, MAX_MAPPINGS);
    }
}
