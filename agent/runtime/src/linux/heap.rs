//! The C library's heap, kept small: glibc gives each thread a heap of its own and keeps what was freed. musl does neither.

/// One heap for all threads. Call it before the first thread is made.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; an option of the allocator that is set before there are threads.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives pages that nothing is on back to the kernel.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; the allocator takes its own lock.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(target_env = "gnu")]
use nix::libc;
