//! What became of a push: the answer to one, and a line of `?results=each`.

use serde::{Deserialize, Serialize};

use crate::api::ApiError;

/// What became of a push or of a `send` command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushOutcome {
    /// `delivered` and `dropped` together.
    #[serde(default)]
    pub matched: u64,
    /// Connections to whose sockets or queues it was handed.
    pub delivered: u64,
    /// Connections whose full queue refused it.
    #[serde(default)]
    pub dropped: u64,
    /// Connections that were named and are closed or unknown.
    #[serde(default)]
    pub gone: Vec<String>,
    /// On a gateway with a cluster: the nodes that are known, this one and the silent ones among
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u64>,
    /// On a gateway with a cluster: the nodes that did not say in time what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<Vec<String>>,
}

/// Appends the result of the struct in line `line` of a stream, a line itself.
pub fn write_result(out: &mut Vec<u8>, line: u64, result: &Result<PushOutcome, ApiError>) {
    #[derive(Serialize)]
    struct Failed<'a> {
        error: &'a ApiError,
        line: u64,
    }
    // Writing to a Vec cannot fail, nor can serializing these.
    let _ = match result {
        Ok(outcome) => serde_json::to_writer(&mut *out, outcome),
        Err(error) => serde_json::to_writer(&mut *out, &Failed { error, line }),
    };
    out.push(b'\n');
}

/// Reads a result: of one push, or of a struct in a stream.
///
/// # Errors
/// It says neither what became of the push nor that it failed. That is not from a control port, and
/// must not pass for a success.
pub fn read_result(json: &[u8]) -> Result<Result<PushOutcome, ApiError>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        matched: u64,
        delivered: Option<u64>,
        #[serde(default)]
        dropped: u64,
        #[serde(default)]
        gone: Vec<String>,
        nodes: Option<u64>,
        silent: Option<Vec<String>>,
        error: Option<ApiError>,
    }
    let Line { matched, delivered, dropped, gone, nodes, silent, error } =
        serde_json::from_slice(json)?;
    match (error, delivered) {
        (Some(error), _) => Ok(Err(error)),
        (None, Some(delivered)) => {
            Ok(Ok(PushOutcome { matched, delivered, dropped, gone, nodes, silent }))
        }
        (None, None) => Err(serde::de::Error::missing_field("delivered")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorCode;

    #[test]
    fn a_result_comes_back_as_it_was_written() {
        let outcome = PushOutcome {
            matched: 3,
            delivered: 2,
            dropped: 1,
            gone: vec!["k9".to_owned()],
            nodes: None,
            silent: None,
        };
        let of_nodes = PushOutcome {
            nodes: Some(3),
            silent: Some(vec!["b7xq".to_owned()]),
            ..outcome.clone()
        };
        for result in [Ok(outcome), Ok(of_nodes), Err(ApiError::new(ErrorCode::Busy, "try again"))]
        {
            let mut line = Vec::new();
            write_result(&mut line, 7, &result);
            assert_eq!(line.pop(), Some(b'\n'));
            assert_eq!(read_result(&line).unwrap(), result);
        }
    }

    #[test]
    fn what_says_nothing_of_a_push_is_no_success() {
        for json in ["{}", "{\"matched\":1}", "[]", "<html>", ""] {
            assert!(read_result(json.as_bytes()).is_err(), "{json}");
        }
    }
}
