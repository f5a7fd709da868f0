//! What the program depends on is what `deny.toml` allows: licences, sources, no second version of
//! a crate. Needs no network and no tool but cargo.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::{Table, Value};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> Table {
    let path = root().join(path);
    let text = std::fs::read_to_string(&path).expect("a file of ours");
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|v| v.as_str().expect("text")).collect()
}

/// Name, version and source of every package of a lock file.
fn packages(lock: &Table) -> Vec<(&str, &str, Option<&str>)> {
    let all = lock["package"].as_array().expect("packages").iter();
    all.map(|package| {
        let text = |key| package.get(key).and_then(Value::as_str);
        (text("name").unwrap_or_default(), text("version").unwrap_or_default(), text("source"))
    })
    .collect()
}

#[test]
fn everything_comes_from_cargos_own_registry() {
    for lock in ["Cargo.lock", "fuzz/Cargo.lock"] {
        for (name, _, source) in packages(&read(lock)) {
            let ours = source.is_none() && name.starts_with("wsgw");
            let registry = source.is_some_and(|s| s.starts_with("registry+"));
            assert!(ours || registry, "{name}: {source:?}");
        }
    }
}

#[test]
fn no_crate_is_there_twice_without_a_reason() {
    let policy = read("deny.toml");
    let skips: Vec<(String, String)> = policy["bans"]["skip"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|skip| {
            assert!(skip["reason"].as_str().is_some_and(|r| !r.is_empty()));
            let spec = skip["crate"].as_str().expect("a crate");
            let (name, version) = spec.split_once('@').expect("name@version");
            (name.to_owned(), format!("{version}."))
        })
        .collect();
    let lock = read("Cargo.lock");
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut used = vec![false; skips.len()];
    for (name, version, _) in packages(&lock) {
        let skip = skips.iter().position(|(n, v)| n == name && version.starts_with(v.as_str()));
        match skip {
            Some(skip) => used[skip] = true,
            None => versions.entry(name).or_default().push(version),
        }
    }
    versions.retain(|_, all| all.len() > 1);
    assert!(versions.is_empty(), "twice: {versions:?}");
    assert!(!used.contains(&false), "deny.toml skips what is not there: {skips:?} {used:?}");
}

#[test]
fn our_own_requirements_have_versions() {
    let manifest = read("Cargo.toml");
    for key in ["dependencies", "dev-dependencies"] {
        for (name, value) in manifest[key].as_table().expect("a table") {
            let version = value.as_str().or(value.get("version").and_then(Value::as_str));
            assert!(version.is_some_and(|v| !v.contains('*')), "{name}");
        }
    }
}

#[test]
fn every_licence_is_an_allowed_one() {
    let policy = read("deny.toml");
    let allowed = strings(&policy["licenses"]["allow"]);
    let host = output(Command::new("rustc").arg("-vV"));
    let host = host.lines().find_map(|l| l.strip_prefix("host: ")).expect("a host");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--offline", "--format-version", "1"]);
    cargo.args(["--filter-platform", host]).current_dir(root());
    let metadata: serde_json::Value = serde_json::from_str(&output(&mut cargo)).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "all of them: {}", packages.len());
    for package in packages {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(allows(licence, &allowed), "{} has the licence {licence:?}", package["name"]);
    }
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Whether an SPDX expression can be met with these; an exception only adds to what is allowed.
fn allows(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any(&mut words, allowed);
    met && words.next().is_none()
}

type Words<I> = std::iter::Peekable<I>;

fn any<'a, I: Iterator<Item = &'a str>>(words: &mut Words<I>, allowed: &[&str]) -> bool {
    let mut met = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed);
    }
    met
}

fn all<'a, I: Iterator<Item = &'a str>>(words: &mut Words<I>, allowed: &[&str]) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one<'a, I: Iterator<Item = &'a str>>(words: &mut Words<I>, allowed: &[&str]) -> bool {
    let met = match words.next() {
        Some("(") => any(words, allowed) && words.next() == Some(")"),
        Some(licence) => allowed.contains(&licence),
        None => false,
    };
    if words.next_if_eq(&"WITH").is_some() {
        return words.next().is_some() && met;
    }
    met
}

#[test]
fn expressions_are_read_as_spdx_has_them() {
    let allowed = ["MIT", "ISC"];
    for yes in ["MIT", "MIT/Apache-2.0", "(GPL-3.0 OR ISC) AND MIT", "MIT WITH x OR GPL-3.0"] {
        assert!(allows(yes, &allowed), "{yes}");
    }
    for no in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "MIT ISC", "(MIT"] {
        assert!(!allows(no, &allowed), "{no}");
    }
}
