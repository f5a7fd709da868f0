//! The layers point one way: bin → commands → server | control | control_client | connect → gateway
//! → listener → what is below all of them. A module imports only from below.

use std::path::{Path, PathBuf};

/// Below all layers; they know of nothing but each other.
const BOTTOM: [&str; 8] = ["api", "error", "files", "metrics", "net", "paths", "text", "ws"];

/// Modules, and what they never import besides.
const NEVER: [(&str, &[&str]); 8] = [
    // Settings are data for those above.
    (
        "config",
        &["listener", "gateway", "server", "control", "control_client", "connect", "commands"],
    ),
    ("listener", &["gateway", "server", "control", "control_client", "connect", "commands"]),
    ("gateway", &["server", "control", "control_client", "connect", "commands"]),
    ("connect", &["listener", "gateway", "server", "control", "control_client", "commands"]),
    (
        "bench",
        &["listener", "gateway", "server", "control", "control_client", "connect", "commands"],
    ),
    ("control_client", &["listener", "gateway", "server", "control", "connect", "commands"]),
    ("control", &["gateway", "server", "control_client", "connect", "commands"]),
    ("server", &["control_client", "connect", "commands"]),
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory of ours") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// The top-level modules that a file's own code names; its tests may name any.
fn imports(text: &str) -> Vec<&str> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.split(|c: char| c != '_' && !c.is_alphanumeric()).next().unwrap_or(rest))
        .collect()
}

fn is_allowed(file: &str, importer: &str, imported: &str) -> bool {
    if importer == imported {
        return true;
    }
    match importer {
        // RFC 6455, pure: text and host names, and no error or path of ours.
        "ws" => matches!(imported, "net" | "text"),
        _ if BOTTOM.contains(&importer) => BOTTOM.contains(&imported),
        // The command line is for those who read it.
        _ if imported == "cli" => {
            matches!(importer, "bench" | "check" | "commands" | "config" | "connect" | "top")
                || file == "lib.rs"
        }
        _ => NEVER.iter().all(|(name, never)| *name != importer || !never.contains(&imported)),
    }
}

#[test]
fn modules_import_only_from_below() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 50, "all of them: {}", files.len());
    let mut wrong = Vec::new();
    for path in files.iter().filter(|path| !path.ends_with("tests.rs")) {
        let file = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
        let importer = file.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        let text = std::fs::read_to_string(path).expect("a file of ours");
        let bad = imports(&text).into_iter().filter(|i| !is_allowed(&file, importer, i));
        wrong.extend(bad.map(|imported| format!("{file} imports {imported}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_are_seen() {
    let text = "// crate::a\nuse crate::b::c;\nfn f() { crate::d_e::g() }\n#[cfg(test)]\nmod tests {\nuse crate::x;";
    assert_eq!(imports(text), ["b", "d_e"]);
    assert!(!is_allowed("ws/frame.rs", "ws", "gateway") && is_allowed("ws/x.rs", "ws", "text"));
    assert!(!is_allowed("listener/a.rs", "listener", "gateway"));
    assert!(!is_allowed("gateway/a.rs", "gateway", "cli"));
}
