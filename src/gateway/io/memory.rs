//! Gives memory that many connections have left behind back to the system.
//!
//! # Why it is sound
//! `malloc_trim` takes no pointer, keeps all allocations as they are, and may be called by any thread
//! at any time.
#![allow(unsafe_code)]

/// Gives empty pages back to the system. Without it, the allocator of glibc keeps those that are not at
/// the end of its heap. Takes about a millisecond. With other allocators it does nothing.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: see the module's proof.
    unsafe {
        libc::malloc_trim(0);
    }
}
