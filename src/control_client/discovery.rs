//! Which `serve` a client command talks to, and with which token.
//!
//! The flags, then `WSGW_CONTROL` and `WSGW_TOKEN`, then the file of the default port, else the
//! only live one. A token from a file goes to exactly the URL in that file and nowhere else.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::api::DEFAULT_PORT;
use crate::api::endpoint::Endpoint;
use crate::api::file::{ControlFile, MAX_FILE, TOKEN_RULE, control_files, is_token};
use crate::error::{Failure, exit};
use crate::{files, paths};

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
            let look = self.look();
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
        let look = self.look();
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
        let look = self.look();
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

    fn look(&self) -> Look {
        let mut look = Look::default();
        for directory in &self.directories {
            let before = look.places.len();
            match control_files(directory) {
                Ok(files) => files.into_iter().for_each(|path| look.read(path)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    look.places.push(format!("{}: no such directory", directory.display()));
                }
                Err(e) => look.unread(directory, &e),
            }
            if look.places.len() == before {
                look.places.push(format!("{}: no control-*.json", directory.display()));
            }
        }
        look
    }
}

/// What `--token-file` holds.
enum GivenToken {
    /// The token alone.
    Bare(String),
    /// A `control-PORT.json`.
    File(ControlFile),
}

impl GivenToken {
    fn read(path: &Path) -> Result<GivenToken, NotFound> {
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

    fn for_endpoint(self, path: &Path, endpoint: Endpoint) -> Result<Target, NotFound> {
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

/// A file that could be read.
struct Found {
    path: PathBuf,
    content: ControlFile,
}

impl Found {
    fn is_for(&self, endpoint: &Endpoint) -> bool {
        parse(&self.content.url).ok().as_ref() == Some(endpoint)
    }

    fn stale(&self) -> String {
        stale(&self.path, &self.content)
    }
}

fn stale(path: &Path, content: &ControlFile) -> String {
    format!("{} is stale: process {} is gone", path.display(), content.pid)
}

/// What a look at all the places found.
#[derive(Default)]
struct Look {
    found: Vec<Found>,
    /// What a person is told of where nothing was found.
    places: Vec<String>,
    /// Files and directories that are there and that this user may not read: another user's.
    denied: Vec<String>,
    /// Those that are there and cannot be used for another reason. Each may be a `serve`'s.
    unusable: Vec<String>,
}

impl Look {
    fn read(&mut self, path: PathBuf) {
        match ControlFile::read(&path) {
            Ok(content) => {
                let found = Found { path, content };
                if !found.content.is_live() {
                    self.places.push(found.stale());
                }
                self.found.push(found);
            }
            // Its `serve` ended just now.
            Err(e) if e.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {}
            Err(e) => self.unread(&path, &e),
        }
    }

    fn unread(&mut self, path: &Path, error: &io::Error) {
        let place = format!("{}: {error}", path.display());
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => &mut self.denied,
            _ => &mut self.unusable,
        };
        kind.push(place.clone());
        self.places.push(place);
    }

    fn nothing(&self) -> NotFound {
        let mut message = "no running `wsgw serve` was found; looked at:".to_owned();
        for place in &self.places {
            message.push_str("\n  ");
            message.push_str(place);
        }
        message.push_str("\nstart one, or name one with --control URL");
        NotFound { failure: Failure::new(exit::UNREACHABLE, message), may_come: true }
    }

    fn several(&self, live: &[&Found]) -> NotFound {
        let mut message = match live {
            [_] => "which `wsgw serve` is meant is not clear; choose one with --control URL:",
            _ => "several `wsgw serve` run; choose one with --control URL:",
        }
        .to_owned();
        for found in live {
            message.push_str(&format!(
                "\n  {}  (process {}, {})",
                found.content.url,
                found.content.pid,
                found.path.display()
            ));
        }
        for unread in &self.unusable {
            message.push_str(&format!("\n  cannot be read: {unread}"));
        }
        NotFound::for_good(Failure::usage(message))
    }
}

fn parse(url: &str) -> Result<Endpoint, String> {
    Endpoint::parse(url)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const LIVE: u32 = 1;

    fn dead() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Place {
            Place(tempfile::tempdir().unwrap())
        }

        fn put(&self, name: &str, url: &str, token: &str, pid: u32) -> PathBuf {
            let path = self.0.path().join(name);
            let json = serde_json::json!({"url": url, "token": token, "pid": pid});
            fs::write(&path, json.to_string()).unwrap();
            path
        }

        fn wanted(&self) -> Wanted {
            Wanted { directories: vec![self.0.path().to_owned()], ..Wanted::default() }
        }
    }

    fn url_and_token(target: Target) -> (String, Option<String>) {
        (target.endpoint.to_string(), target.token)
    }

    #[test]
    fn the_default_port_first_else_the_only_live_one() {
        let place = Place::new();
        place.put("control-7.json", "http://127.0.0.1:7", "seven", LIVE);
        let got = place.wanted().find().unwrap();
        assert_eq!(url_and_token(got), ("http://127.0.0.1:7".into(), Some("seven".into())));

        place.put("control-8.json", "http://127.0.0.1:8", "eight", LIVE);
        let several = place.wanted().find().unwrap_err();
        assert_eq!((several.failure.exit, several.may_come), (2, false));
        assert!(several.failure.message.contains("http://127.0.0.1:7"));
        assert!(several.failure.message.contains("http://127.0.0.1:8"));

        place.put("control-10124.json", "http://127.0.0.1:10124", "def", LIVE);
        let got = place.wanted().find().unwrap();
        assert_eq!(url_and_token(got), ("http://127.0.0.1:10124".into(), Some("def".into())));

        place.put("control-10124.json", "http://127.0.0.1:10124", "def", dead());
        place.put("control-8.json", "http://127.0.0.1:8", "eight", dead());
        let got = place.wanted().find().unwrap();
        assert_eq!(url_and_token(got).0, "http://127.0.0.1:7", "a stale default is none");
    }

    #[test]
    fn nothing_lists_the_places_and_what_is_stale() {
        let place = Place::new();
        let pid = dead();
        let stale = place.put("control-10124.json", "http://127.0.0.1:10124", "t", pid);
        fs::write(place.0.path().join("control-9.json"), "{").unwrap();
        let mut wanted = place.wanted();
        wanted.directories.push("/nonexistent/wsgw".into());
        let error = wanted.find().unwrap_err();
        assert_eq!((error.failure.exit, error.may_come), (3, true));
        let text = error.failure.message;
        assert!(text.contains(&format!("{} is stale: process {pid} is gone", stale.display())));
        assert!(text.contains("control-9.json") && text.contains("/nonexistent/wsgw"));
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_absent() {
        let place = Place::new();
        place.put("control-7.json", "http://127.0.0.1:7", "seven", LIVE);
        let broken = place.0.path().join("control-8.json");
        fs::write(&broken, "{").unwrap();
        let error = place.wanted().find().unwrap_err();
        assert_eq!((error.failure.exit, error.may_come), (2, false));
        assert!(error.failure.message.contains(&broken.display().to_string()));
        assert!(error.failure.message.contains("http://127.0.0.1:7"));
        let mut wanted = place.wanted();
        wanted.url = Some("http://127.0.0.1:8".into());
        let target = wanted.find().unwrap();
        assert!(target.token_from.contains("control-8.json"), "{}", target.token_from);

        place.put("control-10124.json", "http://127.0.0.1:10124", "def", LIVE);
        assert!(place.wanted().find().is_ok(), "the default port's goes first");
    }

    #[test]
    fn a_directory_or_a_loop_in_place_of_a_file_is_named() {
        let place = Place::new();
        place.put("control-7.json", "http://127.0.0.1:7", "seven", LIVE);
        let odd = place.0.path().join("control-8.json");
        fs::create_dir(&odd).unwrap();
        let named = |why: &str| {
            let message = place.wanted().find().unwrap_err().failure.message;
            assert!(message.contains("control-8.json") && message.contains(why), "{message}");
        };
        named("a directory");
        fs::remove_dir(&odd).unwrap();
        std::os::unix::fs::symlink(&odd, &odd).unwrap();
        named("control-8.json");
        fs::remove_file(&odd).unwrap();
        std::os::unix::fs::symlink("nowhere", &odd).unwrap();
        named("No such file");
        fs::remove_file(&odd).unwrap();
        assert!(place.wanted().find().is_ok());
        let mut wanted = place.wanted();
        wanted.directories.push(place.0.path().join("control-7.json"));
        assert!(wanted.find().unwrap_err().failure.message.contains("Not a directory"));
    }

    #[test]
    fn a_files_token_goes_to_its_url_alone() {
        let place = Place::new();
        let file = place.put("control-7.json", "http://127.0.0.1:7", "seven", LIVE);
        let mut wanted = place.wanted();
        wanted.url = Some("http://127.0.0.1:7/".into());
        assert_eq!(wanted.find().unwrap().token.as_deref(), Some("seven"));
        for other in ["http://localhost:7", "http://127.0.0.1:8", "https://127.0.0.1:7"] {
            wanted.url = Some(other.into());
            assert_eq!(wanted.find().unwrap().token, None, "{other}");
            wanted.token_file = Some(file.clone());
            assert_eq!(wanted.find().unwrap_err().failure.exit, 2, "{other}");
            wanted.token_file = None;
        }
        wanted.url = None;
        wanted.env_url = Some("http://127.0.0.1:8".into());
        assert_eq!(wanted.find().unwrap().token, None);
        place.put("control-7.json", "http://127.0.0.1:7", "seven", dead());
        wanted.env_url = Some("http://127.0.0.1:7".into());
        let got = wanted.find().unwrap();
        assert!(got.token.is_none() && got.note.unwrap().contains("stale"));
    }

    #[test]
    fn flags_before_the_environment() {
        let place = Place::new();
        place.put("control-10124.json", "http://127.0.0.1:10124", "file", LIVE);
        let bare = place.0.path().join("token");
        fs::write(&bare, "given\n").unwrap();
        let mut wanted = place.wanted();
        wanted.env_url = Some("http://127.0.0.1:8".into());
        wanted.env_token = Some("env".into());
        assert_eq!(
            url_and_token(wanted.find().unwrap()),
            ("http://127.0.0.1:8".into(), Some("env".into()))
        );
        wanted.url = Some("http://127.0.0.1:9".into());
        assert_eq!(
            url_and_token(wanted.find().unwrap()),
            ("http://127.0.0.1:9".into(), None),
            "the environment's token is for the environment's URL"
        );
        wanted.token_file = Some(bare);
        assert_eq!(
            url_and_token(wanted.find().unwrap()),
            ("http://127.0.0.1:9".into(), Some("given".into()))
        );
        wanted.url = None;
        assert_eq!(wanted.find().unwrap().endpoint.to_string(), "http://127.0.0.1:8");
        wanted.env_url = None;
        assert_eq!(wanted.find().unwrap().endpoint.to_string(), "http://127.0.0.1:10124");
    }

    #[test]
    fn what_cannot_be_understood_is_a_usage_error() {
        let mut wanted = Place::new().wanted();
        wanted.url = Some("ftp://x".into());
        assert_eq!(wanted.find().unwrap_err().failure.exit, 2);
        wanted.url = None;
        wanted.token_file = Some("/nonexistent".into());
        assert_eq!(wanted.find().unwrap_err().failure.exit, 2);
    }
}
