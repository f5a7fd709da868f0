//! The reasons of refusals name keys of a gateway.

use crate::config::options::Options;
use crate::config::tables::GatewayOptions;
use crate::ws::reason::Reason;

#[test]
fn each_refusal_names_a_key_that_exists() {
    let keys: Vec<&str> = GatewayOptions::KEYS.iter().map(|key| key.name).collect();
    for reason in Reason::ALL {
        let said = reason.said();
        let Some(key) = said.key else { continue };
        assert!(keys.contains(&key), "{reason}: {key}");
        let named = said.text.contains(key) || key == "proxy-protocol";
        assert!(named, "{reason}: {}", said.text);
    }
}
