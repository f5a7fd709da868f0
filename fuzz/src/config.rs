//! The config file, and the values of flags.

use std::path::Path;

use wsgw::config::from_text;
use wsgw::config::id::gateway_id;
use wsgw::text::units;

/// A config file: settings that fit together, or errors with a line each.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match from_text(Path::new("/etc/wsgw.toml"), text) {
        Ok(parsed) => {
            let mut ids: Vec<&str> = parsed.gateways.iter().map(|g| g.id.as_str()).collect();
            ids.sort_unstable();
            assert!(ids.is_sorted_by(|a, b| a < b), "an id comes twice: {ids:?}");
            for gateway in &parsed.gateways {
                assert_eq!(gateway_id(&gateway.id).as_ref(), Ok(&gateway.id));
                assert!(gateway.window >= 1 && gateway.max_message >= 1 && gateway.max_queue >= 1);
                assert!(!gateway.listener_timeout.is_zero() && !gateway.hang_timeout.is_zero());
                assert!(gateway.listener.as_ref().is_none_or(|l| !l.argv.is_empty()));
                // No overflow, wherever times are added up.
                let _ = gateway.effective_hang_timeout();
            }
        }
        Err(failure) => {
            for error in failure.message.lines() {
                let rest = error.strip_prefix("/etc/wsgw.toml:").expect("the file");
                let (line, _) = rest.split_once(": ").expect("a line");
                let line: usize = line.parse().expect("a number");
                assert!((1..=text.matches('\n').count() + 1).contains(&line), "{failure}");
            }
        }
    }
}

/// A duration, a size or a number: never out of range.
pub fn units(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(time) = units::duration(text) {
        assert!(time.as_secs() <= 10 * 366 * 86_400);
        assert_eq!(units::duration(&format!(" {text} ")), Ok(time));
    }
    if let Ok(size) = units::size(text) {
        assert!(size <= 1 << 40);
        assert_eq!(units::size(&size.to_string()), Ok(size));
    }
    if let Ok(count) = units::count(text, 1, 100) {
        assert!((1..=100).contains(&count));
    }
    if let Ok(id) = gateway_id(text) {
        assert_eq!(gateway_id(&id).as_ref(), Ok(&id));
    }
}
