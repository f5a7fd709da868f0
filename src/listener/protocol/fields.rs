//! The values that answers, commands and pushes have in common. The errors say which key is wrong.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use crate::listener::protocol::json;

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
