//! Memory that a crowd of connections left behind, back to the system.
//!
//! # Why it is sound
//! `malloc_trim` takes no pointer, changes nothing that anybody can see, and may be called by any
//! thread at any time.
#![allow(unsafe_code)]

/// Gives back the pages that hold nothing any more: the allocator of glibc keeps them otherwise,
/// wherever they do not lie at the end of its heap. A millisecond or so; other allocators need no
/// such call.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: see the module's proof.
    unsafe {
        libc::malloc_trim(0);
    }
}
