//! What happens in the child between fork and exec.
//!
//! # Why it is sound
//! The child of a fork in a program with threads may only call what POSIX calls async-signal-safe
//! until it execs: another thread may have held the allocator's lock, or any other, at the moment
//! of the fork, and nobody will ever release it in the child. The closure given to `pre_exec`
//! therefore
//! - allocates nothing and takes no lock: everything it needs was made before the fork and is
//!   captured by value, plain integers all of it;
//! - calls only `sigaction`, `sigemptyset`, `sigprocmask`, `fcntl` and `getppid` (on POSIX's list),
//!   and `prctl`, `getrlimit`, `setrlimit` and `syscall`, which are bare system calls in every libc
//!   that this runs on;
//! - reads no memory of others: the structures given to these calls live on its own stack and are
//!   wholly initialised (`zeroed` is a valid value of these plain C structures);
//! - cannot panic: there is no arithmetic that overflows, no indexing, no formatting. The error
//!   it may return carries an errno alone and needs no allocation.
#![allow(unsafe_code)]

use std::io;
use std::mem::zeroed;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the child of `command` lead a process group of its own, with every signal at its default
/// and none blocked, without any descriptor but 0, 1 and 2, with the limit of open files
/// `nofile` (soft, hard) where one is given, and, on Linux, with SIGTERM for it once the *thread*
/// that spawns it ends.
pub(super) fn prepare(command: &mut Command, nofile: Option<(u64, u64)>) {
    let parent = std::process::id();
    command.process_group(0);
    let child = move || -> io::Result<()> {
        default_signals();
        die_with(parent)?;
        if let Some((soft, hard)) = nofile {
            restore_nofile(soft, hard);
        }
        close_on_exec_from(3);
        Ok(())
    };
    // SAFETY: see the module's proof; `child` is what it speaks of.
    unsafe {
        command.pre_exec(child);
    }
}

/// Signal numbers end below this on every system we know (Linux has 64, MIPS 127).
const SIGNALS: libc::c_int = 128;

/// Ignored signals stay ignored over an exec (`nohup` ignores SIGHUP, Rust SIGPIPE), caught ones
/// do not. Errors are ignored: they concern numbers that no signal has, SIGKILL and SIGSTOP.
fn default_signals() {
    // SAFETY: plain C structures for which all zeroes is a value; pointers to them are valid for
    // the length of the calls; a null pointer is allowed where the old value is not asked for.
    unsafe {
        let mut default: libc::sigaction = zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        for signal in 1..SIGNALS {
            libc::sigaction(signal, &default, std::ptr::null_mut());
        }
        // The C library refuses the two it keeps for its threads, but they are inherited too.
        #[cfg(all(target_os = "linux", any(target_env = "gnu", target_env = "musl")))]
        {
            // The kernel's structure: handler, flags, restorer, mask; all zero is the default.
            const KERNEL_SIGSET: usize = if cfg!(target_arch = "mips64") { 16 } else { 8 };
            let default = [0_u64; 8];
            for signal in [32, 33] {
                libc::syscall(
                    libc::SYS_rt_sigaction,
                    signal,
                    default.as_ptr(),
                    std::ptr::null_mut::<u64>(),
                    KERNEL_SIGSET,
                );
            }
        }
        let mut none: libc::sigset_t = zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Asks for SIGTERM when the parent dies. It may have died before: then no signal would ever come.
#[cfg(target_os = "linux")]
fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: calls without pointers.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::getppid() as u32 != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
    }
    Ok(())
}

/// Other systems have nothing like it; there the listener sees the end of its stdin.
#[cfg(not(target_os = "linux"))]
fn die_with(_parent: u32) -> io::Result<()> {
    Ok(())
}

/// Sets the limits on open files. An error is ignored: the listener can start all the same.
fn restore_nofile(soft: u64, hard: u64) {
    // SAFETY: the structure is whole, and valid for the length of the call.
    unsafe {
        let limit = libc::rlimit { rlim_cur: soft as _, rlim_max: hard as _ };
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// Ours are close-on-exec already; this is about what we inherited. They are marked rather than
/// closed, for the pipe on which the standard library reports a failed exec is among them.
fn close_on_exec_from(first: libc::c_int) {
    #[cfg(target_os = "linux")]
    {
        const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
        // SAFETY: a call without pointers.
        let done = unsafe {
            libc::syscall(
                libc::SYS_close_range,
                first as libc::c_uint,
                libc::c_uint::MAX,
                CLOSE_RANGE_CLOEXEC,
            )
        };
        if done == 0 {
            return;
        }
    }
    // Kernels before 5.11, seccomp, and other systems.
    // SAFETY: the structure is whole and valid for the length of the call; fcntl with F_GETFD and
    // F_SETFD takes no pointer, and a number that is not a descriptor gives an error alone.
    unsafe {
        let mut limit: libc::rlimit = zeroed();
        const MOST: libc::rlim_t = 1 << 20;
        let end = match libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) {
            0 => limit.rlim_cur.min(MOST) as libc::c_int,
            _ => MOST as libc::c_int,
        };
        for fd in first..end {
            let flags = libc::fcntl(fd, libc::F_GETFD);
            if flags >= 0 {
                libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC);
            }
        }
    }
}
