//! The bytes that were sent on a socket and that the other side has not acknowledged yet.
//!
//! # Why it is sound
//! `SIOCOUTQ` (called `TIOCOUTQ` in libc; see tcp(7)) writes one `int` to the address that it is given.
//! It accesses no other memory and does not keep the address. The address is that of a local variable
//! of that type, which outlives the call. The descriptor is borrowed for the call.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes in the socket's send queue, or 0 on systems that do not tell.
pub(crate) fn unacknowledged(socket: BorrowedFd<'_>) -> usize {
    #[cfg(target_os = "linux")]
    {
        let mut bytes: libc::c_int = 0;
        // SAFETY: see the module's proof.
        let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        if done == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket.as_raw_fd();
        0
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn unread_bytes_are_counted() {
        let acceptor = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(acceptor.local_addr().unwrap()).unwrap();
        let (mut server, _) = acceptor.accept().unwrap();
        assert_eq!(unacknowledged(server.as_fd()), 0);
        server.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(n) = server.write(&[0; 65_536]) {
            sent += n;
        }
        let full = unacknowledged(server.as_fd());
        assert!(full > 0);
        let mut got = vec![0; sent];
        client.read_exact(&mut got).unwrap();
        assert!(unacknowledged(server.as_fd()) < full, "the bytes that were read are acknowledged");
    }
}
