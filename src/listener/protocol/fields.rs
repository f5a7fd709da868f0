//! The values that answers, commands and pushes have in common. The errors say which key is wrong.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use crate::listener::protocol::channel::Channel;
use crate::listener::protocol::json;
use crate::text::excerpt::excerpt;
use crate::text::position::Since;

/// Bytes of a wrong value that an error shows.
const SHOWN: usize = 100;

/// A value that is null counts as absent.
pub(super) fn present(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|raw| raw.get() != "null")
}

/// The text of `message`: a string as it is, any other value as compact JSON.
pub(super) fn message_text(raw: &RawValue) -> Result<Cow<'_, str>, &'static str> {
    if raw.get().starts_with('"') {
        json::as_str(raw).ok_or("\"message\" holds a lone surrogate")
    } else {
        Ok(Cow::Owned(json::compact(raw.get())))
    }
}

/// The string of `base64` and the bytes that it stands for.
pub(super) fn base64_bytes(raw: &RawValue) -> Result<(Cow<'_, str>, Vec<u8>), String> {
    let text = json::as_str(raw).ok_or("\"base64\" is not a string")?;
    let bytes = STANDARD
        .decode(text.as_bytes())
        .map_err(|e| format!("\"base64\" cannot be decoded: {e}"))?;
    Ok((text, bytes))
}

/// The names in `connections` or `except`. Every value other than an array of strings is an error,
/// null too, because it shows a bug in the program that wrote it.
pub(super) fn names(raw: &RawValue, key: &str) -> Result<Vec<String>, String> {
    serde_json::from_str::<Vec<String>>(raw.get())
        .map_err(|_| format!("\"{key}\" is not an array of strings"))
}

/// The channels that `key` names: a string or an array of strings. They stay in their order.
pub(super) fn channels(raw: &RawValue, key: &str) -> Result<Vec<Channel>, String> {
    if raw.get().starts_with('"') {
        let name = json::as_str(raw).ok_or_else(|| format!("\"{key}\" holds a lone surrogate"))?;
        return Ok(vec![channel(&name, key)?]);
    }
    let names = serde_json::from_str::<Vec<Cow<'_, str>>>(raw.get())
        .map_err(|_| format!("\"{key}\" is neither a string nor an array of strings"))?;
    names.iter().map(|name| channel(name, key)).collect()
}

/// The name of a channel, the value of `key`.
pub(super) fn channel(name: &str, key: &str) -> Result<Channel, String> {
    Channel::parse(name).ok_or_else(|| {
        format!(
            "\"{key}\" holds {:?}, which cannot be the name of a channel: write 1 to 200 of the \
             characters A-Z a-z 0-9 . _ : / @ + -",
            excerpt(name, SHOWN)
        )
    })
}

/// The value of `since`: a string as in a URL, or the number of the newest messages.
pub(super) fn since(raw: &RawValue) -> Result<Since, String> {
    if let Some(newest) = whole_number(raw) {
        return Ok(Since::Newest(newest));
    }
    let text = json::as_str(raw).ok_or("\"since\" is neither a string nor a whole number")?;
    Since::parse(&excerpt(&text, SHOWN))
}

/// A whole number from 0 up to 2^64 - 1. Up to 2^53 it may have a fraction of zero (`3.0`), as some
/// JSON writers put it.
pub(super) fn whole_number(raw: &RawValue) -> Option<u64> {
    if let Ok(number) = raw.get().parse::<u64>() {
        return Some(number);
    }
    let float = serde_json::from_str::<f64>(raw.get()).ok()?;
    let whole = (0.0..9_007_199_254_740_992.0).contains(&float) && float.fract() == 0.0;
    // The line above has checked that the cast is exact.
    whole.then_some(float as u64)
}
