//! What the fuzz targets do with their bytes: each parser of outside input, and what has to hold of
//! what it makes, beyond that it does not panic.
//!
//! Plain functions, so that `tests/fuzz_targets.rs` of the main crate runs the seeds through them
//! with every other test, and `fuzz_targets/` runs them under libFuzzer.

mod channels;
mod client;
mod config;
mod control;
mod deflate;
mod exchange;
mod gateway;
mod protocol;
mod streams;

use std::path::Path;

use wsgw::config::settings::GatewaySettings;

/// What a target does with its bytes.
type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 25] = [
    ("listener_line", protocol::listener_line),
    ("lines", protocol::lines),
    ("push", protocol::push),
    ("frames", protocol::frames),
    ("compressed_frames", protocol::compressed_frames),
    ("inflate", deflate::inflate),
    ("offer", deflate::offer),
    ("escape", protocol::escape),
    ("handshake", gateway::handshake),
    ("post", gateway::post),
    ("origin", gateway::origin),
    ("proxy_header", gateway::proxy_header),
    ("exchange", exchange::exchange),
    ("config", config::config),
    ("units", config::units),
    ("guard", control::guard),
    ("request", control::request),
    ("wire", control::wire),
    ("command", client::command),
    ("url", client::url),
    ("frame", client::frame),
    ("bench_frames", client::bench_frames),
    ("since", channels::since),
    ("wishes", channels::wishes),
    ("stream", streams::stream),
];

/// Runs one target.
pub fn run(name: &str, data: &[u8]) {
    for (known, target) in TARGETS {
        if known == name {
            target(data);
        }
    }
}

/// A gateway with these keys of the config file; `None` where the file would be refused.
fn gateway_with(settings: &[(&str, &str)]) -> Option<GatewaySettings> {
    let mut text = "[gateways.fuzz]\n".to_owned();
    for (key, value) in settings {
        text.push_str(&format!("{key} = {value}\n"));
    }
    let read = wsgw::config::from_text(Path::new("/wsgw.toml"), &text).ok()?;
    read.gateways.into_iter().next()
}

/// A string of TOML, whatever is in it.
fn quoted(text: &str) -> String {
    let escaped: String = text.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect();
    format!("\"{escaped}\"")
}

/// Bytes as a source of choices; zero when they are used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Less than `n`, which is not zero.
    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The bytes in pieces whose lengths depend on them.
fn pieces(data: &[u8], salt: u8) -> Vec<&[u8]> {
    let (mut rest, mut out, mut seed) = (data, Vec::new(), usize::from(salt));
    while !rest.is_empty() {
        seed = seed.wrapping_mul(31).wrapping_add(usize::from(rest[0])) + 7;
        let (piece, more) = rest.split_at((1 + seed % 23).min(rest.len()));
        out.push(piece);
        rest = more;
    }
    out
}

/// The keys of an object that is one line, in order; the values of the first three.
fn members_of_line(line: &[u8]) -> Vec<(String, String)> {
    assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1, "one line");
    assert_eq!(line.last(), Some(&b'\n'));
    let text = std::str::from_utf8(line).expect("UTF-8");
    let members: wsgw::listener::protocol::json::Members<'_> =
        serde_json::from_str(text).expect("JSON");
    members.0.iter().map(|(key, value)| (key.to_string(), value.get().to_owned())).collect()
}
