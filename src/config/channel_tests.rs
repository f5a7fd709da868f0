//! The settings of channels, presence and history.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::hooks::{Hook, Hooks};
use crate::config::load;
use crate::config::settings::{ChannelSource, GatewaySettings, HistorySettings, Route};
use crate::config::tests::{load_text, serve};
use crate::text::position::Since;

/// The only gateway of a file.
fn gateway(toml: &str, flags: &[&str]) -> GatewaySettings {
    load_text(toml, flags).unwrap_or_else(|e| panic!("{e}\n{toml}")).gateways.remove(0)
}

fn history(keys: &str) -> HistorySettings {
    gateway(&format!("[gateways.a.history]\n{keys}\n"), &[]).history.unwrap()
}

/// What is wrong with a file.
fn wrong(toml: &str) -> String {
    load_text(toml, &[]).map(|read| panic!("{toml}: {read:?}")).unwrap_err().message
}

fn limits(pairs: &[(&str, usize)]) -> Vec<(String, usize)> {
    pairs.iter().map(|(pattern, limit)| ((*pattern).to_owned(), *limit)).collect()
}

#[test]
fn without_the_table_there_is_no_history_and_no_channel() {
    let plain = gateway("[gateways.a]\n", &[]);
    assert_eq!(plain.channels, ChannelSource::Off);
    assert_eq!((plain.allow_channels, plain.presence), (None, Vec::new()));
    assert_eq!((plain.max_channels, plain.history), (64, None));
    for hook in [Hook::OnJoin, Hook::OnLeave] {
        assert!(!plain.hooks.has(hook) && plain.hooks.has(Hook::OnMessage));
    }
}

#[test]
fn every_key_of_the_history_is_read() {
    let text = "channels = { \"room.*\" = 100, load = 1 }\nbroadcast = 7\nage = \"5m\"\nbytes = \"1MiB\"\n\
                since = \"last\"\nfile = \"h.db\"";
    let read = load_text(&format!("[gateways.a.history]\n{text}\n"), &[]).unwrap();
    let expected = HistorySettings {
        channels: limits(&[("room.*", 100), ("load", 1)]),
        broadcast: 7,
        age: Duration::from_secs(300),
        bytes: 1 << 20,
        since: Some(Since::Newest(1)),
        file: Some(read.directory.join("h.db")),
    };
    assert_eq!(read.gateways[0].history.as_ref(), Some(&expected));
    let defaults = HistorySettings {
        channels: Vec::new(),
        broadcast: 0,
        age: Duration::ZERO,
        bytes: 64 << 20,
        since: None,
        file: None,
    };
    assert_eq!(history(""), defaults);
    assert_eq!(HistorySettings::default(), defaults);
}

#[test]
fn patterns_of_the_history_stay_in_the_order_of_the_file() {
    let expected = limits(&[("z*", 1), ("*z", 2), ("b", 3), ("a", 0), ("m*", 5)]);
    let inline = "channels = { \"z*\" = 1, \"*z\" = 2, b = 3, a = 0, \"m*\" = 5 }";
    assert_eq!(history(inline).channels, expected);
    let table = "[gateways.a.history.channels]\n\"z*\" = 1\n\"*z\" = 2\nb = 3\na = 0\n\"m*\" = 5\n";
    assert_eq!(gateway(table, &[]).history.unwrap().channels, expected);
    let dotted = "[gateways.a]\nhistory.channels.\"z*\" = 1\nhistory.channels.\"*z\" = 2\n\
                  history.channels.b = 3\nhistory.channels.a = 0\nhistory.channels.\"m*\" = 5\n";
    assert_eq!(gateway(dotted, &[]).history.unwrap().channels, expected);
}

#[test]
fn the_flag_of_the_history_sets_its_limits_and_leaves_the_rest() {
    let of_flags = load(&serve(&["--history", "50"])).unwrap().gateways.remove(0);
    let expected = HistorySettings {
        channels: limits(&[("*", 50)]),
        broadcast: 50,
        ..HistorySettings::default()
    };
    assert_eq!(of_flags.history.as_ref(), Some(&expected));
    let file = "[gateways.a.history]\nchannels = { \"b*\" = 3 }\nage = 60\n";
    let both = gateway(file, &["--history", "50"]);
    let age = Duration::from_secs(60);
    assert_eq!(both.history, Some(HistorySettings { age, ..expected }));
    for value in ["-1", "x", "", "1000001", "{}"] {
        let flag = format!("--history={value}");
        let all = ["wsgw", "serve", flag.as_str()];
        let error = <crate::cli::Cli as clap::Parser>::try_parse_from(all).unwrap_err();
        assert!(error.to_string().contains("--history <N>"), "{error}");
    }
}

#[test]
fn a_gateways_history_goes_over_that_of_the_defaults_key_by_key() {
    let toml = "[defaults.history]\nchannels = { \"x*\" = 1 }\nbroadcast = 2\nage = 3\n\
                [gateways.a.history]\nchannels = { y = 4 }\n[gateways.b]\nport = 1\n";
    let read = load_text(toml, &[]).unwrap();
    let defaults = HistorySettings {
        channels: limits(&[("x*", 1)]),
        broadcast: 2,
        age: Duration::from_secs(3),
        ..HistorySettings::default()
    };
    assert_eq!(read.gateways[1].history.as_ref(), Some(&defaults));
    let own = HistorySettings { channels: limits(&[("y", 4)]), ..defaults };
    assert_eq!(read.gateways[0].history, Some(own));
}

#[test]
fn since_is_what_clients_may_write_but_a_position() {
    for (value, since) in [
        ("\"last\"", Since::Newest(1)),
        ("25", Since::Newest(25)),
        ("\"25\"", Since::Newest(25)),
        ("0", Since::Newest(0)),
        ("\"5m\"", Since::Span(Duration::from_secs(300))),
    ] {
        assert_eq!(history(&format!("since = {value}")).since, Some(since), "{value}");
    }
    for (value, why) in [
        ("\"q7Zk2pYa-1040\"", "is a position"),
        ("\"soon\"", "write \"last\""),
        ("1000001", "from 0 to 1000000"),
        ("-1", "write \"last\""),
    ] {
        let error = wrong(&format!("[gateways.a.history]\nsince = {value}\n"));
        let place = ":2: gateways.a.history.since: ";
        assert!(error.contains(place) && error.contains(why), "{value}: {error}");
    }
}

#[test]
fn limits_of_the_history_are_numbers_within_bounds() {
    let line = |limits: &str| wrong(&format!("[gateways.a.history]\nchannels = {limits}\n"));
    for (limits, why) in [
        ("{ \"a b\" = 1 }", "channels.\"a b\": invalid pattern of channels \"a b\": ' ' cannot"),
        ("{ \"b\u{fc}cher\" = 1 }", "'\u{fc}' cannot"),
        ("{ \"\" = 1 }", "it is empty"),
        ("{ a = -1 }", "channels.\"a\": \"-1\" is not a whole number from 0 to 1000000"),
        ("{ a = 1000001 }", "from 0 to 1000000"),
        ("{ a = \"1\" }", "expected a whole number, without quotes, found a string"),
        ("{ a = 1.5 }", "expected a whole number"),
        (
            "{ room.a = 1 }",
            "channels.\"room\": expected a whole number, found a table; a name with",
        ),
        ("[\"a\"]", "expected a table of patterns and numbers"),
        ("100", "expected a table of patterns and numbers"),
    ] {
        let error = line(limits);
        assert!(error.contains(":2: gateways.a.history.channels"), "{limits}: {error}");
        assert!(error.contains(why), "{limits}: {error}");
    }
    let two = wrong("[gateways.a.history.channels]\n\"a b\" = 1\nc = true\n");
    assert!(two.contains(":2: ") && two.contains(":3: "), "each has its line: {two}");
    assert_eq!(
        history("channels = { \"*\" = 1_000_000 }\nbroadcast = 1_000_000").broadcast,
        1_000_000
    );
    for keys in ["broadcast = 1000001", "bytes = 0", "bytes = \"x\"", "age = -1", "fil = \"x\""] {
        let error = wrong(&format!("[gateways.a.history]\n{keys}\n"));
        assert!(error.contains(":2: gateways.a.history"), "{keys}: {error}");
    }
    let number = wrong("[gateways.a]\nhistory = 100\n");
    assert!(number.contains("gateways.a.history: expected a table (history = {"), "{number}");
}

#[test]
fn patterns_of_channels_hold_what_names_hold() {
    for key in ["allow-channels", "presence"] {
        for (value, part) in [("a b", "' '"), ("room?", "'?'"), ("b\u{fc}cher", "'\u{fc}'")] {
            let error = wrong(&format!("[gateways.a]\n{key} = [\"ok.*\", {value:?}]\n"));
            let place =
                format!(":2: gateways.a.{key}: invalid pattern of channels {value:?}: {part}");
            assert!(error.contains(&place), "{error}");
        }
        let read = gateway(&format!("[gateways.a]\n{key} = [\"A-Z.a_z:0/9@+-*\"]\n"), &[]);
        let patterns = read.allow_channels.unwrap_or(read.presence);
        assert_eq!(patterns, ["A-Z.a_z:0/9@+-*"]);
    }
    for (value, fits) in [("0", false), ("1", true), ("65536", true), ("65537", false)] {
        let read = load_text(&format!("[gateways.a]\nmax-channels = {value}\n"), &[]);
        assert_eq!(read.is_ok(), fits, "{value}");
    }
}

#[test]
fn channels_of_urls_need_somebody_to_admit_them() {
    for source in ["path", "query"] {
        for more in [
            "",
            "listener = \"cat\"",
            "listener = \"cat\"\nhooks = [\"onJoin\", \"onMessage\"]",
            "hooks = [\"onHandshake\"]",
        ] {
            let error = wrong(&format!("[gateways.a]\nchannels = \"{source}\"\n{more}\n"));
            assert!(error.contains(":1: gateways.a: channels lets a URL ask"), "{error}");
            assert!(error.contains("allow-channels") && error.contains("onHandshake"), "{error}");
        }
        for more in ["allow-channels = \"*\"", "listener = \"cat\"\nhooks = [\"onHandshake\"]"] {
            let read = gateway(&format!("[gateways.a]\nchannels = \"{source}\"\n{more}\n"), &[]);
            assert_ne!(read.channels, ChannelSource::Off);
        }
    }
    let flags = load(&serve(&["--channels", "path"])).unwrap_err();
    assert_eq!(flags.exit, 2);
    assert!(flags.message.contains("gateway default: channels lets"), "{flags}");
}

#[test]
fn two_gateways_with_one_history_file_are_an_error() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("d")).unwrap();
    std::os::unix::fs::symlink("d", directory.path().join("link")).unwrap();
    let both = |one: &str, other: &str| {
        let path = |file: &str| directory.path().join(file);
        let toml = format!(
            "[gateways.a.history]\nfile = {:?}\n[gateways.b.history]\nfile = {:?}\n",
            path(one),
            path(other)
        );
        load_text(&toml, &[])
    };
    assert!(both("x.db", "y.db").is_ok() && both("x.db", "d/x.db").is_ok());
    for (one, other) in [("x.db", "x.db"), ("x.db", "d/../x.db"), ("d/x.db", "link/x.db")] {
        let error = both(one, other).unwrap_err().message;
        assert!(error.contains(":3: gateways.b: history.file is "), "{error}");
        assert!(error.contains("as that of gateway a"), "{error}");
    }
    let defaults = "[defaults.history]\nfile = \"x.db\"\nbroadcast = 1\n[gateways.a]\n";
    let file = gateway(defaults, &[]).history.unwrap().file;
    assert_eq!(file.and_then(|file| Some(PathBuf::from(file.file_name()?))), Some("x.db".into()));
    assert!(wrong(&format!("{defaults}[gateways.b]\n")).contains("gateways.b: history.file"));
}

#[test]
fn a_change_of_channels_or_history_needs_no_restart() {
    let old = gateway("[gateways.a]\nlistener = \"cat\"\n", &[]);
    let new = gateway(
        "[gateways.a]\nlistener = \"cat\"\nchannels = \"path\"\nallow-channels = \"*\"\n\
         presence = \"*\"\nmax-channels = 2\nroute = \"channels\"\n\
         history = { broadcast = 5, file = \"x.db\" }\n",
        &[],
    );
    assert_eq!(new.route, Route::Channels);
    let here = new.listener.clone();
    let old = GatewaySettings { listener: here, ..old };
    assert!(!old.needs_restart(&new) && !old.needs_new_listener(&new));
}

#[test]
fn settings_of_channels_without_effect_are_warnings() {
    let notices = |keys: &str| load_text(&format!("[gateways.a]\n{keys}\n"), &[]).unwrap().notices;
    for (keys, part) in [
        ("allow-channels = \"*\"", "allow-channels has no effect, for channels is off"),
        ("channels = \"path\"\nallow-channels = []", "no URL may ask for a channel"),
        ("route = \"channels\"", "route \"channels\" sends every message to nobody"),
        ("presence = \"*\"", "presence has no effect, for no client can join"),
        ("max-channels = 5", "max-channels has no effect, for no client can join"),
        (
            "presence = \"*\"\nlistener = \"cat\"\nprotocols = \"json\"",
            "presence has no effect, for protocols does not admit wsgw.v1",
        ),
        ("history = { age = 60 }", "history keeps no message"),
        ("hooks = [\"onJoin\"]", "hooks has no effect without a listener"),
    ] {
        let found = notices(keys);
        assert!(found.len() == 1 && found[0].contains(part), "{keys}: {found:?}");
    }
    for keys in [
        "channels = \"path\"\nallow-channels = \"*\"\npresence = \"*\"\nroute = \"channels\"\nmax-channels = 5",
        "listener = \"cat\"\nroute = \"channels\"\npresence = \"*\"\nprotocols = [\"json\", \"wsgw.v1\"]",
        "listener = \"cat\"\nhooks = \"onHandshake\"\npresence = \"*\"\nprotocols = \"json\"",
        "history = { channels = {}, broadcast = 0 }",
        "history = { broadcast = 1 }",
    ] {
        assert_eq!(notices(keys), [""; 0], "{keys}");
    }
}

#[test]
fn an_unknown_hook_is_told_which_there_are() {
    let error = Hooks::parse(&["onjoin"]).unwrap_err();
    assert_eq!(
        error,
        "unknown hook \"onjoin\"; the hooks are onHandshake, onClientOpen, onJoin, onMessage, onLeave, \
         onClientClose, or none"
    );
    let both = Hooks::parse(&["onJoin", " onLeave"]).unwrap();
    assert!(both.has(Hook::OnJoin) && both.has(Hook::OnLeave) && !both.has(Hook::OnMessage));
    assert_eq!(format!("{both:?}"), "[\"onJoin\", \"onLeave\"]");
}
