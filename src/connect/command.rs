//! The lines that one types: messages and commands.

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Send this text.
    Send(String),
    /// `/ping [TEXT]`.
    Ping(String),
    /// `/close [CODE] [REASON]`.
    Close(u16, String),
    /// `/binary HEX`, and `/file FILE` is [`Line::File`].
    Binary(Vec<u8>),
    /// `/binary @FILE` (true) or `/file FILE` (false).
    File(String, bool),
    /// `/headers`.
    Headers,
    /// `/stats`.
    Stats,
    /// `/pretty`.
    Pretty,
    /// `/reconnect`.
    Reconnect,
    /// `/help`.
    Help,
    /// `/quit`.
    Quit,
    /// Nothing is sent: what is wrong.
    Wrong(String),
}

/// Every command and what it does.
pub(super) const COMMANDS: [(&str, &str, &str); 10] = [
    ("/ping", "[TEXT]", "send a ping"),
    ("/close", "[CODE] [REASON]", "close the connection and leave"),
    ("/binary", "HEX|@FILE", "send a binary message"),
    ("/file", "FILE", "send a file's text as one message"),
    ("/headers", "", "show the headers of the server's handshake"),
    ("/stats", "", "show what went over the connection"),
    ("/pretty", "", "switch the indentation of JSON on or off"),
    ("/reconnect", "", "connect again"),
    ("/help", "", "show this"),
    ("/quit", "", "leave"),
];

/// Reads a line; `//x` is the message `/x`, and a pasted block is a message whatever it begins with.
pub fn parse(line: &str) -> Line {
    if line.contains('\n') {
        return Line::Send(line.to_owned());
    }
    let Some(rest) = line.strip_prefix('/') else { return Line::Send(line.to_owned()) };
    if rest.starts_with('/') {
        return Line::Send(rest.to_owned());
    }
    let (name, more) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let more = more.trim();
    let bare = |line: Line| {
        if more.is_empty() { line } else { Line::Wrong(format!("/{name} takes nothing")) }
    };
    match name {
        "ping" if more.len() > 125 => Line::Wrong("a ping carries 125 bytes at most".to_owned()),
        "ping" => Line::Ping(more.to_owned()),
        "close" => close(more),
        "binary" => match more.strip_prefix('@') {
            Some("") => Line::Wrong("/binary @FILE needs a file".to_owned()),
            Some(file) => Line::File(file.to_owned(), true),
            None => match unhex(more) {
                Some(bytes) => Line::Binary(bytes),
                None => {
                    Line::Wrong("/binary takes hexadecimal bytes (00 ff 10) or @FILE".to_owned())
                }
            },
        },
        "file" if more.is_empty() => Line::Wrong("/file needs a file".to_owned()),
        "file" => Line::File(more.to_owned(), false),
        "headers" => bare(Line::Headers),
        "stats" => bare(Line::Stats),
        "pretty" => bare(Line::Pretty),
        "reconnect" => bare(Line::Reconnect),
        "help" => bare(Line::Help),
        "quit" => bare(Line::Quit),
        _ => Line::Wrong(format!(
            "unknown command /{name} (/help lists them; //{name} sends /{name})"
        )),
    }
}

fn close(more: &str) -> Line {
    let (first, reason) = more.split_once(char::is_whitespace).unwrap_or((more, ""));
    let (code, reason) = match first.parse::<u16>() {
        _ if more.is_empty() => (1000, ""),
        Ok(code) => (code, reason.trim()),
        Err(_) if first.bytes().all(|b| b.is_ascii_digit()) => (0, ""),
        // A reason alone.
        Err(_) => (1000, more),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Line::Wrong(format!(
            "the close code {first} may not be sent (RFC 6455 section 7.4)"
        ));
    }
    if reason.len() > 123 {
        return Line::Wrong("a close reason is 123 bytes at most".to_owned());
    }
    Line::Close(code, reason.to_owned())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b':').collect();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| {
            let value = |digit: u8| char::from(digit).to_digit(16);
            u8::try_from(value(pair[0])? << 4 | value(pair[1])?).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines() {
        let send = |text: &str| Line::Send(text.to_owned());
        for (line, expected) in [
            ("hi", send("hi")),
            ("", send("")),
            (" /x", send(" /x")),
            ("//x", send("/x")),
            ("/quit\nnow", send("/quit\nnow")),
            ("//x\ny", send("//x\ny")),
            ("/ping", Line::Ping(String::new())),
            ("/ping a b", Line::Ping("a b".to_owned())),
            ("/close", Line::Close(1000, String::new())),
            ("/close 4001 see you", Line::Close(4001, "see you".to_owned())),
            ("/close bye now", Line::Close(1000, "bye now".to_owned())),
            ("/binary 00 FF:10", Line::Binary(vec![0, 255, 16])),
            ("/binary @a b", Line::File("a b".to_owned(), true)),
            ("/file x", Line::File("x".to_owned(), false)),
            ("/quit", Line::Quit),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
        for wrong in [
            "/",
            "/nope",
            "/close 1005",
            "/close 99999",
            "/binary",
            "/binary 0",
            "/binary xx",
            "/file",
            "/quit now",
        ] {
            assert!(matches!(parse(wrong), Line::Wrong(_)), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_line(line: String) {
            // Never a panic, and nothing that looks like a command is ever sent.
            if let Line::Send(text) = parse(&line) {
                prop_assert!(!line.starts_with('/') || line[1..] == text || line.contains('\n'));
            }
        }
    }
}
