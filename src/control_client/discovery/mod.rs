//! Which `serve` a client command talks to, and with which token.
//!
//! The flags, then `WSGW_CONTROL` and `WSGW_TOKEN`, then the file of the default port, else the
//! only live one. A token from a file goes to exactly the URL in that file and nowhere else.

mod look;
mod token;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::api::DEFAULT_PORT;
use crate::api::endpoint::Endpoint;
use crate::api::file::{TOKEN_RULE, is_token};
use crate::control_client::discovery::look::{Found, Look};
use crate::control_client::discovery::token::GivenToken;
use crate::error::Failure;
use crate::paths;

/// What the flags and the environment say.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// `--control`.
    pub url: Option<String>,
    /// `--token-file`.
    pub token_file: Option<PathBuf>,
    /// `WSGW_CONTROL`.
    pub env_url: Option<String>,
    /// `WSGW_TOKEN`.
    pub env_token: Option<String>,
    /// Where to look for files.
    pub directories: Vec<PathBuf>,
}

/// A variable of the environment that is set and not empty.
///
/// # Errors
/// It is set to what is not UTF-8: that must not pass for absent.
pub fn env_text(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::usage(format!("the variable {name} is not UTF-8 text")))
        }
    }
}

/// The control port that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub endpoint: Endpoint,
    /// What to show it.
    pub token: Option<String>,
    /// Where the token is from, or why there is none; for a person who was refused.
    pub token_from: String,
    /// The certificate that its file names (DER); without one, what the system trusts counts.
    pub certificate: Option<Vec<u8>>,
    /// What else a person should know who does not reach it.
    pub note: Option<String>,
}

impl Target {
    /// Whether it wants a token and none was found.
    pub fn lacks_token(&self) -> bool {
        self.token.is_none() && matches!(self.endpoint, Endpoint::Tcp { .. })
    }
}

/// Why none was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFound {
    /// For the person.
    pub failure: Failure,
    /// Whether a `serve` that starts in the meantime would change it.
    pub may_come: bool,
}

impl NotFound {
    fn for_good(failure: Failure) -> NotFound {
        NotFound { failure, may_come: false }
    }
}

impl Wanted {
    /// With the environment's part and the usual directories filled in.
    ///
    /// # Errors
    /// A variable that is set and cannot be used.
    pub fn from_env(url: Option<String>, token_file: Option<PathBuf>) -> Result<Wanted, Failure> {
        let env_token = env_text("WSGW_TOKEN")?.map(|token| token.trim().to_owned());
        if env_token.as_deref().is_some_and(|token| !is_token(token)) {
            return Err(Failure::usage(format!("WSGW_TOKEN: the token {TOKEN_RULE}")));
        }
        Ok(Wanted {
            url,
            token_file,
            env_url: env_text("WSGW_CONTROL")?,
            env_token,
            directories: paths::control_dirs(),
        })
    }

    /// Looks for the control port, now.
    ///
    /// # Errors
    /// None, or several, or a flag that cannot be understood.
    pub fn find(&self) -> Result<Target, NotFound> {
        let mut target = self.find_target()?;
        if matches!(target.endpoint, Endpoint::Tcp { tls: true, .. }) {
            let is_its = |f: &&Found| f.is_for(&target.endpoint) && f.content.is_live();
            let look = Look::at(&self.directories);
            let file = look.found.iter().find(is_its);
            target.certificate =
                file.and_then(|f| STANDARD.decode(f.content.certificate.as_deref()?).ok());
        }
        Ok(target)
    }

    fn find_target(&self) -> Result<Target, NotFound> {
        let given = match &self.token_file {
            Some(path) => Some((path.as_path(), GivenToken::read(path)?)),
            None => None,
        };
        let named = match (&self.url, &given, &self.env_url) {
            (Some(url), _, _) => Some(("--control", url.as_str())),
            (None, Some((_, GivenToken::File(file))), _) => Some(("--token-file", &*file.url)),
            (None, _, Some(url)) => Some(("WSGW_CONTROL", url.as_str())),
            (None, _, None) => None,
        };
        let Some((name, url)) = named else { return self.find_by_files(given) };
        let endpoint =
            parse(url).map_err(|e| NotFound::for_good(Failure::usage(format!("{name}: {e}"))))?;
        if let Some((path, token)) = given {
            return token.for_endpoint(path, endpoint);
        }
        if let Some(token) = self.env_token_for(&endpoint) {
            return Ok(Target {
                endpoint,
                token: Some(token.to_owned()),
                token_from: "WSGW_TOKEN".to_owned(),
                certificate: None,
                note: None,
            });
        }
        Ok(self.with_token_of_files(endpoint))
    }

    /// `WSGW_TOKEN` belongs to `WSGW_CONTROL` where that is set: it is not shown to another.
    fn env_token_for(&self, endpoint: &Endpoint) -> Option<&str> {
        let token = self.env_token.as_deref()?;
        match &self.env_url {
            Some(url) if parse(url).ok().as_ref() != Some(endpoint) => None,
            _ => Some(token),
        }
    }

    fn with_token_of_files(&self, endpoint: Endpoint) -> Target {
        let mut note = None;
        let look = Look::at(&self.directories);
        for found in look.found {
            if !found.is_for(&endpoint) {
                continue;
            }
            if found.content.is_live() {
                let token_from = found.path.display().to_string();
                return Target {
                    endpoint,
                    token: found.content.token,
                    token_from,
                    certificate: None,
                    note: None,
                };
            }
            note.get_or_insert_with(|| found.stale());
        }
        let withheld = match (&self.env_token, &self.env_url) {
            (Some(_), Some(url)) => format!("WSGW_TOKEN is for WSGW_CONTROL ({url}) alone"),
            _ => "neither --token-file nor WSGW_TOKEN gives one".to_owned(),
        };
        let mut token_from =
            format!("no token: {withheld}, and no control-*.json is for {endpoint}");
        for unread in look.denied.iter().chain(&look.unusable) {
            token_from.push_str(&format!("; not read: {unread}"));
        }
        Target { endpoint, token: None, token_from, certificate: None, note }
    }

    fn find_by_files(&self, given: Option<(&Path, GivenToken)>) -> Result<Target, NotFound> {
        let look = Look::at(&self.directories);
        let live: Vec<&Found> = look.found.iter().filter(|f| f.content.is_live()).collect();
        let default = format!("control-{DEFAULT_PORT}.json");
        let is_default =
            |f: &&Found| f.path.file_name().is_some_and(|name| name == default.as_str());
        let chosen = match (live.iter().copied().find(is_default), live.as_slice()) {
            (Some(default), _) => default,
            (None, []) => return Err(look.nothing()),
            // What cannot be read may be another one.
            (None, [only]) if look.unusable.is_empty() => *only,
            (None, several) => return Err(look.several(several)),
        };
        let endpoint = parse(&chosen.content.url).map_err(|e| {
            NotFound::for_good(Failure::other(format!("{}: {e}", chosen.path.display())))
        })?;
        if let Some((path, token)) = given {
            return token.for_endpoint(path, endpoint);
        }
        let (token, token_from) = match &self.env_token {
            Some(token) => (Some(token.clone()), "WSGW_TOKEN".to_owned()),
            None => (chosen.content.token.clone(), chosen.path.display().to_string()),
        };
        Ok(Target { endpoint, token, token_from, certificate: None, note: None })
    }
}

fn parse(url: &str) -> Result<Endpoint, String> {
    Endpoint::parse(url)
}

#[cfg(test)]
mod tests;
