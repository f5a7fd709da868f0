//! What `serve` tells: `GET /v1/watch`, read by a thread of its own, again and again.

use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use crate::api::Watch;
use crate::control_client::{Client, StreamReader};
use crate::error::{Failure, exit};
use crate::top::sse::Events;
use crate::top::{Happening, Options};

/// The pause between two tries to reach a `serve` that is gone.
const PAUSE: Duration = Duration::from_millis(500);
/// How long one read waits.
const TICK: Duration = Duration::from_millis(500);
/// After this time without an event the stream counts as lost.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a `serve` that was lost may take for its first event.
const AGAIN: Duration = Duration::from_secs(5);

/// The stream, under way.
pub(super) struct Feed {
    stream: StreamReader,
    events: Events,
    /// Until when the next event has to come.
    deadline: Instant,
    /// How long it may take.
    patience: Duration,
}

impl Feed {
    /// Finds the control port and asks for the stream; its address and the first event, too.
    ///
    /// # Errors
    /// As any command that asks the control port; exit code 4 for a gateway that is not there.
    pub(super) fn open(
        options: &Options,
        timeout: Duration,
    ) -> Result<(Feed, String, Watch), Failure> {
        let client = Client::open(&options.wanted, timeout, Duration::ZERO)?;
        let endpoint = client.endpoint().to_string();
        let stream = client.download("/v1/watch")?;
        let deadline = Instant::now() + timeout;
        let events = Events::default();
        let mut feed = Feed { stream, events, deadline, patience: timeout };
        let watch = feed.next()?;
        if let Some(id) = &options.id
            && !watch.gateways.iter().any(|g| g.status.id == *id)
        {
            let known: Vec<&str> = watch.gateways.iter().map(|g| g.status.id.as_str()).collect();
            let message = format!("no gateway {id:?}; known: {}", known.join(", "));
            return Err(Failure::new(exit::NO_GATEWAY, message));
        }
        Ok((feed, endpoint, watch))
    }

    /// Waits for the next event.
    fn next(&mut self) -> Result<Watch, Failure> {
        loop {
            let event = self.events.next("watch").map_err(|_| {
                Failure::other("the control port's answer is not understood: an event is too long")
            })?;
            if let Some(event) = event {
                (self.deadline, self.patience) = (Instant::now() + SILENCE, SILENCE);
                return serde_json::from_str(&event).map_err(|e| {
                    Failure::other(format!("the control port's answer is not understood: {e}"))
                });
            }
            let before = self.events.buffer().len();
            if !self.stream.read(self.events.buffer(), TICK)? {
                let text = format!("{} ended the stream", self.stream.client().endpoint());
                return Err(Failure::new(exit::UNREACHABLE, text));
            }
            // Read first: after Ctrl-Z and `fg` the time is over, and what came meanwhile is there.
            if self.events.buffer().len() == before && Instant::now() >= self.deadline {
                let (place, time) = (self.stream.client().endpoint(), self.patience.as_secs_f64());
                let text = format!("nothing came from the control port {place} for {time} s");
                return Err(Failure::new(exit::UNREACHABLE, text));
            }
        }
    }
}

/// Passes on what comes; where it breaks off, says so and begins anew. It ends when nobody listens
/// any more. Where the terminal takes nothing, it waits, and `serve` sends it less.
pub(super) fn follow(mut feed: Feed, options: &Options, to: &SyncSender<Happening>) {
    loop {
        let lost = loop {
            match feed.next() {
                Ok(watch) => {
                    if to.send(Happening::Watch(Box::new(watch))).is_err() {
                        return;
                    }
                }
                Err(failure) => break failure,
            }
        };
        let mut why = lost;
        feed = loop {
            if to.send(Happening::Lost(why.message)).is_err() {
                return;
            }
            std::thread::sleep(PAUSE);
            match Feed::open(options, AGAIN.min(options.timeout)) {
                Ok((feed, endpoint, watch)) => {
                    if to.send(Happening::Found(endpoint, Box::new(watch))).is_err() {
                        return;
                    }
                    break feed;
                }
                Err(failure) => why = failure,
            }
        };
    }
}
