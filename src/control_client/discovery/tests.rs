//! Which control port is found, by which token, and what is said where none is.

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
    let link = place.0.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    let mut wanted = place.wanted();
    wanted.directories.push(link.clone());
    let message = wanted.find().unwrap_err().failure.message;
    assert!(message.contains(&link.display().to_string()), "{message}");
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
