//! The reasons of refusals name keys of a gateway, and the documents have all of them.

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

#[test]
fn the_documents_have_every_reason_as_it_is_said() {
    let row = |reason: Reason| {
        let said = reason.said();
        let key = said.key.map_or(" ".to_owned(), |key| format!(" `{key}` "));
        format!("| `{}` |{key}| {} |", said.label, said.text)
    };
    let docs = include_str!("../../docs/operations.md");
    let table = docs.split("| reason | key | what happened |\n|---|---|---|\n").nth(1).unwrap();
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows, Reason::ALL.map(row));
}
