//! The messages of the stream that begin an epoch, and where it begins itself.

use std::time::Duration;

use async_nats::header::{HeaderMap, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE};
use async_nats::jetstream::stream::Stream;

use crate::server::cluster::engine::Engine;
use crate::text::position::Epoch;

/// How often an epoch is tried to be written while others do so.
const TRIES: usize = 5;

/// What stands behind an epoch that is not new.
const AGAIN: &str = " again";

/// The epoch that a message begins, and whether it only repeats it.
pub(super) fn epoch_of(body: &[u8]) -> Option<(Epoch, bool)> {
    let text = std::str::from_utf8(body).ok()?;
    let (text, repeats) = text.strip_suffix(AGAIN).map_or((text, false), |text| (text, true));
    Some((Epoch::parse(text)?, repeats))
}

impl Engine {
    /// The epoch that stands in the stream and the number of its message, and whether that repeats it.
    pub(super) async fn epoch(
        &self,
        stream: &Stream,
    ) -> Result<Option<((Epoch, u64), bool)>, String> {
        use async_nats::jetstream::stream::LastRawMessageErrorKind::NoMessageFound;
        match stream.get_last_raw_message_by_subject(&self.names.epoch).await {
            Ok(message) => {
                let epoch = epoch_of(&message.payload);
                Ok(epoch.map(|(epoch, repeats)| ((epoch, message.sequence), repeats)))
            }
            Err(why) if why.kind() == NoMessageFound => Ok(None),
            Err(why) => Err(why.to_string()),
        }
    }

    /// Writes an epoch to the stream, behind the one that stood there before; or the same one again, which
    /// `repeats` it. Of several nodes that begin one at once, one wins.
    pub(super) async fn write_epoch(
        &self,
        stream: &Stream,
        (epoch, repeats): (Epoch, bool),
        mut before: Option<(Epoch, u64)>,
    ) -> Result<(Epoch, u64), String> {
        let body = format!("{}{}", epoch.as_str(), if repeats { AGAIN } else { "" });
        for _ in 0..TRIES {
            let last = before.map_or(0, |(_, at)| at);
            let mut headers = HeaderMap::new();
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last.to_string());
            let subject = self.names.epoch.clone();
            let sent = self.jetstream.publish_with_headers(subject, headers, body.clone().into());
            let acknowledged = match sent.await {
                Ok(ack) => ack.await,
                Err(why) => Err(why),
            };
            let why = match acknowledged {
                Ok(ack) => return Ok((epoch, ack.sequence)),
                Err(why) => why,
            };
            let there = self.epoch(stream).await?;
            let now = there.map(|there| there.0);
            if now == before {
                return Err(format!("the epoch cannot be written: {why}"));
            }
            match there {
                // One that was only repeated does not begin there.
                Some((now, is_repeated)) if repeats || !is_repeated => return Ok(now),
                _ => {}
            }
            before = now;
        }
        Err("the epoch cannot be written: others do so all the time".to_owned())
    }

    /// The number of the stream's oldest message.
    pub(super) async fn first(&self) -> Result<u64, String> {
        let stream = self.jetstream.get_stream(&self.names.stream).await;
        let stream = stream.map_err(|why| why.to_string())?;
        Ok(stream.cached_info().state.first_sequence)
    }

    /// Writes the epoch again, before the limits of the stream evict its message.
    pub(super) async fn repeat_epoch(&self, epoch: Epoch) -> Result<(), String> {
        let stream = self.jetstream.get_stream(&self.names.stream).await;
        let stream = stream.map_err(|why| why.to_string())?;
        match self.epoch(&stream).await?.map(|there| there.0) {
            Some((there, _)) if there != epoch => Ok(()),
            before => self.write_epoch(&stream, (epoch, true), before).await.map(drop),
        }
    }

    /// After so many bytes, and so long, the epoch is written again.
    pub(super) fn epoch_lasts(&self) -> (u64, Duration) {
        let bytes = u64::try_from(self.config.max_bytes).map_or(u64::MAX, |bytes| bytes / 4);
        let age = match self.config.max_age {
            Duration::ZERO => Duration::MAX,
            age => age / 3,
        };
        (bytes, age)
    }
}
