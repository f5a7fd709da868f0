//! Seeing that a child has exited without taking it from the kernel, and taking it.
//!
//! # Why the unsafe code is sound
//! `waitid` writes one `siginfo_t`, which stands on our stack, is wholly initialised (zeroes are a
//! value of this plain C structure), and is valid for the length of the call. `si_pid` may be read
//! when `waitid` has succeeded: it is the field that `waitid` sets, and zero where no child was
//! found. The other calls take no pointer.
#![allow(unsafe_code)]

use std::io;
use std::mem::zeroed;

/// Which children are asked about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    /// All.
    Any,
    /// The one with this process id.
    One(u32),
}

/// A child that has exited and that nobody has waited for; it is left as it is. `None`: there is
/// none now.
///
/// # Errors
/// There is no such child (`ECHILD`).
pub(super) fn exited(which: Which) -> io::Result<Option<u32>> {
    wait(which, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
}

/// Takes a child that has exited from the kernel; its number may be given to another process then.
///
/// # Errors
/// There is no such child (`ECHILD`).
pub(super) fn reap(pid: u32) -> io::Result<Option<u32>> {
    wait(Which::One(pid), libc::WEXITED | libc::WNOHANG)
}

fn wait(which: Which, options: libc::c_int) -> io::Result<Option<u32>> {
    let (kind, id) = match which {
        Which::Any => (libc::P_ALL, 0),
        Which::One(pid) => (libc::P_PID, pid),
    };
    // SAFETY: see the module's proof.
    let (result, pid) = unsafe {
        let mut info: libc::siginfo_t = zeroed();
        let result = libc::waitid(kind, id as libc::id_t, &mut info, options);
        (result, if result == 0 { info.si_pid() } else { 0 })
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u32::try_from(pid).ok().filter(|pid| *pid != 0))
}

/// Whether the orphans of our children become our children: as process 1 of a container, or as a
/// subreaper (Linux).
pub(super) fn inherits_orphans() -> bool {
    if std::process::id() == 1 {
        return true;
    }
    #[cfg(target_os = "linux")]
    {
        let mut subreaper: libc::c_int = 0;
        // SAFETY: the kernel writes one int, which is valid for the length of the call.
        let result = unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &mut subreaper) };
        result == 0 && subreaper != 0
    }
    #[cfg(not(target_os = "linux"))]
    false
}
