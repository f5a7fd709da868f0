//! A small blocking HTTP/1.1 client for the control port.
//!
//! A shell loop starts `wsgw send` a thousand times, so it starts quickly: it needs no runtime, no
//! thread, and one connection.

pub mod discovery;
pub mod wire;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::api::ApiError;
use crate::api::endpoint::Endpoint;
use crate::control_client::discovery::{NotFound, Target, Wanted};
use crate::control_client::wire::{Framing, Head, Socket, Source, is_timeout};
use crate::error::{Failure, exit};

/// The pause between two looks with `--retry`.
const RETRY_STEP: Duration = Duration::from_millis(100);

/// How long, with `--retry`, a `serve` that has just come may take to write its token down.
const PUBLISH_TIME: Duration = Duration::from_secs(1);

/// A connection to the control port.
pub struct Client {
    target: Target,
    source: Source,
    timeout: Duration,
    /// When all of it, connecting too, has to be done.
    deadline: Instant,
}

/// A response that was read whole.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// What a success says beside it.
    pub notice: Option<String>,
}

impl Client {
    /// Finds the control port and connects; keeps trying for `retry`, looking again each time.
    /// `timeout` is for connecting and all answers together; with a stream, for its progress.
    ///
    /// # Errors
    /// Exit codes 2 and 3.
    pub fn open(wanted: &Wanted, timeout: Duration, retry: Duration) -> Result<Client, Failure> {
        let until = Instant::now() + retry;
        // When the first connection succeeded: a `serve` that starts opens its port before it writes
        // its token down.
        let mut came = None;
        let mut failed_before = false;
        loop {
            let failed = match wanted.find() {
                Ok(target) => match Client::connect(target, timeout) {
                    Ok(client) => {
                        let came = *came.get_or_insert_with(Instant::now);
                        let may_come = failed_before && client.target.lacks_token();
                        let until = until.min(came + PUBLISH_TIME);
                        if !may_come || Instant::now() >= until {
                            return Ok(client);
                        }
                        std::thread::sleep(RETRY_STEP);
                        continue;
                    }
                    Err(failure) => NotFound { failure, may_come: true },
                },
                Err(e) => e,
            };
            let left = until.saturating_duration_since(Instant::now());
            if !failed.may_come || left.is_zero() {
                return Err(failed.failure);
            }
            failed_before = true;
            std::thread::sleep(RETRY_STEP.min(left));
        }
    }

    fn connect(target: Target, timeout: Duration) -> Result<Client, Failure> {
        let deadline = Instant::now() + timeout;
        let socket = Socket::connect(&target, timeout).map_err(|e| {
            let note = target.note.as_ref().map(|n| format!(" ({n})")).unwrap_or_default();
            Failure::new(
                exit::UNREACHABLE,
                format!("cannot reach the control port {}: {e}{note}", target.endpoint),
            )
        })?;
        Ok(Client { target, source: Source::new(socket), timeout, deadline })
    }

    /// Where it is connected to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.target.endpoint
    }

    /// The time an answer may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// One request and its response.
    ///
    /// # Errors
    /// No answer (exit code 3), or one that is not HTTP.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Response, Failure> {
        let mut message = self.head(method, path);
        if let Some(body) = body {
            let head =
                format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
            message.extend_from_slice(head.as_bytes());
        }
        message.extend_from_slice(b"\r\n");
        message.extend_from_slice(body.unwrap_or_default());
        self.source.deadline = Some(self.deadline);
        // A refusal may come before everything was sent, and the connection be closed after it: the
        // answer counts.
        let sent = self.source.send(&message);
        let answer = self.source.response();
        match (answer, sent) {
            (Ok(response), _) => Ok(response),
            (Err(_), Err(e)) | (Err(e), Ok(())) => Err(self.broken(&e)),
        }
    }

    /// As [`Client::request`], with an error's response as a failure.
    ///
    /// # Errors
    /// That failure.
    pub fn call(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Vec<u8>, Failure> {
        let response = self.request(method, path, body)?;
        if (200..300).contains(&response.status) {
            return Ok(response.body);
        }
        Err(self.refused(response.status, &response.body))
    }

    /// The failure that an error's response is.
    pub fn refused(&self, status: u16, body: &[u8]) -> Failure {
        let mut failure = Failure::from(ApiError::from_response(status, body));
        if status == 401 {
            let from = &self.target.token_from;
            failure.message = match &self.target.token {
                Some(_) => format!("{}; the token is from {from}", failure.message),
                None => from.clone(),
            };
        }
        failure
    }

    /// The start of a request; an empty line ends it.
    fn head(&self, method: &str, path: &str) -> Vec<u8> {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.target.endpoint.authority());
        if let Some(token) = &self.target.token {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        head.into_bytes()
    }

    /// Starts a stream of structs; both its ends, for two threads.
    ///
    /// # Errors
    /// The connection is lost already.
    pub fn stream(self, path: &str) -> Result<(StreamWriter, StreamReader), Failure> {
        let mut head = self.head("POST", path);
        head.extend_from_slice(
            b"content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n",
        );
        let mut writer =
            self.source.socket.try_clone().map(StreamWriter).map_err(|e| self.broken(&e))?;
        writer.0.set_write_timeout(None).map_err(|e| self.broken(&e))?;
        writer.0.write_all(&head).map_err(|e| self.broken(&e))?;
        Ok((writer, StreamReader { client: self, framing: None }))
    }

    /// Asks for a response that may be long; it is read while it comes.
    ///
    /// # Errors
    /// The connection is lost already.
    pub fn download(mut self, path: &str) -> Result<StreamReader, Failure> {
        let mut message = self.head("GET", path);
        message.extend_from_slice(b"\r\n");
        self.source.deadline = Some(self.deadline);
        self.source.send(&message).map_err(|e| self.broken(&e))?;
        Ok(StreamReader { client: self, framing: None })
    }

    fn broken(&self, error: &io::Error) -> Failure {
        let endpoint = &self.target.endpoint;
        if is_timeout(error) {
            return self.timed_out();
        }
        Failure::new(exit::UNREACHABLE, format!("the control port {endpoint} was lost: {error}"))
    }

    /// The failure of an answer that did not come.
    pub fn timed_out(&self) -> Failure {
        Failure::new(
            exit::UNREACHABLE,
            format!(
                "no answer from the control port {} in {} s (--timeout)",
                self.target.endpoint,
                self.timeout.as_secs_f64()
            ),
        )
    }
}

/// The writing end of a stream of structs.
pub struct StreamWriter(Socket);

impl StreamWriter {
    /// Sends some lines, in one piece.
    pub fn send(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut chunk = Vec::with_capacity(lines.len() + 16);
        write!(chunk, "{:x}\r\n", lines.len())?;
        chunk.extend_from_slice(lines);
        chunk.extend_from_slice(b"\r\n");
        self.0.write_all(&chunk)
    }

    /// Ends the stream.
    pub fn end(&mut self) -> io::Result<()> {
        self.0.write_all(b"0\r\n\r\n")
    }
}

/// The reading end of a stream of structs, or of a long response.
pub struct StreamReader {
    client: Client,
    framing: Option<Framing>,
}

impl StreamReader {
    /// Appends what comes next of the response to `out`; false at their end. After `tick` without
    /// anything, it comes back with nothing.
    ///
    /// # Errors
    /// The stream was refused or broke off.
    pub fn read(&mut self, out: &mut Vec<u8>, tick: Duration) -> Result<bool, Failure> {
        self.client.source.deadline = Some(Instant::now() + tick);
        let framing = match &mut self.framing {
            Some(framing) => framing,
            None => {
                let Head { status, mut framing, .. } = match self.client.source.response_head() {
                    Ok(head) => head,
                    Err(e) if is_timeout(&e) => return Ok(true),
                    Err(e) => return Err(self.client.broken(&e)),
                };
                if status != 200 {
                    self.client.source.deadline = Some(Instant::now() + self.client.timeout);
                    let mut body = Vec::new();
                    while self.client.source.body(&mut framing, &mut body).unwrap_or(false) {}
                    return Err(self.client.refused(status, &body));
                }
                self.framing.insert(framing)
            }
        };
        match self.client.source.body(framing, out) {
            Ok(more) => Ok(more),
            Err(e) if is_timeout(&e) => Ok(true),
            Err(e) => Err(self.client.broken(&e)),
        }
    }

    /// The connection, for its failures.
    pub fn client(&self) -> &Client {
        &self.client
    }
}
