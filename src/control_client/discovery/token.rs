//! `--token-file`: a token alone, or a control file whose token goes to its own URL.

use std::io;
use std::path::Path;

use crate::api::endpoint::Endpoint;
use crate::api::file::{ControlFile, MAX_FILE, is_token};
use crate::control_client::discovery::look::stale;
use crate::control_client::discovery::{NotFound, Target, parse};
use crate::error::Failure;
use crate::files;

/// What `--token-file` holds.
pub(super) enum GivenToken {
    /// The token alone.
    Bare(String),
    /// A `control-PORT.json`.
    File(ControlFile),
}

impl GivenToken {
    pub(super) fn read(path: &Path) -> Result<GivenToken, NotFound> {
        let text = files::read_text(path, MAX_FILE).map_err(|e| NotFound {
            failure: Failure::usage(format!("--token-file {}: {e}", path.display())),
            may_come: e.kind() == io::ErrorKind::NotFound,
        })?;
        let wrong = |why: &str| {
            let text = format!("--token-file {}: {why}", path.display());
            NotFound::for_good(Failure::usage(text))
        };
        if text.trim_start().starts_with('{') {
            let file = ControlFile::parse(text.as_bytes()).map_err(|why| wrong(&why))?;
            return Ok(GivenToken::File(file));
        }
        let token = text.trim();
        if !is_token(token) {
            return Err(wrong("it must hold the token alone, one word of printable ASCII"));
        }
        Ok(GivenToken::Bare(token.to_owned()))
    }

    pub(super) fn for_endpoint(self, path: &Path, endpoint: Endpoint) -> Result<Target, NotFound> {
        let token_from = path.display().to_string();
        let mut note = None;
        let token = match self {
            GivenToken::Bare(token) => Some(token),
            GivenToken::File(file) => {
                if parse(&file.url).ok().as_ref() != Some(&endpoint) {
                    return Err(NotFound::for_good(Failure::usage(format!(
                        "--token-file {token_from} is for {}, not for {endpoint}: its token is \
                         shown to nobody else",
                        file.url
                    ))));
                }
                note = (!file.is_live()).then(|| stale(path, &file));
                file.token
            }
        };
        Ok(Target { endpoint, token, token_from, certificate: None, note })
    }
}
