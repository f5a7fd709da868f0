//! `Sec-WebSocket-Extensions` (RFC 6455 section 9.1) with the parameters of permessage-deflate
//! (RFC 7692 section 7.1).

use crate::ws::deflate::{LEAST_BITS, MOST_BITS};
use crate::ws::request::is_token;

/// The extension's name.
pub(crate) const NAME: &str = "permessage-deflate";

/// What a server says to the first offer that it can accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The window that the client asked the server to compress with; `None` if it did not ask.
    server_bits: Option<u8>,
}

impl Answer {
    /// The window to compress with for this client: 9 to 15. A window of 8 bits is that of 9, in
    /// which zlib looks back less than 256 bytes ([`crate::ws::deflate::compress`]).
    pub fn window_bits(self) -> u8 {
        self.server_bits.unwrap_or(MOST_BITS).max(LEAST_BITS + 1)
    }

    /// The value of the header in the 101. Both sides always begin each message with an empty
    /// window, whether the client offered that or not (sections 7.1.1.1 and 7.1.1.2).
    pub fn header(self) -> String {
        let mut out = format!("{NAME}; server_no_context_takeover; client_no_context_takeover");
        if let Some(bits) = self.server_bits {
            out.push_str(&format!("; server_max_window_bits={bits}"));
        }
        out
    }
}

/// A server's answer to the values of the header, one for each line it came in; `None` if there is
/// no offer that it can accept. An offer with a parameter that is unknown, comes twice, or has a
/// value out of place is declined, and the next one is looked at (section 7.1).
pub fn answer<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> Option<Answer> {
    values.into_iter().find_map(|value| {
        let offers = extensions(value.as_ref())?;
        offers.iter().find_map(|offer| {
            let parameters = offer.parameters(|value| value.map_or(Some(MOST_BITS), bits))?;
            Some(Answer { server_bits: parameters.server_bits })
        })
    })
}

/// What a client offers: messages that do not refer to those before, with any window. The server may
/// do as it likes.
pub const OFFER: &str = "permessage-deflate; client_no_context_takeover; client_max_window_bits";

/// What a client has to do after a server's answer to [`OFFER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The window to compress with: 9 to 15, as [`Answer::window_bits`].
    pub window_bits: u8,
    /// Whether messages from the server may refer to those before.
    pub server_takeover: bool,
}

/// The answer of a server to [`OFFER`]; `None` if it declined.
///
/// # Errors
/// An answer to what was not offered, or one that cannot be read: the connection fails (section 7.1).
pub fn agreed<S: AsRef<str>>(
    values: impl IntoIterator<Item = S>,
) -> Result<Option<Agreed>, BadAnswer> {
    let mut found = None;
    for value in values {
        for extension in extensions(value.as_ref()).ok_or(BadAnswer)? {
            // In an answer the client's window has a value.
            let parameters = extension.parameters(|value| bits(value?)).ok_or(BadAnswer)?;
            let bits = parameters.client_bits.unwrap_or(MOST_BITS).max(LEAST_BITS + 1);
            let agreed = Agreed {
                window_bits: bits,
                server_takeover: !parameters.server_no_context_takeover,
            };
            if found.replace(agreed).is_some() {
                return Err(BadAnswer);
            }
        }
    }
    Ok(found)
}

/// A server's `Sec-WebSocket-Extensions` that does not answer what was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadAnswer;

/// One element of the header.
#[derive(Debug, PartialEq, Eq)]
struct Extension {
    name: String,
    parameters: Vec<(String, Option<String>)>,
}

/// Those that were found, each good and there once.
#[derive(Debug, Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_bits: Option<u8>,
    client_bits: Option<u8>,
}

impl Extension {
    /// The parameters of permessage-deflate; `None` if it is another extension, or for a bad one.
    /// `client_bits` reads the value of `client_max_window_bits`, which an offer may leave out.
    fn parameters(&self, client_bits: fn(Option<&str>) -> Option<u8>) -> Option<Parameters> {
        if !self.name.eq_ignore_ascii_case(NAME) {
            return None;
        }
        let mut found = Parameters::default();
        for (name, value) in &self.parameters {
            let value = value.as_deref();
            let was_there = match (name.to_ascii_lowercase().as_str(), value) {
                ("server_no_context_takeover", None) => {
                    std::mem::replace(&mut found.server_no_context_takeover, true)
                }
                ("client_no_context_takeover", None) => {
                    std::mem::replace(&mut found.client_no_context_takeover, true)
                }
                ("server_max_window_bits", Some(value)) => {
                    found.server_bits.replace(bits(value)?).is_some()
                }
                ("client_max_window_bits", value) => {
                    found.client_bits.replace(client_bits(value)?).is_some()
                }
                _ => return None,
            };
            if was_there {
                return None;
            }
        }
        Some(found)
    }
}

/// 8 to 15, without zeros in front.
fn bits(value: &str) -> Option<u8> {
    (LEAST_BITS..=MOST_BITS).find(|bits| bits.to_string() == value)
}

/// The elements of one value of the header; `None` if it cannot be read.
fn extensions(value: &str) -> Option<Vec<Extension>> {
    let elements = split(value, ',')?;
    // A list may have empty elements (RFC 9110 section 5.6.1).
    elements.into_iter().filter(|element| !element.trim().is_empty()).map(extension).collect()
}

fn extension(element: &str) -> Option<Extension> {
    let mut parts = split(element, ';')?.into_iter().map(str::trim);
    let name = parts.next().filter(|name| is_token(name))?.to_owned();
    let parameter = |part: &str| match part.split_once('=') {
        None => is_token(part).then(|| (part.to_owned(), None)),
        Some((name, value)) => {
            let (name, value) = (name.trim_end(), unquoted(value.trim_start())?);
            (is_token(name) && is_token(&value)).then(|| (name.to_owned(), Some(value)))
        }
    };
    Some(Extension { name, parameters: parts.map(parameter).collect::<Option<_>>()? })
}

/// The parts between separators that do not stand in a quoted string; `None` where one does not end.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(&text[from..at]);
                from = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    (!quoted).then_some(parts)
}

/// A token or a quoted string, without its quotes.
fn unquoted(value: &str) -> Option<String> {
    let Some(rest) = value.strip_prefix('"') else { return Some(value.to_owned()) };
    let (mut out, mut chars) = (String::new(), rest.chars());
    loop {
        match chars.next()? {
            '"' => return chars.next().is_none().then_some(out),
            '\\' => out.push(chars.next()?),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

    fn answered(values: &[&str]) -> Option<String> {
        answer(values).map(Answer::header)
    }

    #[test]
    fn an_offer_is_answered_without_context_takeover() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate;client_no_context_takeover;server_no_context_takeover",
            "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits",
            ",, Permessage-Deflate ;client_max_window_bits = \"1\\0\" ,",
        ] {
            assert_eq!(answered(&[offer]).as_deref(), Some(PLAIN), "{offer}");
            assert_eq!(answer([offer]).map(Answer::window_bits), Some(15));
        }
        for (bits, used) in [(8, 9), (9, 9), (10, 10), (15, 15)] {
            let offer = format!("permessage-deflate; server_max_window_bits={bits}");
            let expected = format!("{PLAIN}; server_max_window_bits={bits}");
            assert_eq!(answered(&[&offer]), Some(expected));
            assert_eq!(answer([offer]).map(Answer::window_bits), Some(used));
        }
    }

    #[test]
    fn a_bad_offer_is_declined_and_the_next_one_is_looked_at() {
        let bad = [
            "",
            "permessage-bzip2",
            "permessage-deflate; unknown",
            "permessage-deflate; unknown=1",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=true",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        ];
        for offer in bad {
            assert_eq!(answered(&[offer]), None, "{offer}");
            let next = format!("{offer}, permessage-deflate; server_max_window_bits=10");
            assert!(answered(&[&next]).is_some_and(|said| said.ends_with("=10")), "{next}");
        }
        for unreadable in [
            "permessage-deflate; server_max_window_bits=\"10",
            "permessage-deflate; =1, permessage-deflate",
            "permessage-deflate; server_max_window_bits=\"\"",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate;; client_max_window_bits",
            "permessage deflate",
        ] {
            assert_eq!(answered(&[unreadable]), None, "{unreadable}");
            assert!(answered(&[unreadable, "permessage-deflate"]).is_some());
        }
    }

    #[test]
    fn a_client_reads_what_was_agreed() {
        let agreed = |value: &str| super::agreed([value]);
        assert_eq!(super::agreed::<&str>([]), Ok(None));
        let both = Agreed { window_bits: 15, server_takeover: false };
        assert_eq!(agreed(PLAIN), Ok(Some(both)));
        assert_eq!(agreed(&answer([OFFER]).unwrap().header()), Ok(Some(both)));
        assert_eq!(
            agreed("permessage-deflate; client_max_window_bits=8"),
            Ok(Some(Agreed { window_bits: 9, server_takeover: true }))
        );
        for bad in [
            "permessage-bzip2",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate, permessage-deflate",
            "permessage-deflate; x",
            "permessage-deflate; server_max_window_bits=16",
            "\"",
        ] {
            assert_eq!(agreed(bad), Err(BadAnswer), "{bad}");
        }
    }

    proptest! {
        /// Nothing that a client writes there is an error or a panic, and what is answered can be
        /// read by a client.
        #[test]
        fn any_header(value in "[a-z_=;, \"\\\\0-9]{0,40}|(permessage-deflate(; ?(server|client)_(max_window_bits|no_context_takeover)(=\"?[0-9]{1,2}\"?)?){0,4},? ?){0,3}") {
            if let Some(answer) = answer([&value]) {
                prop_assert!((9..=15).contains(&answer.window_bits()));
                prop_assert!(matches!(agreed([answer.header()]), Ok(Some(_))));
            }
            let _ = agreed([&value]);
        }
    }
}
