//! One frame to many sockets in one system call, by io_uring, where the kernel lets us: a third of
//! the CPU time of a fan-out of small messages is the entry into the kernel for each socket.
//!
//! Owned by one shard's thread, which makes it. Nothing is ever under
//! way between two calls: [`Ring::send`] returns when every send is done or refused, exactly as if
//! each had been a nonblocking `send(2)`.
//!
//! # Why it is sound
//! The kernel reads the bytes and uses the descriptors that the entries name from the submission
//! to the completion of each. Both are borrowed by [`Ring::send`] for all of its run, and it leaves
//! only when it has seen one completion for each entry that it queued: by returning, or by ending
//! the process. There is no early return and no call of foreign code in between.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{IoUring, opcode, types};

/// Sends that one system call carries at most: so many take well under a millisecond.
pub const BATCH: usize = 256;

/// Bytes over which a frame is not worth it: copying it costs more than entering the kernel.
pub const LARGEST: usize = 16 * 1024;

/// Turns it off (`WSGW_IO_URING=off`), to compare or where a kernel's is not trusted.
const SWITCH: &str = "WSGW_IO_URING";

/// A submission queue and its completions.
pub struct Ring {
    ring: IoUring,
    results: Vec<i32>,
}

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
        Ok(Ring { ring, results: Vec::with_capacity(BATCH) })
    }

    /// Sends `bytes` to each of `sockets`, [`BATCH`] at most, without waiting for any. The results
    /// are in their order: bytes taken, or the error's number below zero.
    pub fn send(&mut self, bytes: &[u8], sockets: &[BorrowedFd<'_>]) -> &[i32] {
        self.results.clear();
        self.results.resize(sockets.len(), -libc::EAGAIN);
        let mut queued = 0;
        for (index, socket) in sockets.iter().enumerate() {
            // DONTWAIT: a full socket is an answer, nothing stays behind in the kernel.
            let send = opcode::Send::new(
                types::Fd(socket.as_raw_fd()),
                bytes.as_ptr(),
                bytes.len() as u32,
            )
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            .build()
            .user_data(index as u64);
            // SAFETY: the bytes and the descriptor outlive the operation, see the module's proof.
            if unsafe { self.ring.submission().push(&send) }.is_err() {
                break;
            }
            queued += 1;
        }
        while queued > 0 {
            match self.ring.submit_and_wait(queued) {
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
            for done in self.ring.completion() {
                if let Some(result) = self.results.get_mut(done.user_data() as usize) {
                    *result = done.result();
                }
                queued -= 1;
            }
        }
        &self.results
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
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
        let results = ring.send(b"hello", &[open.as_fd(), full.as_fd(), gone.as_fd()]);
        assert_eq!(results, [5, -libc::EAGAIN, -libc::EPIPE]);
        let mut got = [0; 5];
        reader.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"hello");
        // And again: nothing of the first round is left.
        assert_eq!(ring.send(b"x", &[open.as_fd()]), [1]);
        assert!(ring.send(b"x", &[]).is_empty());
    }
}
