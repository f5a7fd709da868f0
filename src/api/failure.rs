//! From the API's errors to exit codes and to what a person reads: the one table.

use serde::Deserialize;

use crate::error::{Failure, exit};

/// An error as the control port sends it.
#[derive(Debug, Clone, Deserialize)]
pub struct RemoteError {
    /// `unknown_gateway` and so on.
    pub code: String,
    /// What a person reads.
    pub message: String,
    /// The gateways there are.
    pub known: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Envelope {
    error: RemoteError,
}

/// The exit code for an error of the API.
pub fn exit_code(code: &str) -> u8 {
    match code {
        "unknown_gateway" | "unknown_connection" | "not_running" | "stopping" => exit::NO_GATEWAY,
        "listener_fault" | "listener_down" | "listener_timeout" => exit::LISTENER,
        "unauthorized" | "forbidden" => exit::UNAUTHORIZED,
        _ => exit::FAILURE,
    }
}

impl RemoteError {
    /// Reads an error's body, or makes one up for what is not our API's.
    pub fn read(status: u16, body: &[u8]) -> RemoteError {
        if let Ok(Envelope { error }) = serde_json::from_slice(body) {
            return error;
        }
        let code = match status {
            401 => "unauthorized",
            403 => "forbidden",
            _ => "failed",
        };
        RemoteError {
            code: code.to_owned(),
            message: format!("HTTP status {status}, and no word of a wsgw control port"),
            known: None,
        }
    }

    /// The process's exit code.
    pub fn exit(&self) -> u8 {
        exit_code(&self.code)
    }

    /// What a person reads.
    pub fn text(&self) -> String {
        match &self.known {
            None => self.message.clone(),
            Some(known) if known.is_empty() => format!("{}; there is none", self.message),
            Some(known) => format!("{}; known: {}", self.message, known.join(", ")),
        }
    }
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Failure {
        Failure::new(error.exit(), error.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ErrorCode;

    #[test]
    fn every_code_has_its_exit() {
        for (code, want) in [
            (ErrorCode::BadRequest, 1),
            (ErrorCode::Unauthorized, 6),
            (ErrorCode::Forbidden, 6),
            (ErrorCode::NotFound, 1),
            (ErrorCode::UnknownGateway, 4),
            (ErrorCode::UnknownConnection, 4),
            (ErrorCode::MethodNotAllowed, 1),
            (ErrorCode::NotRunning, 4),
            (ErrorCode::TooLarge, 1),
            (ErrorCode::Busy, 1),
            (ErrorCode::Failed, 1),
            (ErrorCode::ListenerFault, 5),
            (ErrorCode::ListenerDown, 5),
            (ErrorCode::Stopping, 4),
            (ErrorCode::ListenerTimeout, 5),
        ] {
            assert_eq!(exit_code(code.name()), want, "{code:?}");
        }
    }

    #[test]
    fn what_is_not_ours_is_said_so() {
        let error = RemoteError::read(502, b"<html>");
        assert_eq!(error.exit(), 1);
        assert!(error.text().contains("502"));
        assert_eq!(RemoteError::read(403, b"").exit(), 6);
        let known = br#"{"error":{"code":"unknown_gateway","message":"no gateway \"x\"","known":["a","b"]}}"#;
        assert_eq!(RemoteError::read(404, known).text(), "no gateway \"x\"; known: a, b");
    }
}
