//! Which `serve` a client command talks to.
//!
//! The flags, then `WSGW_CONTROL` and `WSGW_TOKEN`, then the file of the default port, else the
//! only live one. A token from a file goes to the URL in that file and nowhere else.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cli::ControlArgs;
use crate::config::CONTROL_PORT;
use crate::error::{Failure, exit};
use crate::paths;

/// Where to send a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `http://ADDR:PORT` or `http+unix://PATH`.
    pub url: String,
    /// None where a unix socket's mode says who may.
    pub token: Option<String>,
}

/// A `control-*.json`.
#[derive(Debug, Clone, Deserialize)]
struct Found {
    url: String,
    token: String,
    pid: u32,
    #[serde(skip)]
    path: PathBuf,
}

impl Found {
    fn target(&self) -> Target {
        let token = Some(self.token.clone()).filter(|token| !token.is_empty());
        Target { url: self.url.clone(), token }
    }

    fn lives(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        // EPERM: it lives and belongs to somebody else.
        pid.is_some_and(|pid| {
            !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
        })
    }
}

/// What the environment says; apart, so that tests can say it.
#[derive(Debug, Default)]
pub struct Environment {
    /// `WSGW_CONTROL`.
    pub control: Option<String>,
    /// `WSGW_TOKEN`.
    pub token: Option<String>,
    /// Where the files are looked for.
    pub directories: Vec<PathBuf>,
}

impl Environment {
    /// The process's.
    pub fn of_process() -> Environment {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Environment {
            control: var("WSGW_CONTROL"),
            token: var("WSGW_TOKEN"),
            directories: paths::control_dirs(),
        }
    }
}

/// Finds the target.
///
/// # Errors
/// 3 where none is found (the places are listed), 2 where there are several (they are listed).
pub fn find(args: &ControlArgs, environment: &Environment) -> Result<Target, Failure> {
    let given = match &args.token_file {
        Some(path) => Some(read_token(path)?),
        None => environment.token.clone(),
    };
    let url = args.control.as_ref().or(environment.control.as_ref());
    if let Some(url) = url {
        let url = normal(url);
        // Without a token of our own, the file that names this very URL has one.
        let token = given.or_else(|| {
            let all = look(&environment.directories);
            all.into_iter().find(|f| f.url == url && f.lives()).and_then(|f| f.target().token)
        });
        return Ok(Target { url, token });
    }
    let all = look(&environment.directories);
    let (live, stale): (Vec<Found>, Vec<Found>) = all.into_iter().partition(Found::lives);
    let default_name = format!("control-{CONTROL_PORT}.json");
    let chosen = live.iter().find(|f| f.path.file_name().is_some_and(|n| *n == *default_name));
    let chosen = match (chosen, &live[..]) {
        (Some(found), _) | (None, [found]) => found,
        (None, []) => return Err(none_found(&stale, environment)),
        (None, several) => {
            let list: Vec<String> =
                several.iter().map(|f| format!("\n  --control {}", f.url)).collect();
            return Err(Failure::usage(format!(
                "several `wsgw serve` run; say which one:{}",
                list.concat()
            )));
        }
    };
    let mut target = chosen.target();
    if given.is_some() {
        target.token = given;
    }
    Ok(target)
}

fn none_found(stale: &[Found], environment: &Environment) -> Failure {
    let mut text = String::from("no running `wsgw serve` was found");
    for found in stale {
        text.push_str(&format!(
            "\n  {} is stale: its process {} is gone",
            found.path.display(),
            found.pid
        ));
    }
    text.push_str("\n  looked in:");
    for directory in &environment.directories {
        text.push_str(&format!("\n    {}", directory.display()));
    }
    text.push_str("\n  start one (`wsgw serve`), or name its control port: --control URL and --token-file FILE");
    Failure::new(exit::UNREACHABLE, text)
}

/// A URL in the words that `serve` uses for it.
fn normal(url: &str) -> String {
    let url = url.trim_end_matches('/');
    match url.strip_prefix("unix:") {
        Some(path) => format!("http+unix://{path}"),
        None if url.contains("://") => url.to_owned(),
        None => format!("http://{url}"),
    }
}

fn read_token(path: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(path).map_err(|e| {
        Failure::other(format!("the token file {} cannot be read: {e}", path.display()))
    })?;
    // A control-PORT.json is a token file too.
    let token = match serde_json::from_str::<Found>(&text) {
        Ok(found) => found.token,
        Err(_) => text.trim().to_owned(),
    };
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        let text = format!("the token file {} holds no token", path.display());
        return Err(Failure::other(text));
    }
    Ok(token)
}

fn look(directories: &[PathBuf]) -> Vec<Found> {
    let mut all = Vec::new();
    for directory in directories {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !name.starts_with("control-") || !name.ends_with(".json") {
                continue;
            }
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            if let Ok(mut found) = serde_json::from_str::<Found>(&text) {
                found.path = entry.path();
                all.push(found);
            }
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    struct State {
        directory: tempfile::TempDir,
    }

    impl State {
        fn new() -> State {
            State { directory: tempfile::tempdir().unwrap() }
        }

        fn put(&self, port: u16, pid: u32) -> &State {
            let text =
                format!(r#"{{"url":"http://127.0.0.1:{port}","token":"t{port}","pid":{pid}}}"#);
            fs::write(self.directory.path().join(format!("control-{port}.json")), text).unwrap();
            self
        }

        fn environment(&self) -> Environment {
            Environment {
                directories: vec![self.directory.path().to_path_buf()],
                ..Environment::default()
            }
        }

        fn find(&self) -> Result<Target, Failure> {
            find(&ControlArgs::default(), &self.environment())
        }
    }

    /// A process id that no process has.
    const GONE: u32 = i32::MAX as u32;

    #[test]
    fn the_default_port_wins_then_the_only_live_one() {
        let me = std::process::id();
        let state = State::new();
        state.put(5, me).put(6, GONE);
        assert_eq!(state.find().unwrap().token.as_deref(), Some("t5"));
        state.put(7, me);
        let several = state.find().unwrap_err();
        assert_eq!(several.exit, 2);
        assert!(several.message.contains("127.0.0.1:5") && several.message.contains("127.0.0.1:7"));
        state.put(CONTROL_PORT, me);
        assert_eq!(state.find().unwrap().url, format!("http://127.0.0.1:{CONTROL_PORT}"));
    }

    #[test]
    fn nothing_found_lists_the_places_and_what_is_stale() {
        let state = State::new();
        state.put(6, GONE);
        let failure = state.find().unwrap_err();
        assert_eq!(failure.exit, 3);
        assert!(failure.message.contains("control-6.json is stale"), "{}", failure.message);
        let place = state.directory.path().display().to_string();
        assert!(failure.message.contains(&place));
    }

    #[test]
    fn a_token_from_a_file_goes_to_that_files_url_alone() {
        let state = State::new();
        state.put(5, std::process::id());
        let token = |url: &str| {
            let args = ControlArgs { control: Some(url.to_owned()), ..ControlArgs::default() };
            find(&args, &state.environment()).unwrap().token
        };
        assert_eq!(token("http://127.0.0.1:5").as_deref(), Some("t5"));
        assert_eq!(token("127.0.0.1:5/").as_deref(), Some("t5"));
        assert_eq!(token("http://127.0.0.1:6"), None);
        assert_eq!(token("http://evil.example:5"), None);
    }
}
