use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::config::*;

fn serve(args: &[&str]) -> ServeArgs {
    let all = ["wsgw", "serve"].iter().chain(args);
    match Cli::try_parse_from(all).unwrap().command {
        Command::Serve(args) => *args,
        _ => unreachable!(),
    }
}

fn load_text(toml: &str, more: &[&str]) -> Result<ServeSettings, Failure> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wsgw.toml");
    std::fs::write(&path, toml).unwrap();
    let mut args = vec!["--config", path.to_str().unwrap()];
    args.extend_from_slice(more);
    load(&serve(&args))
}

/// A value for each key: as a flag, and in the file.
const VALUES: [(&str, &str, &str); 31] = [
    ("host", "0.0.0.0", "\"0.0.0.0\""),
    ("port", "7", "7"),
    ("startup", "manual", "\"manual\""),
    ("listener", "cat -u", "\"cat -u\""),
    ("hooks", "onMessage,onHandshake", "[\"onMessage\", \"onHandshake\"]"),
    ("route", "others", "\"others\""),
    ("headers", "x-*,Cookie", "[\"x-*\", \"Cookie\"]"),
    ("protocols", "json,xml", "[\"json\", \"xml\"]"),
    ("path", "/a,/b/*", "[\"/a\", \"/b/*\"]"),
    ("window", "7", "7"),
    ("listener-timeout", "250ms", "0.25"),
    ("on-timeout", "close", "\"close\""),
    ("hang-timeout", "1m", "60"),
    ("restart-delay-max", "5s", "\"5s\""),
    ("drain", "0", "0"),
    ("close-spread", "30s", "30"),
    ("producer-wait", "1m", "60"),
    ("max-connections", "10", "10"),
    ("max-connections-per-ip", "3", "3"),
    ("handshake-timeout", "2s", "2"),
    ("max-message", "64KiB", "65536"),
    ("max-queue", "1MiB", "\"1MiB\""),
    ("ping-interval", "0", "0"),
    ("pong-timeout", "1s", "1"),
    ("idle-timeout", "5m", "300"),
    ("allow-origin", "https://*.example.com,null", "[\"https://*.example.com\", \"null\"]"),
    ("trusted-proxies", "10.0.0.0/8,::1", "[\"10.0.0.0/8\", \"::1\"]"),
    ("max-rate", "5", "5"),
    ("max-line", "32MiB", "33554432"),
    ("tls-cert", "/c.pem", "\"/c.pem\""),
    ("tls-key", "/k.pem", "\"/k.pem\""),
];

#[test]
fn every_key_means_the_same_as_a_flag_and_in_the_file() {
    let named: Vec<&str> = VALUES.iter().map(|(key, ..)| *key).collect();
    assert_eq!(named, keys::names().collect::<Vec<_>>(), "a key without a test");
    for (key, flag, file) in VALUES {
        // TLS goes in pairs.
        let other = match key {
            "tls-cert" => ("--tls-key", "tls-key = \"/k.pem\"\n"),
            "tls-key" => ("--tls-cert", "tls-cert = \"/k.pem\"\n"),
            _ => ("", ""),
        };
        let name = flag_of(key);
        let mut args = vec![name.as_str(), flag, "--id", "g"];
        if !other.0.is_empty() {
            args.extend([other.0, "/k.pem"]);
        }
        let mut by_flag = load(&serve(&args)).unwrap().gateways;
        let toml = format!("[gateways.g]\n{key} = {file}\n{}", other.1);
        let mut by_file = load_text(&toml, &[]).unwrap().gateways;
        for gateway in by_flag.iter_mut().chain(&mut by_file) {
            if let Some(listener) = &mut gateway.listener {
                listener.directory = PathBuf::new();
            }
        }
        assert_eq!(by_flag, by_file, "{key}");
        assert_ne!(by_flag[0], keys::defaults("g"), "{key} changes nothing");
    }
}

#[test]
fn errors_name_the_line_and_the_key() {
    for (toml, expected) in [
        (
            "[gateways.chat]\nprot = 1\n",
            ":2: gateways.chat: unknown key \"prot\" (did you mean \"port\"?)",
        ),
        (
            "\n[gateways.chat]\nport = 99999\n",
            ":3: gateways.chat.port: \"99999\" is no whole number",
        ),
        ("port = 1\n", ":1: unknown key \"port\""),
        ("[gateways.chat]\nport = \n", ":2: "),
        ("[gateways.\"a b\"]\n", ":1: [gateways]: \"a b\" is no gateway id"),
        ("[gateways.a]\n[gateways.A]\n", ":2: [gateways]: \"a\" is there twice"),
        ("[gateways.a]\nroute = \"al\"\n", ":2: gateways.a.route: \"al\" is none of all, others"),
        (
            "[gateways.a]\nmax-message = \"16MiB\"\n",
            ":1: gateways.a: max-line (16777216 bytes) is too small",
        ),
        ("[gateways.a]\nhost = true\n", ":2: gateways.a.host: a boolean does not fit here"),
        ("[gateways.a]\nlistener = []\n", ":2: gateways.a.listener: is empty"),
        ("[gateways.a]\nhooks = [\"onmessage\"]\n", ":2: gateways.a.hooks: "),
        ("[control]\nlisten = \"x\"\n", ":2: control.listen: "),
        ("[control]\nmode = \"9\"\n", ":2: control.mode: "),
        ("[log]\nlevle = \"info\"\n", ":2: log: unknown key \"levle\" (did you mean \"level\"?)"),
        ("gateways = 1\n", ":1: \"gateways\" has to be a table"),
    ] {
        let failure = load_text(toml, &[]).unwrap_err();
        assert!(failure.message.contains(expected), "{toml:?}: {}", failure.message);
        assert_eq!(failure.exit, 1);
    }
}

#[test]
fn flags_need_to_know_their_gateway() {
    let two = "[gateways.a]\nport = 1\n[gateways.b]\nport = 2\n";
    let failure = load_text(two, &["--port", "9"]).unwrap_err();
    assert!(failure.message.contains("--id"), "{}", failure.message);
    assert_eq!(failure.exit, 2);
    let settings = load_text(two, &["--port", "9", "--id", "b"]).unwrap();
    let ports: Vec<u16> = settings.gateways.iter().map(|g| g.port).collect();
    assert_eq!(ports, [1, 9]);
    assert_eq!(load_text(two, &["--id", "c"]).unwrap_err().exit, 2);
    let one = load_text("[gateways.a]\nport = 1\n", &["--", "cat"]).unwrap();
    assert_eq!(one.gateways[0].listener.as_ref().unwrap().argv, ["cat"]);
    let twice = load(&serve(&["--listener", "cat", "--", "cat"])).unwrap_err();
    assert_eq!(twice.exit, 2);
}

#[test]
fn defaults_hold_for_all_and_the_order_is_the_files() {
    let toml =
        "[defaults]\nroute = \"others\"\n[gateways.z]\nport = 1\n[gateways.a]\nroute = \"none\"\n";
    let gateways = load_text(toml, &[]).unwrap().gateways;
    assert_eq!(gateways[0].id, "z");
    assert_eq!(gateways[0].route, crate::config::settings::Route::Others);
    assert_eq!(gateways[1].route, crate::config::settings::Route::None);
}

#[test]
fn paths_in_the_file_count_from_the_file() {
    let toml = "[log]\ndirectory = \"logs\"\n[control]\nlisten = \"unix:c.sock\"\n[gateways.a]\nlistener = [\"./x\"]\n";
    let settings = load_text(toml, &[]).unwrap();
    let base = settings.directory.clone();
    assert!(base.is_absolute());
    assert_eq!(settings.log.directory, Some(base.join("logs")));
    assert_eq!(settings.control.listen, ControlListen::Unix(base.join("c.sock")));
    assert_eq!(settings.gateways[0].listener.as_ref().unwrap().directory, base);
}

#[test]
fn control_addresses() {
    let base = Path::new("/");
    let parse = |text| control_listen(text, base);
    assert_eq!(parse("off"), Ok(ControlListen::Off));
    assert_eq!(parse("[::1]:5"), Ok(ControlListen::Tcp("::1".to_owned(), 5)));
    assert_eq!(parse("localhost:0"), Ok(ControlListen::Tcp("localhost".to_owned(), 0)));
    for bad in ["", "10124", ":10124", "host:", "host:99999", "unix:"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_file_that_names_no_gateway_leaves_the_name_to_a_flag() {
    let settings =
        load_text("[log]\nlevel = \"warn\"\n", &["--id", "chat", "--port", "7"]).unwrap();
    assert_eq!(settings.gateways.len(), 1);
    assert_eq!((settings.gateways[0].id.as_str(), settings.gateways[0].port), ("chat", 7));
    let named = load_text("[gateways.a]\n", &["--id", "chat"]).unwrap_err();
    assert_eq!(named.exit, 2);
}

#[test]
fn numbers_are_tomls() {
    let toml = "[gateways.a]\nport = 0x2710\nidle-timeout = 1_000\nmax-message = 65_536\n";
    let gateways = load_text(toml, &[]).unwrap().gateways;
    assert_eq!(gateways[0].port, 10_000);
    assert_eq!(gateways[0].idle_timeout.as_secs(), 1_000);
    assert_eq!(gateways[0].max_message, 65_536);
}

#[test]
fn a_wrong_level_names_its_line() {
    let failure = load_text("[log]\n\nlevel = \"loud\"\n", &[]).unwrap_err();
    assert!(failure.message.contains(":3: log.level: "), "{}", failure.message);
    assert_eq!(failure.exit, 1);
    assert_eq!(load(&serve(&["--log-level", "loud"])).unwrap_err().exit, 2);
}
