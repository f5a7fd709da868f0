//! Between fork and exec: the one place with unsafe code.
//!
//! # Safety
//! The closure runs in the child between `fork` and `exec` of a program with several threads: only
//! async-signal-safe calls are allowed, and no memory may be allocated. It calls `signal`,
//! `sigemptyset`, `sigprocmask`, `prctl`, `getppid`, `close_range` and `fcntl`, which are plain
//! system calls or in POSIX's list, and builds its errors from `errno`, which allocates nothing.
#![allow(unsafe_code)]

use std::io;

use tokio::process::Command;

/// Default dispositions for all signals, an empty mask, nothing open but 0 to 2, and on Linux
/// SIGTERM when the thread that started it ends.
pub fn prepare(command: &mut Command) {
    #[cfg(target_os = "linux")]
    let parent = std::process::id();
    // SAFETY: see the module's docs.
    unsafe {
        command.pre_exec(move || {
            // `nohup` and a service manager leave signals ignored, and Rust itself ignores
            // SIGPIPE; errors are those signals whose disposition cannot be set.
            for signal in 1..=64 {
                libc::signal(signal, libc::SIG_DFL);
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            #[cfg(target_os = "linux")]
            {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // It may have died before the line above.
                if libc::getppid().cast_unsigned() != parent {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
            }
            close_others();
            Ok(())
        });
    }
}

/// Marks every descriptor above 2 to be closed by exec: std's own pipe for its errors has to live
/// until then.
fn close_others() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the call touches descriptors' flags only.
        let done = unsafe {
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
        };
        if done == 0 {
            return;
        }
    }
    // Before Linux 5.11, and elsewhere: one by one, as far as is likely.
    for fd in 3..4096 {
        // SAFETY: the call touches a descriptor's flags only, and fails on one that is not open.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
