//! Lists of names and patterns: hooks, headers, subprotocols, paths, channels.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::config::hooks::Hooks;
use crate::config::kinds::Items;
use crate::config::values::HeaderRule;
use crate::text::channel;
use crate::ws::handshake::is_token;

/// The events that a listener is sent.
pub(crate) struct HookNames;

impl Items for HookNames {
    type Plain = Hooks;

    fn parse(entries: &[String]) -> Result<Hooks, String> {
        Hooks::parse(entries)
    }
}

/// Names of request headers: `name`, `prefix*`, or `*` for all.
pub(crate) struct Headers;

impl Items for Headers {
    type Plain = Vec<HeaderRule>;

    fn parse(entries: &[String]) -> Result<Vec<HeaderRule>, String> {
        entries.iter().map(|entry| header(entry)).collect()
    }
}

fn header(entry: &str) -> Result<HeaderRule, String> {
    let lower = entry.to_ascii_lowercase();
    let (name, is_prefix) = match lower.strip_suffix('*') {
        Some("") => return Ok(HeaderRule::All),
        Some(prefix) => (prefix, true),
        None => (lower.as_str(), false),
    };
    if name.contains('*') {
        return Err(format!("invalid header name {entry:?}: a * may only stand at its end"));
    }
    if !is_token(name) {
        return Err(format!("invalid header name {entry:?}: no request can have such a header"));
    }
    let name = name.to_owned();
    Ok(if is_prefix { HeaderRule::Prefix(name) } else { HeaderRule::Name(name) })
}

/// Subprotocols; `None` is `*`, the client's first offer.
pub(crate) struct Protocols;

impl Items for Protocols {
    type Plain = Option<Vec<String>>;

    fn parse(entries: &[String]) -> Result<Option<Vec<String>>, String> {
        if entries.iter().any(|entry| entry == "*") {
            return Ok(None);
        }
        for entry in entries {
            if !is_token(entry) {
                return Err(format!("invalid subprotocol name {entry:?}: no client can offer it"));
            }
            if entry.contains('*') {
                return Err(format!(
                    "invalid subprotocol name {entry:?}: * stands alone, for the client's first \
                     offer"
                ));
            }
        }
        Ok(Some(entries.to_vec()))
    }
}

/// Patterns of paths, as requests write them.
pub(crate) struct Paths;

/// What browsers write as `%XX` in a path.
const ENCODED_IN_PATHS: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}').add(b'^');

impl Items for Paths {
    type Plain = Vec<String>;

    fn parse(entries: &[String]) -> Result<Vec<String>, String> {
        let mut patterns = Vec::new();
        for entry in entries {
            if !entry.starts_with(['/', '*']) {
                return Err(format!("{entry:?} must begin with / (or with *)"));
            }
            if let Some(behind) = entry.chars().find(|c| matches!(c, '?' | '#')) {
                return Err(format!(
                    "{entry:?} can never match: a path ends before a {behind}, so leave out what \
                     follows it"
                ));
            }
            patterns.push(entry.clone());
            let encoded = utf8_percent_encode(entry, ENCODED_IN_PATHS).to_string();
            if encoded != *entry {
                patterns.push(encoded);
            }
        }
        Ok(patterns)
    }
}

/// Patterns of channels, in which `*` spans any characters.
pub(crate) struct Channels;

impl Items for Channels {
    type Plain = Vec<String>;

    fn parse(entries: &[String]) -> Result<Vec<String>, String> {
        entries.iter().try_for_each(|entry| channel::check_pattern(entry))?;
        Ok(entries.to_vec())
    }
}
