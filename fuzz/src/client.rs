//! `wsgw connect`: what one types, where it connects, and the frames of a server.

use wsgw::bench::frames::Frames;
use wsgw::cli::ConnectArgs;
use wsgw::connect::command;
use wsgw::connect::command::Line;
use wsgw::connect::frame;
use wsgw::connect::frame::{Body, Frame};
use wsgw::connect::options::Options;

/// A typed line: no command is ever sent as a message, and none asks for what may not be sent.
pub fn command(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match command::parse(&text) {
        // A pasted block is a message, whatever it begins with.
        Line::Send(sent) if text.starts_with('/') && !text.contains('\n') => {
            assert!(text.starts_with("//") && sent == text[1..]);
        }
        Line::Send(sent) => assert_eq!(sent, text),
        Line::Close(code, reason) => {
            assert!(wsgw::ws::close::may_be_sent(code) && reason.len() <= 123);
        }
        Line::Ping(payload) => assert!(payload.len() <= 125),
        Line::Binary(bytes) => {
            assert!(!bytes.is_empty());
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(command::parse(&format!("/binary {hex}")), Line::Binary(bytes));
        }
        Line::File(name, _) => assert!(!name.is_empty()),
        _ => assert!(text.starts_with('/')),
    }
}

/// A URL and flags, a line each: a request that is one, or a usage error.
pub fn url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n').map(str::to_owned);
    let mut next = || lines.next().filter(|line| !line.is_empty());
    let args = ConnectArgs {
        url: next().unwrap_or_default(),
        timeout: next().unwrap_or_else(|| "10".to_owned()),
        wait: next(),
        ping: next(),
        origin: next(),
        user: next(),
        subprotocol: next().into_iter().collect(),
        header: next().into_iter().chain(["X-Secret: s".to_owned()]).collect(),
        proxy: next(),
        ..ConnectArgs::default()
    };
    let options = match Options::parse(&args) {
        Ok(options) => options,
        Err(failure) => return assert_eq!(failure.exit, 2, "{failure}"),
    };
    assert!(!options.timeout.is_zero() && options.ping.is_none_or(|ping| !ping.is_zero()));
    let target = options.target;
    assert!(!target.host.is_empty() && !target.host.contains(['[', ']', '@', '/']));
    let scheme = match (&target.socket, target.tls) {
        (Some(_), _) => "ws+unix://",
        (None, true) => "wss://",
        (None, false) => "ws://",
    };
    assert!(target.url.starts_with(scheme));
    assert!(!target.url.contains('#') && !target.url.contains(char::is_control));
    let authority = target.url.split('/').nth(2).unwrap_or_default();
    assert!(
        target.socket.is_some() || !authority.contains('@'),
        "no password in what is shown: {}",
        target.url
    );
    // Wherever it redirects to, that is a target as well, and TLS is not given up.
    if let Some(location) = next()
        && let Ok(to) = target.redirected(&location)
    {
        assert!(to.tls || !target.tls);
        assert!(to.host == target.host || !to.headers.contains_key("x-secret"));
    }
    for value in target.headers.values() {
        assert!(!value.as_bytes().contains(&b'\r') && !value.as_bytes().contains(&b'\n'));
    }
    // It means the same when it is given as it was understood.
    let again = ConnectArgs { url: target.url.clone(), ..args };
    let again = Options::parse(&again).expect("the same once more").target;
    assert_eq!(
        (again.url, again.host, again.port, again.tls, again.socket),
        (target.url, target.host, target.port, target.tls, target.socket)
    );
}

/// A frame of `wsgw.v1`: what it says is what a JSON parser finds in it.
pub fn frame(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let whole: Result<serde_json::Value, _> = serde_json::from_str(&text);
    let found = match frame::parse(&text) {
        Ok(found) => found,
        Err(why) => return assert!(!why.is_empty()),
    };
    let (Frame::Hello { at, .. } | Frame::Message { at, .. }) = &found else { return };
    if let Some(at) = at {
        assert!((1..=200).contains(&at.len()) && at.bytes().all(|b| b.is_ascii_graphic()));
    }
    // A frame may be nested more deeply than this parser goes.
    let Ok(whole) = whole else { return };
    assert!(whole.is_object());
    assert_eq!(whole["at"].as_str(), at.as_deref());
    match found {
        Frame::Hello { recovered, .. } => {
            assert!(whole["hello"].is_number());
            assert_eq!(whole["recovered"].as_bool(), recovered);
        }
        Frame::Message { body: Body::Text(text), .. } => {
            assert_eq!(whole["message"], text);
            // Any text survives the way into a frame and out of it.
            let again = serde_json::json!({ "message": text, "at": whole["at"] }).to_string();
            let at = at_of(&whole);
            assert_eq!(frame::parse(&again), Ok(Frame::Message { body: Body::Text(text), at }));
        }
        Frame::Message { body: Body::Binary(bytes), .. } => {
            let given = whole["base64"].as_str().unwrap_or_default();
            assert!(given.len().div_ceil(4) * 3 >= bytes.len() && given.len() % 4 == 0);
        }
        Frame::Other => {}
    }
}

fn at_of(whole: &serde_json::Value) -> Option<String> {
    whole["at"].as_str().map(str::to_owned)
}

/// What a load test reads of a server is the same, whatever pieces it comes in.
pub fn bench_frames(data: &[u8]) {
    let Some((step, bytes)) = data.split_first() else { return };
    let read = |step: usize| {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        let fed = bytes.chunks(step.max(1)).try_for_each(|piece| frames.feed(piece, &mut found));
        (found, fed)
    };
    assert_eq!(read(usize::from(*step)), read(bytes.len()));
}
