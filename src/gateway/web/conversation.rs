//! What one client says and hears away from its shard: requests for files, and nothing else.
//!
//! A conversation holds no part of a file while its client does not read: what the socket does not
//! take is read again. Between two requests it holds no buffer at all.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use crate::gateway::core::Core;
use crate::gateway::hub::admission::{self, Decision};
use crate::gateway::io::transport::Transport;
use crate::gateway::io::watched::watch;
use crate::gateway::msg::{HubMsg, Returned};
use crate::gateway::shared::Shared;
use crate::gateway::web::answer::{Answer, answer};
use crate::gateway::web::request::FileRequest;
use crate::listener::protocol::connid::ConnId;
use crate::net::address::Peer;

/// Bytes of a file that are read and written at a time. Others have their turn in between.
const CHUNK: usize = 128 * 1024;

/// Bytes that are read of requests at a time.
const READ: usize = 16 * 1024;

/// How long a client may take nothing of its answer.
const STALL: Duration = Duration::from_secs(30);

/// How long it may take to close its socket after the last answer.
const LINGER: Duration = Duration::from_secs(1);

thread_local! {
    /// What every conversation of the thread reads into, and writes from. Never held while one waits.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A client that asked for a file, as its shard hands it over.
pub(crate) struct Away {
    /// Its socket, which no shard watches any more.
    pub stream: Transport,
    /// The socket's other end.
    pub peer: Peer,
    /// Its name.
    pub id: ConnId,
    /// What it asks for.
    pub asked: Box<FileRequest>,
    /// What it said after that.
    pub rest: Vec<u8>,
    /// Its gateway.
    pub shared: Arc<Shared>,
}

/// Gives the descriptor back, unless the socket returns to a shard.
struct Socket {
    stream: Option<AsyncFd<Transport>>,
    core: Arc<Core>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.into_inner().close_notify();
            self.core.give_socket();
        }
    }
}

/// What comes after an answer.
enum Next {
    /// Another request for a file.
    File(Box<FileRequest>),
    /// Something for the shard.
    Other,
    /// Nothing.
    End,
}

/// Answers until the client is gone, or asks for something else: then its shard gets it back.
pub(crate) async fn converse(away: Away, core: Arc<Core>) {
    let Away { stream, peer, id, asked, rest: mut bytes, shared } = away;
    let _running = shared.answers.token();
    let stream = match watch(stream) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::error!(gateway = %shared.id, %error, "a client cannot be watched");
            return core.give_socket();
        }
    };
    let mut socket = Socket { stream: Some(stream), core };
    let Some(stream) = &mut socket.stream else { return };
    let talk = talk(stream, peer, asked, &mut bytes, &shared);
    let returns = tokio::select! {
        biased;
        returns = talk => returns.unwrap_or(false),
        () = shared.cut_answers.cancelled() => false,
    };
    if returns && let Some(stream) = socket.stream.take() {
        let core = &socket.core;
        let returned = Returned { stream: stream.into_inner(), peer, id, bytes };
        core.post_hub(core.shard_of(id), &shared, HubMsg::Returned(Box::new(returned)));
    }
}

/// True if the shard is to have it back, with the bytes that it has not been told.
async fn talk(
    stream: &mut AsyncFd<Transport>,
    peer: Peer,
    mut asked: Box<FileRequest>,
    bytes: &mut Vec<u8>,
    shared: &Shared,
) -> io::Result<bool> {
    loop {
        let keeps_alive = asked.keeps_alive;
        let answer = answer(shared.settings().static_files.as_deref(), &asked);
        tracing::debug!(
            gateway = %shared.id, remote = %peer, path = asked.request.uri().path(),
            file = answer.part.is_some(), "asked for a file"
        );
        drop(asked);
        send(stream, answer).await?;
        // A client whose requests are all there already must not keep the thread from the others.
        tokio::task::yield_now().await;
        if !keeps_alive {
            linger(stream).await?;
            return Ok(false);
        }
        match next(stream, peer, bytes, shared).await? {
            Next::File(next) => asked = next,
            Next::Other => return Ok(true),
            Next::End => return Ok(false),
        }
    }
}

/// Sends all of an answer.
async fn send(stream: &mut AsyncFd<Transport>, mut answer: Answer) -> io::Result<()> {
    loop {
        let mut ready = timeout(STALL, stream.writable_mut()).await??;
        match ready.try_io(|stream| some(stream.get_mut(), &mut answer)) {
            Ok(Ok(true)) => break,
            Ok(Ok(false)) => tokio::task::yield_now().await,
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
    // With TLS, some of it may wait in the record layer.
    loop {
        let mut ready = timeout(STALL, stream.writable_mut()).await??;
        let flushed = ready.try_io(|stream| match stream.get_mut().flush_tls() {
            Ok(false) => Err(io::ErrorKind::WouldBlock.into()),
            done => done,
        });
        if let Ok(done) = flushed {
            return done.map(drop);
        }
    }
}

/// Sends some of an answer; true if that was all of it.
///
/// # Errors
/// `WouldBlock` if the socket takes no more; what it has not taken is still in the answer.
fn some(stream: &mut Transport, answer: &mut Answer) -> io::Result<bool> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        buffer.extend_from_slice(&answer.bytes);
        if let Some(part) = &mut answer.part
            && part.left > 0
        {
            part.read(buffer, CHUNK)?;
        }
        let mut sent = 0;
        let done = loop {
            if sent == buffer.len() {
                break Ok(());
            }
            match stream.write(&buffer[sent..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        let unsent = buffer.len() - sent;
        let head = answer.bytes.len();
        if let Some(part) = &mut answer.part {
            part.unread(unsent.min(buffer.len() - head));
        }
        answer.bytes.drain(..sent.min(head));
        done.map(|()| answer.part.as_ref().is_none_or(|part| part.left == 0))
    })
}

/// Waits for the next request, for as long as a client may take for its first.
async fn next(
    stream: &mut AsyncFd<Transport>,
    peer: Peer,
    bytes: &mut Vec<u8>,
    shared: &Shared,
) -> io::Result<Next> {
    let mut seen = 0;
    let reading = async {
        loop {
            if !bytes.is_empty() {
                let settings = shared.settings();
                match admission::decide(bytes, seen, &settings, peer, shared.bound.ip()) {
                    Decision::Incomplete => seen = bytes.len(),
                    Decision::File(asked) => {
                        *bytes = bytes.split_off(asked.head_len);
                        return Ok(Next::File(asked));
                    }
                    _ => return Ok(Next::Other),
                }
            }
            if read(stream, bytes).await? == 0 {
                return Ok(Next::End);
            }
        }
    };
    tokio::select! {
        biased;
        next = timeout(shared.settings().handshake_timeout, reading) => next.unwrap_or(Ok(Next::End)),
        () = shared.end_answers.cancelled() => Ok(Next::End),
    }
}

/// Reads some bytes to the end of these; how many there were.
async fn read(stream: &mut AsyncFd<Transport>, bytes: &mut Vec<u8>) -> io::Result<usize> {
    if !stream.get_ref().short_read_is_all() {
        // The record layer may hold something that the shard has not read: no event tells of that.
        match some_bytes(stream.get_mut(), bytes) {
            Err(e) if is_passing(&e) => {}
            read => return read,
        }
    }
    loop {
        let mut ready = stream.readable_mut().await?;
        let read = ready.try_io(|stream| {
            let n = some_bytes(stream.get_mut(), bytes)?;
            Ok((n, n < READ && stream.get_ref().short_read_is_all()))
        });
        match read {
            Ok(Ok((n, all))) => {
                if all && n > 0 {
                    // Saves the read that would find nothing. An end that is announced stays so.
                    ready.clear_ready();
                }
                return Ok(n);
            }
            Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => tokio::task::yield_now().await,
            Ok(Err(e)) => return Err(e),
            Err(_would_block) => {}
        }
    }
}

/// Reads what is there.
fn some_bytes(stream: &mut Transport, bytes: &mut Vec<u8>) -> io::Result<usize> {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(READ, 0);
        let n = stream.read(buffer)?;
        bytes.extend_from_slice(&buffer[..n]);
        Ok(n)
    })
}

/// Whether nothing is wrong: there is nothing to read, or others have their turn first.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Waits for the client to close its socket, so that no RST destroys what is under way.
async fn linger(stream: &mut AsyncFd<Transport>) -> io::Result<()> {
    stream.get_mut().finish()?;
    let mut bytes = Vec::new();
    let end = async {
        while read(stream, &mut bytes).await? > 0 {
            bytes.clear();
        }
        Ok(())
    };
    timeout(LINGER, end).await.unwrap_or(Ok(()))
}
