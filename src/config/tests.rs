use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::config::history::HistoryOptions;
use crate::config::options::{Flag, Key, Options, Unset};
use crate::config::settings::{ControlListen, ControlSettings, GatewaySettings, LogSettings};
use crate::config::tables::{ControlOptions, GatewayOptions, LogOptions};
use crate::config::*;

pub(super) fn serve(args: &[&str]) -> ServeArgs {
    let all = ["wsgw", "serve"].iter().chain(args);
    match Cli::try_parse_from(all).unwrap().command {
        Command::Serve(args) => args.serve,
        _ => unreachable!(),
    }
}

pub(super) fn load_text(toml: &str, more: &[&str]) -> Result<ServeSettings, Failure> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wsgw.toml");
    std::fs::write(&path, toml).unwrap();
    let mut args = vec!["--config", path.to_str().unwrap()];
    args.extend_from_slice(more);
    load(&serve(&args))
}

fn flag_of(key: &str) -> String {
    let key = GatewayOptions::KEYS.iter().find(|known| known.name == key).unwrap();
    let Flag::Named(flag, _) = key.flag else { panic!("{} has no flag", key.name) };
    format!("--{flag}")
}

/// A value for each key: as a flag, and in the file.
const VALUES: [(&str, &str, &str); 46] = [
    ("host", "0.0.0.0", "\"0.0.0.0\""),
    ("port", "7", "7"),
    ("startup", "manual", "\"manual\""),
    ("listener", "cat -u", "\"cat -u\""),
    ("hooks", "onMessage,onHandshake", "[\"onMessage\", \"onHandshake\"]"),
    ("route", "others", "\"others\""),
    ("headers", "x-*,Cookie", "[\"x-*\", \"Cookie\"]"),
    ("protocols", "json,xml", "[\"json\", \"xml\"]"),
    ("path", "/a,/b/*", "[\"/a\", \"/b/*\"]"),
    ("streams", "true", "true"),
    ("static", "/www", "\"/www\""),
    ("console", "false", "false"),
    ("format", "lines", "\"lines\""),
    ("compression", "shared", "\"shared\""),
    ("channels", "query", "\"query\""),
    ("allow-channels", "room.*,lobby", "[\"room.*\", \"lobby\"]"),
    ("presence", "room.*,lobby", "[\"room.*\", \"lobby\"]"),
    ("history", "50", "{ channels = { \"*\" = 50 }, broadcast = 50 }"),
    ("cluster", "core", "\"core\""),
    ("on-engine-loss", "hold", "\"hold\""),
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
    ("max-channels", "5", "5"),
    ("handshake-timeout", "2s", "2"),
    ("max-message", "64KiB", "65536"),
    ("max-queue", "1MiB", "\"1MiB\""),
    ("ping-interval", "0", "0"),
    ("pong-timeout", "1s", "1"),
    ("idle-timeout", "5m", "300"),
    ("allow-origin", "https://*.example.com,null", "[\"https://*.example.com\", \"null\"]"),
    ("trusted-proxies", "10.0.0.0/8,::1", "[\"10.0.0.0/8\", \"::1\"]"),
    ("proxy-protocol", "true", "true"),
    ("mode", "0660", "\"0660\""),
    ("group", "root", "\"root\""),
    ("max-rate", "5", "5"),
    ("max-line", "32MiB", "33554432"),
    ("tls-cert", "/c.pem", "\"/c.pem\""),
    ("tls-key", "/k.pem", "\"/k.pem\""),
];

#[test]
fn every_key_means_the_same_as_a_flag_and_in_the_file() {
    let named: Vec<&str> = VALUES.iter().map(|(key, ..)| *key).collect();
    let known: Vec<&str> = GatewayOptions::KEYS.iter().map(|key| key.name).collect();
    assert_eq!(named, known, "a key without a test");
    for (key, flag, file) in VALUES {
        // Some go in pairs.
        let other = match key {
            "tls-cert" => ("--tls-key", "tls-key", "/b"),
            "tls-key" => ("--tls-cert", "tls-cert", "/b"),
            "channels" => ("--allow-channels", "allow-channels", "/b"),
            "proxy-protocol" => ("--trusted-proxies", "trusted-proxies", "::1"),
            _ => ("", "", ""),
        };
        let flag = format!("{}={flag}", flag_of(key));
        let mut args = vec![flag.as_str(), "--id", "g"];
        if !other.0.is_empty() {
            args.extend([other.0, other.2]);
        }
        let table = if key == "cluster" { "[cluster]\nurl = \"nats://x\"\n" } else { "" };
        let mut by_flag = match table {
            "" => load(&serve(&args)).unwrap().gateways,
            table => load_text(&format!("{table}[gateways.g]\n"), &args).unwrap().gateways,
        };
        let mut toml = format!("{table}[gateways.g]\n{key} = {file}\n");
        if !other.1.is_empty() {
            toml.push_str(&format!("{} = \"{}\"\n", other.1, other.2));
        }
        let mut by_file = load_text(&toml, &[]).unwrap().gateways;
        for gateway in by_flag.iter_mut().chain(&mut by_file) {
            if let Some(listener) = &mut gateway.listener {
                listener.directory = PathBuf::new();
            }
        }
        assert_eq!(by_flag, by_file, "{key}");
        assert_ne!(by_flag[0], GatewaySettings::new("g"), "{key} changes nothing");
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
            ":3: gateways.chat.port: \"99999\" is not a whole number",
        ),
        ("port = 1\n", ":1: unknown key \"port\""),
        ("[gateways.chat]\nport = \n", ":2: "),
        ("[gateways.\"a b\"]\n", ":1: [gateways]: \"a b\" is not a gateway id"),
        ("[gateways.a]\n[gateways.A]\n", ":2: [gateways]: \"a\" is there twice"),
        (
            "[gateways.a]\nroute = \"al\"\n",
            ":2: gateways.a.route: \"al\" is not one of all, others",
        ),
        (
            "[gateways.a]\nmax-message = \"16MiB\"\n",
            ":1: gateways.a: max-line (16777216 bytes) is too small",
        ),
        ("[gateways.a]\nhost = true\n", ":2: gateways.a.host: expected a string, found a boolean"),
        ("[gateways.a]\nlistener = []\n", ":2: gateways.a.listener: it is empty"),
        ("[gateways.a]\nhooks = [\"onmessage\"]\n", ":2: gateways.a.hooks: "),
        ("[control]\nlisten = \"x\"\n", ":2: control.listen: "),
        ("[control]\nmode = \"9\"\n", ":2: control.mode: "),
        ("[log]\nlevle = \"info\"\n", ":2: log: unknown key \"levle\" (did you mean \"level\"?)"),
        ("gateways = 1\n", ":1: \"gateways\" must be a table, not a whole number"),
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
    let flag = Cli::try_parse_from(["wsgw", "serve", "--log-level", "loud"]).unwrap_err();
    assert_eq!(flag.exit_code(), 2);
    assert!(flag.to_string().contains("--log-level <LEVEL>"), "{flag}");
}

#[test]
fn every_key_has_a_default_that_its_kind_accepts() {
    assert_eq!(GatewaySettings::default().port, 10_125);
    let control = ControlSettings::default();
    assert_eq!(control.listen, ControlListen::Tcp("127.0.0.1".to_owned(), 10_124));
    assert_eq!(control.mode, 0o600);
    assert_eq!(LogSettings::default().level, None);
}

#[test]
fn every_error_of_a_file_is_named_with_its_line() {
    let toml = "[control]\nmode = 432\n\n[gateways.a]\nport = \"x\"\nroute = 1\nprot = 1\n\
                [gateways.b]\nmax-message = \"16MiB\"\n[gateways.\"c d\"]\nhooks = [1]\n[lug]\n";
    let failure = load_text(toml, &[]).unwrap_err();
    let lines: Vec<&str> = failure.message.lines().collect();
    for (line, (at, part)) in lines.iter().zip([
        (2, "control.mode: expected a mode"),
        (5, "gateways.a.port: expected a whole number"),
        (6, "gateways.a.route: expected a string"),
        (7, "gateways.a: unknown key \"prot\" (did you mean \"port\"?)"),
        (8, "gateways.b: max-line"),
        (10, "[gateways]: \"c d\" is not a gateway id"),
        (11, "gateways.c d.hooks: expected a list of strings"),
        (12, "unknown key \"lug\" (did you mean \"log\"?)"),
    ]) {
        assert!(line.contains(&format!("wsgw.toml:{at}: ")) && line.contains(part), "{line}");
    }
    assert_eq!(lines.len(), 8, "{}", failure.message);
    assert_eq!(failure.exit, 1);
    let syntax = load_text("[gateways.a]\nport = \nhost = \n", &[]).unwrap_err().message;
    assert!(syntax.contains(":2: ") && syntax.contains(":3: "), "{syntax}");
}

#[test]
fn a_mode_is_octal_or_an_error() {
    let mode = |value: &str| {
        load_text(&format!("[control]\nmode = {value}\n"), &[]).map(|s| s.control.mode)
    };
    for (value, expected) in
        [("0o660", 0o660), ("\"0660\"", 0o660), ("\"660\"", 0o660), ("0o0", 0), ("0o7_77", 0o777)]
    {
        assert_eq!(mode(value).ok(), Some(expected), "{value}");
    }
    for value in [
        "660",
        "0x1b0",
        "0b110",
        "432",
        "0o1000",
        "\"0o660\"",
        "\"0888\"",
        "\"\"",
        "\"+60\"",
        "-0",
        "6.6",
        "true",
        "[\"0660\"]",
        "{}",
        "1979-05-27",
    ] {
        assert!(mode(value).is_err(), "{value}");
    }
}

/// Every key of a table.
pub(super) fn keys<O: Options>() -> impl Iterator<Item = &'static Key> {
    O::KEYS.iter()
}

/// For each key of a table, the TOML types that it takes are read, all others are errors.
#[test]
fn a_value_of_another_type_is_an_error_for_every_key() {
    let values = [
        ("boolean", "true"),
        ("float", "1.5"),
        ("negative float", "-1.5"),
        ("infinity", "inf"),
        ("no number", "nan"),
        ("date", "1979-05-27"),
        ("time", "07:32:00"),
        ("table", "{ a = 1 }"),
        ("numbers", "[1, 2]"),
        ("booleans", "[true]"),
        ("lists", "[[\"a\"]]"),
        ("empty entry", "[\"\"]"),
        ("empty string", "\"\""),
        ("negative", "-1"),
        ("huge", "99999999999999999999999999999999999999999999"),
        ("huge hexadecimal", "0xffffffffffffffffffffffffffffffffffffffffffff"),
    ];
    let tables = [
        ("gateways.a", keys::<GatewayOptions>().collect::<Vec<_>>()),
        ("defaults", keys::<GatewayOptions>().collect()),
        ("gateways.a.history", keys::<HistoryOptions>().collect()),
        ("defaults.history", keys::<HistoryOptions>().collect()),
        ("control", keys::<ControlOptions>().collect()),
        ("log", keys::<LogOptions>().collect()),
    ];
    for (table, keys) in tables {
        for key in keys {
            for (what, value) in values {
                let taken = match key.name {
                    "insecure" | "streams" | "console" | "proxy-protocol" => what == "boolean",
                    "channels" if table.ends_with("history") => what == "table",
                    "age" => what == "float",
                    // A path may be named so, and times may have fractions.
                    name if name.ends_with("-timeout") && name != "on-timeout" => what == "float",
                    "drain" | "close-spread" | "producer-wait" | "restart-delay-max"
                    | "ping-interval" => what == "float",
                    _ => false,
                };
                // What goes with it.
                let more = match key.name {
                    "proxy-protocol" => "trusted-proxies = \"::1\"\n",
                    _ => "",
                };
                let toml = format!("[{table}]\n{} = {value}\n{more}", key.name);
                let read = load_text(&toml, &[]);
                assert_eq!(read.is_ok(), taken, "{toml}: {read:?}");
                if let Err(failure) = read {
                    let place = format!(":2: {table}.{}: ", key.name);
                    assert!(failure.message.contains(&place), "{toml}: {failure}");
                }
            }
        }
    }
    assert!(load_text("[gateways.a]\nport = \"10125\"\n", &[]).is_err());
}

#[test]
fn a_tilde_is_the_home_directory_in_every_path() {
    let home = paths::expand_home(Path::new("~")).unwrap();
    let toml = "[control]\nlisten = \"unix:~/c.sock\"\ndirectory = \"~/c\"\ntoken-file = \"~/t\"\n\
                tls-cert = \"~/c.pem\"\ntls-key = \"~/k.pem\"\n[log]\ndirectory = \"~/l\"\n\
                [gateways.a]\nlistener = [\"~/x\", \"~\"]\ntls-cert = \"~/c.pem\"\ntls-key = \"~/k.pem\"\n";
    let file = load_text(toml, &[]).unwrap();
    let flags = load(&serve(&[
        "--control=unix:~/c.sock",
        "--control-token-file=~/t",
        "--log-dir=~/l",
        "--tls-cert=~/c.pem",
        "--tls-key=~/k.pem",
    ]))
    .unwrap();
    for settings in [&file, &flags] {
        assert_eq!(settings.control.listen, ControlListen::Unix(home.join("c.sock")));
        assert_eq!(settings.control.token_file, Some(home.join("t")));
        assert_eq!(settings.log.directory, Some(home.join("l")));
        assert_eq!(settings.gateways[0].tls_cert, Some(home.join("c.pem")));
        assert_eq!(settings.gateways[0].tls_key, Some(home.join("k.pem")));
    }
    assert_eq!(file.control.directory, Some(home.join("c")));
    assert_eq!(file.control.tls_cert, Some(home.join("c.pem")));
    assert_eq!(file.control.tls_key, Some(home.join("k.pem")));
    let argv = &file.gateways[0].listener.as_ref().unwrap().argv;
    assert_eq!(argv[..], [home.join("x").as_os_str(), "~".as_ref()]);
    assert!(load_text("[log]\ndirectory = \"~nobody/x\"\n", &[]).is_err());
    let given = load(&serve(&["--config=~/no/such/file.toml"])).unwrap_err();
    assert!(given.message.contains(home.join("no/such").to_str().unwrap()), "{given}");
}

#[test]
fn what_cannot_work_is_an_error() {
    for (setting, part) in [
        ("path = \"/chat?room=1\"", "can never match"),
        ("path = [\"/a\", \"/b#c\"]", "can never match"),
        ("path = \"chat\"", "must begin with /"),
        ("headers = \"x y\"", "no request can have"),
        ("headers = \"x-*-y\"", "may only stand at its end"),
        ("protocols = \"a b\"", "no client can offer"),
        ("protocols = \"v1.*\"", "* stands alone"),
        ("allow-origin = \"https://a.example/\"", "no path"),
        ("allow-origin = \"wss://a.example\"", "https://"),
        ("trusted-proxies = \"10.0.0.0/40\"", "10.0.0.0/8"),
        ("tls-cert = \"c.pem\"", "tls-key is missing"),
        ("host = \"127.0.0.1:80\"", "the port is a setting of its own"),
        ("host = \"http://a\"", "neither a host name"),
        ("max-queue = 0", "at least 1 byte"),
    ] {
        let failure = load_text(&format!("[gateways.a]\n{setting}\n"), &[]).unwrap_err();
        assert!(failure.message.contains(part), "{setting}: {failure}");
    }
    for (setting, part) in [
        ("tls-key = \"k.pem\"", "control: tls-cert and tls-key"),
        ("hosts = [\"http://a\"]", "not a host name"),
        ("listen = \"a b:1\"", "not one of"),
    ] {
        let failure = load_text(&format!("[control]\n{setting}\n"), &[]).unwrap_err();
        assert!(failure.message.contains(part), "{setting}: {failure}");
    }
}

#[test]
fn what_has_no_effect_is_a_warning() {
    for (settings, part) in [
        (
            "hooks = [\"onHandshake\"]\nwindow = 2",
            "hooks, window have no effect without a listener",
        ),
        (
            "listener = \"cat\"\nhooks = \"none\"\non-timeout = \"close\"",
            "on-timeout has no effect",
        ),
        ("listener = \"cat\"\nlistener-timeout = 20\nhang-timeout = 30", "counts as 40s"),
        ("ping-interval = 0\npong-timeout = 5", "pong-timeout has no effect"),
        ("max-connections = 5\nmax-connections-per-ip = 6", "max-connections-per-ip has no effect"),
        ("allow-origin = [\"*\", \"https://a.example\"]", "admits everybody"),
        ("allow-origin = []", "no web page may connect"),
        ("trusted-proxies = \"10.0.0.1/8\"", "stands for all of 10.0.0.0/8; write 10.0.0.1/32"),
    ] {
        let read = load_text(&format!("[gateways.a]\n{settings}\n"), &[]).unwrap();
        assert!(read.notices.iter().any(|notice| notice.contains(part)), "{:?}", read.notices);
    }
    let two = "[gateways.a]\nport = 7\n[gateways.b]\nport = 7\n";
    assert!(load_text(two, &[]).unwrap().notices[0].contains("only one of them can start"));
    let control = "[control]\nmode = \"0660\"\n[gateways.a]\n";
    assert!(load_text(control, &[]).unwrap().notices[0].contains("[control] mode"));
    // What is the same for all is meant for those that can use it.
    let all = "[defaults]\nhooks = [\"onMessage\"]\n[gateways.a]\nlistener = \"cat\"\n[gateways.b]\nport = 1\n";
    assert_eq!(load_text(all, &[]).unwrap().notices, [""; 0]);
    assert_eq!(load_text("", &[]).unwrap().notices, [""; 0]);
}

#[test]
fn a_path_may_be_written_as_people_read_it() {
    let read = load_text("[gateways.a]\npath = [\"/bücher/*\", \"/a b\"]\n", &[]).unwrap();
    assert_eq!(read.gateways[0].path, ["/bücher/*", "/b%C3%BCcher/*", "/a b", "/a%20b"]);
}

#[test]
fn a_table_within_a_table_is_read_and_merged() {
    use crate::config::kinds::Whole;
    use crate::config::options::SubTable;
    use crate::config::options::options;
    options! {
        /// A table.
        pub struct InnerSettings from InnerOptions under None;
        /// A number
        #[key("number": Whole<u64, 0, 9> = Unset::Is("3"), Flag::None)]
        pub number: u64,
        /// Another
        #[key("other": Whole<u64, 0, 9> = Unset::Is("4"), Flag::None)]
        pub other: u64,
    }
    options! {
        /// A table around it.
        pub struct OuterSettings from OuterOptions under None;
        /// The table
        #[key("inner": SubTable<InnerOptions> = Unset::Nothing, Flag::None)]
        pub inner: Option<InnerSettings>,
    }
    let base = OuterOptions { inner: Some(InnerOptions { number: Some(1), other: Some(1) }) };
    let over = OuterOptions { inner: Some(InnerOptions { number: None, other: Some(2) }) };
    let merged = base.merge(over).settings();
    assert_eq!(merged.inner, Some(InnerSettings { number: 1, other: 2 }));
    assert_eq!(OuterSettings::default().inner, None);
    assert_eq!(InnerSettings::default(), InnerSettings { number: 3, other: 4 });
}

#[test]
fn a_file_of_errors_alone_is_told_in_a_hundred_lines() {
    let mut toml = "[log]\n".to_owned();
    for n in 0..100_000 {
        toml.push_str(&format!("k{n} = 1\n"));
    }
    let failure = load_text(&toml, &[]).unwrap_err();
    let lines: Vec<&str> = failure.message.lines().collect();
    assert_eq!(lines.len(), 101);
    assert!(lines[0].contains(":2: ") && lines[99].contains(":101: "), "{}", lines[99]);
    assert!(lines[100].contains("and 99900 more errors"), "{}", lines[100]);
}
