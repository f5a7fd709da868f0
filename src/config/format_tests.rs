//! The settings of listeners that read and write plain lines.

use crate::config::hooks::Hook;
use crate::config::settings::{Format, GatewaySettings};
use crate::config::tests::load_text;

/// A gateway with a listener of plain lines and these keys.
fn lines(keys: &str) -> Result<(GatewaySettings, Vec<String>), String> {
    let toml = format!("[gateways.a]\nlistener = \"cat\"\nformat = \"lines\"\n{keys}\n");
    let read = load_text(&toml, &[]).map_err(|error| error.message)?;
    Ok((read.gateways[0].clone(), read.notices))
}

#[test]
fn lines_have_no_events() {
    let (settings, notices) = lines("").unwrap();
    assert_eq!((settings.format, notices), (Format::Lines, vec![]));
    assert!(!settings.asks(Hook::OnMessage) && !settings.tells());
    assert!(settings.hands_over_messages() && settings.feeds_listener() && settings.is_producer());
    let (settings, notices) = lines("hooks = \"none\"\nroute = \"none\"").unwrap();
    assert!(!settings.hands_over_messages() && !settings.feeds_listener());
    assert_eq!(notices, [""; 0]);
    let json = GatewaySettings { format: Format::Json, ..settings.clone() };
    assert!(json.needs_new_listener(&settings) && !json.needs_restart(&settings));
}

#[test]
fn what_lines_cannot_do_is_an_error() {
    for route in ["others", "sender", "channels"] {
        let error = lines(&format!("route = \"{route}\"")).unwrap_err();
        assert!(error.contains(&format!("route \"{route}\" needs to know")), "{error}");
    }
    for hook in ["onHandshake", "onJoin", "onLeave"] {
        let error = lines(&format!("hooks = [\"onMessage\", \"{hook}\"]")).unwrap_err();
        assert!(error.contains(&format!("hooks has {hook}")), "{error}");
    }
    // Without a listener there is nothing that reads lines.
    let toml = "[defaults]\nformat = \"lines\"\n[gateways.a]\nroute = \"sender\"\n";
    assert_eq!(load_text(toml, &[]).unwrap().notices, [""; 0]);
}

#[test]
fn settings_without_effect_on_lines_are_warnings() {
    for (keys, part) in [
        ("headers = \"*\"", "headers has no effect with format \"lines\""),
        (
            "on-timeout = \"close\"\nlistener-timeout = 5",
            "listener-timeout, on-timeout have no effect",
        ),
        ("hooks = [\"onClientOpen\", \"onMessage\"]", "is not told of opens and closes"),
        ("presence = \"*\"", "presence has no effect, for no client can join a channel"),
    ] {
        let (_, notices) = lines(keys).unwrap();
        assert!(notices.len() == 1 && notices[0].contains(part), "{keys}: {notices:?}");
    }
    for keys in ["window = 5\nhang-timeout = 5", "hooks = \"onMessage\"", "max-line = \"20MiB\""] {
        assert_eq!(lines(keys).unwrap().1, [""; 0], "{keys}");
    }
    let (settings, _) = lines("listener-timeout = 60\nhang-timeout = 5").unwrap();
    assert_eq!(settings.effective_hang_timeout().as_secs(), 5);
    let alone = load_text("[gateways.a]\nformat = \"lines\"\n", &[]).unwrap().notices;
    assert!(alone[0].contains("format has no effect without a listener"), "{alone:?}");
}
