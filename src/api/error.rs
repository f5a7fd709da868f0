//! Errors of the API, and the one table from their codes to HTTP statuses and exit codes.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Failure, exit};

macro_rules! error_codes {
    ($($(#[$doc:meta])* $code:ident, $name:literal, $status:literal, $exit:ident;)*) => {
        /// What kind of error it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ErrorCode {
            $($(#[$doc])* $code,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$code,)*];

            /// The name on the wire, the HTTP status, and the exit code of the command.
            const fn row(self) -> (&'static str, u16, u8) {
                match self {
                    $(ErrorCode::$code => ($name, $status, exit::$exit),)*
                }
            }
        }
    };
}

error_codes! {
    /// The request cannot be understood, or asks for what is not allowed.
    BadRequest, "bad_request", 400, FAILURE;
    /// There is no token, or a wrong one.
    Unauthorized, "unauthorized", 401, UNAUTHORIZED;
    /// It may have come from a web page.
    Forbidden, "forbidden", 403, UNAUTHORIZED;
    /// The API has no such path.
    NotFound, "not_found", 404, FAILURE;
    /// There is no such gateway.
    UnknownGateway, "unknown_gateway", 404, NO_GATEWAY;
    /// There is no such connection, or it is closed.
    UnknownConnection, "unknown_connection", 404, NO_GATEWAY;
    /// The channel has neither members nor history.
    UnknownChannel, "unknown_channel", 404, NO_GATEWAY;
    /// The gateway keeps no history.
    NoHistory, "no_history", 404, FAILURE;
    /// The path does not take this method.
    MethodNotAllowed, "method_not_allowed", 405, FAILURE;
    /// The gateway does not run.
    NotRunning, "not_running", 409, NO_GATEWAY;
    /// What came since a position is not all in the history any more.
    Gone, "gone", 410, FAILURE;
    /// A struct, or its event's line, is over a limit.
    TooLarge, "too_large", 413, FAILURE;
    /// Too many requests or bytes wait.
    Busy, "busy", 429, FAILURE;
    /// A verb failed; the message has the reason. Also what a client takes an unknown code for.
    Failed, "failed", 500, FAILURE;
    /// The listener's answer cannot be used.
    ListenerFault, "listener_fault", 502, LISTENER;
    /// The NATS servers cannot be reached, and messages wait for them; or a node does not answer.
    EngineLost, "engine_lost", 503, LISTENER;
    /// The listener does not run.
    ListenerDown, "listener_down", 503, LISTENER;
    /// The gateway, or all of `serve`, is stopping.
    Stopping, "stopping", 503, NO_GATEWAY;
    /// The listener did not answer in time.
    ListenerTimeout, "listener_timeout", 504, LISTENER;
}

impl ErrorCode {
    /// The name in `{"error":{"code":…}}`.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        self.row().1
    }

    /// The exit code of a command that gets this error.
    pub fn exit(self) -> u8 {
        self.row().2
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ErrorCode, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = ErrorCode::ALL.iter().find(|code| code.name() == name);
        // A later version may have more of them: a failure all the same.
        Ok(known.copied().unwrap_or(ErrorCode::Failed))
    }
}

/// An error of the control port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What kind of error it is.
    pub code: ErrorCode,
    /// What a person reads.
    pub message: String,
    /// With [`ErrorCode::UnknownGateway`]: the ids of the gateways that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Vec<String>>,
}

/// The body of a response that is an error: `{"error":{…}}`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorBody<E = ApiError> {
    /// The error.
    pub error: E,
}

impl ApiError {
    /// An error without a list of known ids.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into(), known: None }
    }

    /// The error in a response's body. Where the body is not of this API (a proxy's page), one that
    /// says so, of the kind that the status suggests.
    pub fn from_response(status: u16, body: &[u8]) -> ApiError {
        if let Ok(ErrorBody { error }) = serde_json::from_slice(body) {
            return error;
        }
        let code = match status {
            401 => ErrorCode::Unauthorized,
            403 => ErrorCode::Forbidden,
            _ => ErrorCode::Failed,
        };
        let message = format!(
            "the answer has HTTP status {status} and does not come from a wsgw control port"
        );
        ApiError::new(code, message)
    }

    /// What a person reads, with the known ids.
    pub fn text(&self) -> String {
        match &self.known {
            None => self.message.clone(),
            Some(known) if known.is_empty() => format!("{}; there is none", self.message),
            Some(known) => format!("{}; known: {}", self.message, known.join(", ")),
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        Failure::new(error.code.exit(), error.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_status_and_exit_and_comes_back_by_its_name() {
        let want = [
            ("bad_request", 400, 1),
            ("unauthorized", 401, 6),
            ("forbidden", 403, 6),
            ("not_found", 404, 1),
            ("unknown_gateway", 404, 4),
            ("unknown_connection", 404, 4),
            ("unknown_channel", 404, 4),
            ("no_history", 404, 1),
            ("method_not_allowed", 405, 1),
            ("not_running", 409, 4),
            ("gone", 410, 1),
            ("too_large", 413, 1),
            ("busy", 429, 1),
            ("failed", 500, 1),
            ("listener_fault", 502, 5),
            ("engine_lost", 503, 5),
            ("listener_down", 503, 5),
            ("stopping", 503, 4),
            ("listener_timeout", 504, 5),
        ];
        let rows: Vec<_> = ErrorCode::ALL.iter().map(|code| code.row()).collect();
        assert_eq!(rows, want);
        for &code in ErrorCode::ALL {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(serde_json::from_str::<ErrorCode>(&json).unwrap(), code);
        }
        assert_eq!(serde_json::from_str::<ErrorCode>("\"new\"").unwrap(), ErrorCode::Failed);
    }

    #[test]
    fn what_is_not_ours_is_said_so() {
        let error = ApiError::from_response(502, b"<html>");
        assert_eq!(error.code.exit(), 1);
        assert!(error.text().contains("502"));
        assert_eq!(ApiError::from_response(403, b"").code.exit(), 6);
        let known = br#"{"error":{"code":"unknown_gateway","message":"no gateway \"x\"","known":["a","b"]}}"#;
        assert_eq!(ApiError::from_response(404, known).text(), "no gateway \"x\"; known: a, b");
    }

    #[test]
    fn an_error_comes_back_as_it_was_sent() {
        let mut error = ApiError::new(ErrorCode::UnknownGateway, "no gateway \"x\"");
        for known in [None, Some(vec!["a".to_owned()])] {
            error.known = known;
            let body = serde_json::to_vec(&ErrorBody { error: &error }).unwrap();
            assert_eq!(ApiError::from_response(404, &body), error);
        }
    }
}
