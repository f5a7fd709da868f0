//! The unix socket of a control port: kept while others may remove or replace its file.

use std::io;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Interval, MissedTickBehavior};

use crate::control::publication::LOOK_PAUSE;
use crate::net::unix::{BindError, Place, SocketFile};

/// A bound socket.
#[derive(Debug)]
pub(super) struct Bound {
    // Dropped first: while the socket is open, no other file can get its number.
    file: SocketFile,
    listener: std::os::unix::net::UnixListener,
}

impl Bound {
    /// Binds, where nothing stands in the way.
    pub(super) fn bind(place: Place) -> Result<Bound, String> {
        let (file, listener) = place.bind().map_err(|why| match why {
            BindError::Taken(why) => format!("{why}; `--control unix:PATH` picks another"),
            BindError::Failed(why) => why,
        })?;
        Ok(Bound { file, listener })
    }

    /// For the runtime that it is called in.
    pub(super) fn into_acceptor(self) -> io::Result<UnixAcceptor> {
        let listener = UnixListener::from_std(self.listener)?;
        let mut ticks = tokio::time::interval(LOOK_PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(UnixAcceptor { file: self.file, listener, ticks, said: None })
    }
}

/// Accepts connections on a socket, and keeps it within reach.
#[derive(Debug)]
pub(super) struct UnixAcceptor {
    // Dropped first: while the socket is open, no other file can get its number.
    file: SocketFile,
    listener: UnixListener,
    ticks: Interval,
    /// What is wrong now and was said.
    said: Option<String>,
}

impl UnixAcceptor {
    /// The next connection.
    pub(super) async fn accept(&mut self) -> io::Result<UnixStream> {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => return accepted.map(|(socket, _)| socket),
                _ = self.ticks.tick() => self.look(),
            }
        }
    }

    /// Binds anew where the socket's file is gone or was replaced by one on which nobody listens.
    fn look(&mut self) {
        if self.file.is_ours() {
            self.said = None;
            return;
        }
        let listener = self.file.bind_anew(UnixListener::from_std);
        let path = self.file.path().display();
        match listener {
            Ok(listener) => {
                tracing::warn!("control socket {path}: its file was gone; it was bound anew");
                self.listener = listener;
                self.said = None;
            }
            Err(why) if self.said.as_ref() != Some(&why) => {
                tracing::warn!("control socket {path} cannot be reached: {why}");
                self.said = Some(why);
            }
            Err(_) => {}
        }
    }
}
