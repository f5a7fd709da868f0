//! Which lines the log holds: a level, or a filter as in `RUST_LOG`.

use tracing_subscriber::EnvFilter;

use crate::config::kinds::Scalar;

/// A level or a filter, kept as it is written.
pub(crate) struct Filter;

impl Scalar for Filter {
    type Plain = String;
    const EXPECTED: &'static str = "a string";

    fn parse(text: &str) -> Result<String, String> {
        log_filter(text).map(|_| text.to_owned())
    }
}

/// Reads a level, or a filter as in `RUST_LOG`.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub(crate) fn log_filter(text: &str) -> Result<EnvFilter, String> {
    let wrong = |why: &str| {
        format!(
            "invalid log level {text:?}: {why}; write error, warn, info, debug, trace, or a filter \
             like info,listener=warn"
        )
    };
    if text.trim().is_empty() {
        return Err(wrong("it is empty"));
    }
    // A single word that is not a level would be taken for the name of a target.
    let word = text.bytes().all(|b| b.is_ascii_alphanumeric());
    if word && text.parse::<tracing::level_filters::LevelFilter>().is_err() {
        return Err(wrong("no such level"));
    }
    // The library's parser panics at some of the others.
    if !text.is_ascii() {
        return Err(wrong("only ASCII characters are allowed"));
    }
    // A client that reports every attempt is silent, unless it is asked for: what matters is said by us.
    let text = match text.contains("async_nats") {
        true => text.to_owned(),
        false => format!("{text},async_nats=off"),
    };
    let text = text.as_str();
    // As a regular expression the value of a field could take minutes to be read.
    EnvFilter::builder().with_regex(false).parse(text).map_err(|e| wrong(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_the_library_would_panic_at_is_an_error() {
        assert!(log_filter(" [{a €€}").unwrap_err().contains("ASCII"));
        assert!(log_filter("info,listener=warn").is_ok());
    }

    #[test]
    fn a_filter_with_a_huge_expression_is_read_at_once() {
        // As an expression it takes minutes.
        assert!(log_filter(&format!("info,[{{conn={}}}]=trace", ".".repeat(1000))).is_ok());
    }
}
