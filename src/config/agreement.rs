//! The documents and the example agree with the program's keys.

use std::path::Path;

use crate::config::cluster::ClusterOptions;
use crate::config::from_text;
use crate::config::history::HistoryOptions;
use crate::config::options::Key;
use crate::config::settings::{ControlSettings, GatewaySettings, HistorySettings};
use crate::config::tables::{ControlOptions, GatewayOptions, LogOptions};
use crate::config::tests::keys;

#[test]
fn the_documents_table_of_settings_is_that_of_the_program() {
    let page = include_str!("../../docs/operations.md");
    let rows: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| {
            let (key, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            Some((key, rest.split_once(" |")?.0))
        })
        .collect();
    let check = |full: &str, key: &Key| {
        let row = rows.iter().find(|(name, _)| *name == full);
        let (_, default) = row.unwrap_or_else(|| panic!("{full} is not in the table"));
        assert_eq!(default.trim_matches('`'), key.default(), "{full}");
    };
    keys::<GatewayOptions>().for_each(|key| check(key.name, key));
    keys::<HistoryOptions>().for_each(|key| check(&format!("history.{}", key.name), key));
}

#[test]
fn the_example_has_every_key_with_its_default() {
    let text = include_str!("../../examples/wsgw.toml");
    from_text(Path::new("/wsgw.toml"), text).unwrap();
    // A line that begins with "#" and no space is a key; "Example." means that it has no default.
    let (mut table, mut example, mut found) = (String::new(), false, Vec::new());
    let mut defaults = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("#[") {
            // A table within a table, which is a key as well.
            table = name.trim_end_matches(']').to_owned();
            if let Some((outer, key)) = table.rsplit_once('.') {
                found.push((outer.to_owned(), key.to_owned()));
            }
            defaults.push_str(&format!("[{table}]\n"));
        } else if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']').to_owned();
            defaults.push_str(&format!("{line}\n"));
        } else if line.starts_with("# ") {
            example = line.contains("xample");
        } else if let Some(setting) = line.strip_prefix('#')
            && let Some((key, _)) = setting.split_once(" = ")
        {
            found.push((table.clone(), key.to_owned()));
            if !example {
                defaults.push_str(&format!("{setting}\n"));
            }
            let all = format!("[{table}]\n{setting}\n");
            let pair = key.starts_with("tls-").then_some("tls-cert = \"c\"\ntls-key = \"k\"\n");
            let all = pair.map_or(all, |pair| format!("[{table}]\n{pair}"));
            from_text(Path::new("/wsgw.toml"), &all).unwrap();
        }
    }
    let check = |table: &str, key: &Key| {
        let there = found.iter().any(|(of, name)| of == table && name == key.name);
        assert!(there, "[{table}] {} is not in the example", key.name);
    };
    keys::<GatewayOptions>().for_each(|key| check("gateways.chat", key));
    keys::<HistoryOptions>().for_each(|key| check("gateways.chat.history", key));
    keys::<ControlOptions>().for_each(|key| check("control", key));
    keys::<LogOptions>().for_each(|key| check("log", key));
    keys::<ClusterOptions>().for_each(|key| check("cluster", key));
    let spelt_out = from_text(Path::new("/wsgw.toml"), &defaults).unwrap();
    let mut chat = GatewaySettings::new("chat");
    chat.history = Some(HistorySettings::default());
    assert_eq!(spelt_out.gateways, [chat]);
    assert_eq!(spelt_out.control, ControlSettings::default());
    assert_eq!(spelt_out.log.directory, None);
}

#[test]
fn the_documents_configs_are_valid() {
    let pages = [
        include_str!("../../README.md"),
        include_str!("../../docs/operations.md"),
        include_str!("../../docs/control.md"),
        include_str!("../../docs/listener.md"),
        include_str!("../../docs/lucee.md"),
    ];
    let mut blocks = 0;
    for page in pages {
        for block in page.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap();
            from_text(Path::new("/wsgw.toml"), block).unwrap_or_else(|e| panic!("{e}\n{block}"));
            blocks += 1;
        }
    }
    assert!(blocks > 0);
}
