//! One frame to many sockets in one system call, by io_uring, where the kernel lets us: a third of
//! the CPU time of a fan-out of small messages is the entry into the kernel for each socket.
//!
//! Owned by one shard's thread, which makes it. Nothing is ever under
//! way between two calls: [`Ring::send`] returns when every send is done or refused, exactly as if
//! each had been a nonblocking `send(2)`.
//!
//! # Why it is sound
//! The kernel reads the bytes from the submission to the completion of each entry. They are borrowed
//! by [`Ring::send`] for all of its run, and it leaves only when it has seen one completion for each
//! entry that it queued: by returning, or by ending the process. There is no early return and no
//! call of foreign code in between. A descriptor is a number to the kernel: one that is closed is an
//! error of that entry alone.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

use io_uring::{IoUring, opcode, types};

/// Sends that one system call carries at most: so many take well under a millisecond.
pub const BATCH: usize = 256;

/// Bytes over which a frame is not worth it: copying it costs more than entering the kernel.
pub const LARGEST: usize = 16 * 1024;

/// Turns it off (`WSGW_IO_URING=off`), to compare or where a kernel's is not trusted.
const SWITCH: &str = "WSGW_IO_URING";

/// A socket that gets the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Whose it is; comes back with the result.
    pub slot: u32,
    /// The socket.
    pub fd: RawFd,
}

/// A submission queue and its completions.
pub struct Ring(IoUring);

impl Ring {
    /// A ring for the calling thread, which alone may use it.
    ///
    /// # Errors
    /// The kernel has none (before 6.1), or forbids it, as containers often do; or it is switched
    /// off.
    pub fn new() -> io::Result<Ring> {
        if std::env::var_os(SWITCH).is_some_and(|value| value == "off") {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "switched off"));
        }
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .build(BATCH as u32)?;
        Ok(Ring(ring))
    }

    /// Sends `bytes` to each of the targets, [`BATCH`] at most, without waiting for any. Adds one
    /// result for each, in any order: its slot, and the bytes taken or the error's number below zero.
    pub fn send(&mut self, bytes: &[u8], targets: &[Target], results: &mut Vec<(u32, i32)>) {
        let mut queued = 0;
        for (index, target) in targets.iter().enumerate() {
            // DONTWAIT: a full socket is an answer, nothing stays behind in the kernel.
            let send = opcode::Send::new(types::Fd(target.fd), bytes.as_ptr(), bytes.len() as u32)
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .user_data(u64::from(target.slot));
            // SAFETY: the bytes outlive the operation, see the module's proof.
            if unsafe { self.0.submission().push(&send) }.is_err() {
                // No room: the same as sockets that are full.
                results.extend(targets[index..].iter().map(|t| (t.slot, -libc::EAGAIN)));
                break;
            }
            queued += 1;
        }
        while queued > 0 {
            match self.0.submit_and_wait(queued) {
                Ok(_) => {}
                // A signal, or no memory for the moment: what is not done yet still will be.
                Err(e)
                    if matches!(
                        e.raw_os_error(),
                        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
                    ) => {}
                Err(error) => {
                    tracing::error!(%error, "io_uring failed; {SWITCH}=off does without it");
                    std::process::abort();
                }
            }
            for done in self.0.completion() {
                // The number that was given above.
                results.push((done.user_data() as u32, done.result()));
                queued -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn each_socket_has_its_own_result() {
        let mut ring = match Ring::new() {
            Ok(ring) => ring,
            // A kernel that has none or forbids it says so, and the shards write one by one.
            Err(error) => {
                let refusals = [libc::EPERM, libc::ENOSYS, libc::EINVAL];
                assert!(refusals.contains(&error.raw_os_error().unwrap_or(0)), "{error}");
                return;
            }
        };
        let (open, mut reader) = UnixStream::pair().unwrap();
        let (mut full, _unread) = UnixStream::pair().unwrap();
        full.set_nonblocking(true).unwrap();
        while full.write(&[0; 4096]).is_ok() {}
        let (gone, other) = UnixStream::pair().unwrap();
        drop(other);
        let target = |slot, socket: &UnixStream| Target { slot, fd: socket.as_raw_fd() };
        let mut results = Vec::new();
        ring.send(b"hello", &[target(7, &open), target(8, &full), target(9, &gone)], &mut results);
        results.sort_unstable();
        assert_eq!(results, [(7, 5), (8, -libc::EAGAIN), (9, -libc::EPIPE)]);
        let mut got = [0; 5];
        reader.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        // And again: nothing of the first round is left.
        results.clear();
        ring.send(b"x", &[target(7, &open)], &mut results);
        assert_eq!(results, [(7, 1)]);
        results.clear();
        ring.send(b"x", &[], &mut results);
        assert!(results.is_empty());
    }

    /// A socket that vanished between the choice and the send is an error of its own, and shifts
    /// nobody else's result.
    #[test]
    fn a_closed_descriptor_does_not_shift_the_results_of_others() {
        let Ok(mut ring) = Ring::new() else { return };
        let (first, mut reads_first) = UnixStream::pair().unwrap();
        let (second, mut reads_second) = UnixStream::pair().unwrap();
        let targets = [
            Target { slot: 1, fd: first.as_raw_fd() },
            Target { slot: 2, fd: -1 },
            Target { slot: 3, fd: second.as_raw_fd() },
        ];
        let mut results = Vec::new();
        ring.send(b"whole", &targets, &mut results);
        results.sort_unstable();
        assert_eq!(results, [(1, 5), (2, -libc::EBADF), (3, 5)]);
        for reader in [&mut reads_first, &mut reads_second] {
            let mut got = [0; 5];
            reader.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"whole");
        }
    }
}
