//! The body of an HTTP request (RFC 9112 sections 6 and 7): how long it is, and its bytes as they
//! come. Pure, and strict: what two servers could read in two ways is refused, so that nobody smuggles
//! a request past a proxy (section 11.2).

use crate::ws::reason::Reason;
use crate::ws::request::{Request, is_token};
use crate::ws::response::{Refusal, Response, bad_request};

/// The longest line with the size of a chunk, its extensions included.
const SIZE_LINE: usize = 256;

/// The most bytes of fields behind the last chunk.
const TRAILERS: usize = 4096;

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes; none where the request does not say.
    Length(u64),
    /// In chunks.
    Chunked,
}

impl Framing {
    /// What a request's head says (RFC 9112 section 6.3).
    ///
    /// # Errors
    /// 400 for what is ambiguous or wrong, 501 for a coding other than `chunked`.
    pub(crate) fn of(request: &Request<'_>) -> Result<Framing, Refusal> {
        let of_name = |name: &'static str| {
            let headers = request.headers.iter();
            headers.filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| trimmed(h.value))
        };
        let mut lengths = of_name("content-length");
        let mut codings = of_name("transfer-encoding");
        match (codings.next(), lengths.next()) {
            (Some(_), Some(_)) => {
                Err(bad_request("Transfer-Encoding and Content-Length exclude each other"))
            }
            (Some(_), None) if !request.http_1_1 => {
                Err(bad_request("Transfer-Encoding needs HTTP/1.1"))
            }
            (Some(coding), None) => match codings.next() {
                None if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
                _ => {
                    let text = "The only Transfer-Encoding that is understood is chunked.\n";
                    Err(Refusal { response: Response::text(501, text), reason: Reason::BadRequest })
                }
            },
            (None, Some(length)) => {
                let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
                let length = std::str::from_utf8(length).ok().filter(|_| digits);
                let length = length.and_then(|length| length.parse().ok());
                let length = length.filter(|_| lengths.next().is_none());
                length
                    .map(Framing::Length)
                    .ok_or_else(|| bad_request("Content-Length has to be one number"))
            }
            (None, None) => Ok(Framing::Length(0)),
        }
    }
}

/// Without the spaces and tabs around it (RFC 9110 section 5.6.3), and no other characters: what is
/// white space to Unicode is a part of the value to others.
fn trimmed(value: &[u8]) -> &[u8] {
    let is_space = |b: &u8| matches!(b, b' ' | b'\t');
    let start = value.iter().position(|b| !is_space(b)).unwrap_or(value.len());
    let end = value.iter().rposition(|b| !is_space(b)).map_or(start, |at| at + 1);
    &value[start..end]
}

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// It is longer than it may be.
    TooLarge,
    /// Its chunks are wrong; what is.
    Invalid(&'static str),
}

/// Where a body's bytes stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// So many bytes of it, or of a chunk, are to come.
    Data(u64),
    /// The line with a chunk's size.
    Size,
    /// The end of the line behind a chunk's bytes.
    End,
    /// The fields behind the last chunk, of which so many bytes came.
    Trailers(usize),
    /// All is there.
    Whole,
}

/// A body that comes in.
#[derive(Debug)]
pub struct Body {
    step: Step,
    chunked: bool,
    max: usize,
    bytes: Vec<u8>,
    /// The line that comes in: a chunk's size, the end of its bytes, or a field behind the last one.
    line: Vec<u8>,
}

impl Body {
    /// A body of which nothing came yet, and which may have `max` bytes.
    ///
    /// # Errors
    /// It says that it has more.
    pub fn new(framing: Framing, max: usize) -> Result<Body, BodyError> {
        let (step, chunked) = match framing {
            Framing::Length(0) => (Step::Whole, false),
            Framing::Length(length) if length > max as u64 => return Err(BodyError::TooLarge),
            Framing::Length(length) => (Step::Data(length), false),
            Framing::Chunked => (Step::Size, true),
        };
        Ok(Body { step, chunked, max, bytes: Vec::new(), line: Vec::new() })
    }

    /// Takes what belongs to the body from the front of `bytes`; how much that was. What is behind it
    /// is the next request.
    ///
    /// # Errors
    /// It is refused. Nothing may be read from the connection any more.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, BodyError> {
        let mut at = 0;
        while at < bytes.len() && self.step != Step::Whole {
            let rest = &bytes[at..];
            at += match self.step {
                Step::Data(left) => self.data(left, rest),
                Step::Whole => 0,
                Step::Size | Step::End | Step::Trailers(_) => self.line(rest)?,
            };
        }
        Ok(at)
    }

    fn data(&mut self, left: u64, rest: &[u8]) -> usize {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        self.bytes.extend_from_slice(&rest[..taken]);
        self.step = match left - taken as u64 {
            0 if self.chunked => Step::End,
            0 => Step::Whole,
            left => Step::Data(left),
        };
        taken
    }

    /// Takes a line, or what is there of it.
    fn line(&mut self, rest: &[u8]) -> Result<usize, BodyError> {
        let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
        let part = &rest[..end.unwrap_or(rest.len())];
        let most = match self.step {
            Step::End => 2,
            Step::Trailers(_) => TRAILERS,
            _ => SIZE_LINE,
        };
        if self.line.len() + part.len() > most {
            return Err(BodyError::Invalid(match self.step {
                Step::End => "a chunk is longer than its size says",
                Step::Trailers(_) => "the fields behind the last chunk are too long",
                _ => "the line with a chunk's size is too long",
            }));
        }
        self.line.extend_from_slice(part);
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            self.whole_line(&line)?;
        }
        Ok(part.len())
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), BodyError> {
        // A lone CR or LF is read in two ways by others.
        let text = line.strip_suffix(b"\r\n").filter(|text| !text.contains(&b'\r'));
        let Some(text) = text else {
            return Err(BodyError::Invalid("a line between chunks does not end with CR LF"));
        };
        self.step = match self.step {
            Step::End if text.is_empty() => Step::Size,
            Step::End => return Err(BodyError::Invalid("a chunk is longer than its size says")),
            Step::Trailers(_) if text.is_empty() => Step::Whole,
            Step::Trailers(before) => {
                let name = text.split(|b| *b == b':').next().unwrap_or_default();
                let is_field = name.len() < text.len()
                    && std::str::from_utf8(name).is_ok_and(is_token)
                    && !text.contains(&0);
                let bytes = before + line.len();
                if !is_field || bytes > TRAILERS {
                    return Err(BodyError::Invalid("the fields behind the last chunk are wrong"));
                }
                Step::Trailers(bytes)
            }
            Step::Data(_) | Step::Size | Step::Whole => match self.size(line)? {
                0 => Step::Trailers(0),
                size => Step::Data(size),
            },
        };
        Ok(())
    }

    /// The size of a chunk that fits.
    fn size(&self, line: &[u8]) -> Result<u64, BodyError> {
        let Ok(httparse::Status::Complete((length, size))) = httparse::parse_chunk_size(line)
        else {
            return Err(BodyError::Invalid("the size of a chunk cannot be read"));
        };
        // The parser takes a line without any digit for a size of zero, which would be the end.
        if length != line.len() || !line[0].is_ascii_hexdigit() {
            return Err(BodyError::Invalid("the size of a chunk cannot be read"));
        }
        match size > (self.max - self.bytes.len()) as u64 {
            true => Err(BodyError::TooLarge),
            false => Ok(size),
        }
    }

    /// Whether all of it is there.
    pub fn is_whole(&self) -> bool {
        self.step == Step::Whole
    }

    /// How many bytes of it are there.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether none of it is there.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What came.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framing(headers: &str) -> Result<Framing, u16> {
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        framing_of(&head)
    }

    fn framing_of(head: &str) -> Result<Framing, u16> {
        let request = Request::read(head.as_bytes(), 0).unwrap().unwrap();
        Framing::of(&request).map_err(|refusal| refusal.response.status())
    }

    #[test]
    fn one_length_and_one_coding_or_none() {
        for (headers, expected) in [
            ("", Ok(Framing::Length(0))),
            ("Content-Length: 0\r\n", Ok(Framing::Length(0))),
            ("Content-Length:  17 \r\n", Ok(Framing::Length(17))),
            ("Content-Length: 007\r\n", Ok(Framing::Length(7))),
            ("Content-Length: 18446744073709551615\r\n", Ok(Framing::Length(u64::MAX))),
            ("Content-Length: 18446744073709551616\r\n", Err(400)),
            ("Content-Length: +5\r\n", Err(400)),
            ("Content-Length: -5\r\n", Err(400)),
            ("Content-Length: 5 5\r\n", Err(400)),
            ("Content-Length: 5, 5\r\n", Err(400)),
            ("Content-Length: 0x5\r\n", Err(400)),
            ("Content-Length: \u{a0}5\r\n", Err(400)),
            ("Content-Length:\r\n", Err(400)),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(400)),
            ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
            ("transfer-encoding: \tCHUNKED \r\n", Ok(Framing::Chunked)),
            ("Transfer-Encoding: \u{a0}chunked\r\n", Err(501)),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(501)),
            ("Transfer-Encoding: chunked, chunked\r\n", Err(501)),
            ("Transfer-Encoding: chunked, identity\r\n", Err(501)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(501)),
            ("Transfer-Encoding:\r\n", Err(501)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(400)),
            ("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", Err(400)),
        ] {
            assert_eq!(framing(headers), expected, "{headers}");
        }
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(framing_of(old), Err(400));
    }

    /// What becomes of a body that comes in such pieces: its bytes, and what is left behind it.
    fn read(wire: &[u8], piece: usize, max: usize) -> Result<(Vec<u8>, Vec<u8>), BodyError> {
        let mut body = Body::new(Framing::Chunked, max)?;
        let mut rest = Vec::new();
        for bytes in wire.chunks(piece) {
            let taken = body.take(bytes)?;
            assert!(taken == bytes.len() || body.is_whole());
            rest.extend_from_slice(&bytes[taken..]);
        }
        match body.is_whole() {
            true => Ok((body.into_bytes(), rest)),
            false => Err(BodyError::Invalid("")),
        }
    }

    #[test]
    fn chunks_that_are_good_and_chunks_that_are_not() {
        for (wire, expected) in [
            ("0\r\n\r\n", Some("")),
            ("3\r\nabc\r\n0\r\n\r\n", Some("abc")),
            ("3;x=y\r\nabc\r\n02 \r\nde\r\n000\r\nA: b\r\nC:\r\n\r\n", Some("abcde")),
            ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", Some("01234567890123456789")),
            ("3\r\nabcd\r\n0\r\n\r\n", None),
            ("3\r\nab\r\n0\r\n\r\n", None),
            ("3\nabc\r\n0\r\n\r\n", None),
            ("3\r\nabc\n0\r\n\r\n", None),
            ("3\r\nabc\r\n0\r\n\n", None),
            ("3;x\n\r\nabc\r\n0\r\n\r\n", None),
            ("3;x\rx\r\nabc\r\n0\r\n\r\n", None),
            ("\r\n\r\n", None),
            (";\r\n\r\n", None),
            (" 3\r\nabc\r\n0\r\n\r\n", None),
            ("-3\r\nabc\r\n0\r\n\r\n", None),
            ("0x3\r\nabc\r\n0\r\n\r\n", None),
            ("3 3\r\nabc\r\n0\r\n\r\n", None),
            ("10000000000000003\r\nabc\r\n0\r\n\r\n", None),
            ("0\r\nno field\r\n\r\n", None),
            ("0\r\n: b\r\n\r\n", None),
            ("0\r\n folded: b\r\n\r\n", None),
        ] {
            for piece in 1..=wire.len() {
                let found = read(wire.as_bytes(), piece, 100).ok();
                let found = found.map(|(body, rest)| (body, rest.len()));
                let expected = expected.map(|body| (body.as_bytes().to_vec(), 0));
                assert_eq!(found, expected, "{wire:?} by {piece}");
            }
        }
    }

    #[test]
    fn everything_has_a_bound() {
        let most = "ffffffffffffffff\r\n";
        assert_eq!(read(most.as_bytes(), 1, 100), Err(BodyError::TooLarge));
        let second = "60\r\n".to_owned() + &"x".repeat(0x60) + "\r\n5\r\n";
        assert_eq!(read(second.as_bytes(), 7, 100), Err(BodyError::TooLarge));
        let mut body = Body::new(Framing::Chunked, 100).unwrap();
        let extension = vec![b'x'; SIZE_LINE];
        assert!(body.take(b"1;").is_ok() && body.take(&extension).is_err());
        let mut body = Body::new(Framing::Chunked, 100).unwrap();
        assert!(body.take(b"0\r\n").is_ok());
        let fields = "a: b\r\n".repeat(TRAILERS);
        assert!(body.take(fields.as_bytes()).is_err());
        assert_eq!(Body::new(Framing::Length(101), 100).err(), Some(BodyError::TooLarge));
        assert!(Body::new(Framing::Length(100), 100).is_ok());
    }

    fn chunked(chunks: &[Vec<u8>], extension: &str, trailer: &str) -> Vec<u8> {
        let mut wire = Vec::new();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            wire.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(format!("0{extension}\r\n{trailer}\r\n").as_bytes());
        wire
    }

    proptest! {
        /// However a body is cut, on the wire and into chunks, its bytes are the same, and the next
        /// request begins behind it.
        #[test]
        fn cuts_do_not_matter(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            extension in prop::sample::select(&["", ";a", ";a=\"b;c\"", " ; x=y"][..]),
            trailer in prop::sample::select(&["", "a: b\r\n", "a:\r\nb: c\r\n"][..]),
            behind in prop::collection::vec(any::<u8>(), 0..20),
            piece in 1usize..60,
        ) {
            let body: Vec<u8> = chunks.concat();
            let mut wire = chunked(&chunks, extension, trailer);
            wire.extend_from_slice(&behind);
            prop_assert_eq!(read(&wire, piece, body.len()), Ok((body.clone(), behind.clone())));
            if !body.is_empty() {
                prop_assert_eq!(
                    read(&wire, piece, body.len() - 1).unwrap_err(),
                    BodyError::TooLarge
                );
            }
            let mut plain = Body::new(Framing::Length(body.len() as u64), body.len()).unwrap();
            let mut left: &[u8] = &[&body[..], &behind[..]].concat();
            while !plain.is_whole() {
                let taken = plain.take(&left[..piece.min(left.len())]).unwrap();
                left = &left[taken..];
            }
            prop_assert_eq!((plain.into_bytes(), left), (body, &behind[..]));
        }

        /// Whatever comes, it comes to the same in one piece and in many, and is never over the bound.
        #[test]
        fn anything_may_come(
            wire in "[0-9a-fA-F;:x\r\n ]{0,60}|([0-3]\r\n[ab\r\n]{0,4}){0,6}",
            piece in 1usize..9,
        ) {
            let whole = read(wire.as_bytes(), usize::MAX, 20);
            prop_assert_eq!(&read(wire.as_bytes(), piece, 20), &whole);
            prop_assert!(whole.is_err() || whole.unwrap().0.len() <= 20);
        }
    }
}
