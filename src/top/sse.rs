//! Server-sent events, as they come in pieces.

/// The longest event that is taken.
const MAX_EVENT: usize = 16 << 20;

/// What has come and is not an event yet. Plain data of whoever reads the stream.
#[derive(Debug, Default)]
pub(super) struct Events {
    buffer: Vec<u8>,
    /// Up to where no end of an event was found.
    searched: usize,
}

/// The stream is not one of events.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Events {
    /// Where the next piece of the stream belongs.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// The data of the next event with this name; others are passed over.
    ///
    /// # Errors
    /// An event is longer than 16 MiB.
    pub(super) fn next(&mut self, name: &str) -> Result<Option<String>, TooLong> {
        while let Some(end) = self.end() {
            let event: Vec<u8> = self.buffer.drain(..end).collect();
            self.searched = 0;
            if let Some(data) = data(&String::from_utf8_lossy(&event), name) {
                return Ok(Some(data));
            }
        }
        if self.buffer.len() > MAX_EVENT { Err(TooLong) } else { Ok(None) }
    }

    /// Behind the empty line that ends the first event.
    fn end(&mut self) -> Option<usize> {
        let from = self.searched.saturating_sub(3);
        let found = (from..self.buffer.len()).find_map(|at| {
            let rest = &self.buffer[at..];
            [&b"\n\n"[..], b"\n\r\n"]
                .into_iter()
                .find(|end| rest.starts_with(end))
                .map(|end| at + end.len())
        });
        self.searched = self.buffer.len();
        found
    }
}

/// The data of one event, if it has this name.
fn data(event: &str, name: &str) -> Option<String> {
    let (mut named, mut data) = ("message", None::<String>);
    for line in event.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => named = value,
            "data" => match &mut data {
                Some(text) => {
                    text.push('\n');
                    text.push_str(value);
                }
                None => data = Some(value.to_owned()),
            },
            _ => {}
        }
    }
    data.filter(|_| named == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_any_pieces() {
        let stream = ": hello\n\nevent: watch\ndata: {\"a\":1}\n\nevent: other\ndata: no\n\n\
                      id: 7\r\nevent: watch\r\ndata: one\r\ndata:two\r\n\r\nevent: watch\ndata: half\n";
        for size in 1..stream.len() {
            let (mut events, mut seen) = (Events::default(), Vec::new());
            for piece in stream.as_bytes().chunks(size) {
                events.buffer().extend_from_slice(piece);
                while let Some(data) = events.next("watch").unwrap() {
                    seen.push(data);
                }
            }
            assert_eq!(seen, ["{\"a\":1}", "one\ntwo"], "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_has_an_end() {
        let mut events = Events::default();
        events.buffer().resize(MAX_EVENT + 1, b'x');
        assert_eq!(events.next("watch"), Err(TooLong));
    }
}
