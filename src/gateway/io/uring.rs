//! Sends one frame to many sockets with one system call, by io_uring, if the kernel allows it. In a
//! fan-out of small messages, a third of the CPU time is spent on entering the kernel for each socket.
//!
//! A ring belongs to the shard's thread that made it. No send is pending between two calls:
//! [`Ring::send`] returns when every send is done or refused, as if each had been a nonblocking
//! `send(2)`.
//!
//! # Why it is sound
//! The kernel may read the bytes of an entry from its submission until its completion. [`Ring::send`]
//! borrows the bytes while it runs. It returns only when it has seen one completion for each entry that
//! it queued; otherwise it aborts the process. It has no early return and calls no foreign code in
//! between. To the kernel a descriptor is a number: if it is closed, that entry alone fails.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

use io_uring::{IoUring, opcode, types};

/// The most sends in one system call. They take well under a millisecond.
pub(crate) const BATCH: usize = 256;

/// The largest frame in bytes that is sent this way. For a larger one, copying costs more than entering
/// the kernel.
pub(crate) const LARGEST: usize = 16 * 1024;

/// The environment variable that switches io_uring off if its value is `off`: for comparisons, or if
/// the kernel's io_uring is not trusted.
const SWITCH: &str = "WSGW_IO_URING";

/// A socket to send to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// The connection's slot, which comes back with the result.
    pub(crate) slot: u32,
    /// The socket.
    pub(crate) fd: RawFd,
}

/// An io_uring of one thread.
pub(crate) struct Ring(IoUring);

impl Ring {
    /// A ring for the calling thread; no other thread may use it.
    ///
    /// # Errors
    /// The kernel does not have what is needed (before 6.1) or forbids it, as in many containers; or
    /// io_uring is switched off.
    pub(crate) fn new() -> io::Result<Ring> {
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

    /// Sends `bytes` to each target (at most [`BATCH`] of them) without waiting for any socket. Adds a
    /// result for each target, in any order: its slot, and the bytes that the socket took or the
    /// negative error number.
    pub(crate) fn send(&mut self, bytes: &[u8], targets: &[Target], results: &mut Vec<(u32, i32)>) {
        let mut queued = 0;
        for (index, target) in targets.iter().enumerate() {
            // With MSG_DONTWAIT a full socket completes with EAGAIN, and no entry stays in the kernel.
            let send = opcode::Send::new(types::Fd(target.fd), bytes.as_ptr(), bytes.len() as u32)
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .user_data(u64::from(target.slot));
            // SAFETY: the bytes outlive the operation; see the module's proof.
            if unsafe { self.0.submission().push(&send) }.is_err() {
                // The submission queue is full. The rest is reported as if the sockets were full.
                results.extend(targets[index..].iter().map(|t| (t.slot, -libc::EAGAIN)));
                break;
            }
            queued += 1;
        }
        while queued > 0 {
            match self.0.submit_and_wait(queued) {
                Ok(_) => {}
                // A signal came, or the kernel has no memory for the moment. The sends that are not
                // done are waited for again.
                Err(e)
                    if matches!(
                        e.raw_os_error(),
                        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
                    ) => {}
                Err(error) => {
                    tracing::error!(%error, "io_uring failed and wsgw aborts; set {SWITCH}=off to run without io_uring");
                    std::process::abort();
                }
            }
            for done in self.0.completion() {
                // The cast is exact, because a slot was given above.
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
            // The kernel does not have io_uring or forbids it. The shards write one by one then.
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
        // A second round shows that nothing of the first one is left.
        results.clear();
        ring.send(b"x", &[target(7, &open)], &mut results);
        assert_eq!(results, [(7, 1)]);
        results.clear();
        ring.send(b"x", &[], &mut results);
        assert!(results.is_empty());
    }

    /// The send to a socket that was closed meanwhile fails alone, and the other results keep their
    /// slots.
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
