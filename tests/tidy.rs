//! The code stays readable: no file over 500 lines, no function over 70, no circle of imports between
//! files, and the map in `docs/design.md` leads to files that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Lines of a file at most, its tests included.
const FILE_LINES: usize = 500;

/// Lines of a function at most, unless the comment in front of it begins with [`REASON`].
const FUNCTION_LINES: usize = 70;

/// How a longer function says why it is long.
const REASON: &str = "// Long because ";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn find(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory of ours") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            find(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// Every file below `src`, by its path there, with its text.
fn sources() -> BTreeMap<String, String> {
    let src = root().join("src");
    let mut files = Vec::new();
    find(&src, &mut files);
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&src).expect("below src").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(&path).expect("a file of ours"))
    };
    files.into_iter().map(read).collect()
}

#[test]
fn files_are_short() {
    let long = |(name, text): (String, String)| {
        let lines = text.lines().count();
        (lines > FILE_LINES).then(|| format!("{name}: {lines} lines"))
    };
    let long: Vec<String> = sources().into_iter().filter_map(long).collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// The functions of a file that `rustfmt` has formatted: name, first line, lines, reason given.
fn functions(text: &str) -> Vec<(String, usize, usize, bool)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let is_function =
            code.starts_with("fn ") || code.contains(" fn ") && code.ends_with(['{', '(']);
        if !is_function || code.starts_with("//") || code.ends_with(';') {
            continue;
        }
        let close = format!("{indent}}}");
        let Some(length) = lines[at..].iter().position(|line| *line == close) else { continue };
        let name = code.split("fn ").nth(1).unwrap_or_default();
        let name = name.split(['(', '<']).next().unwrap_or_default().to_owned();
        let comments = lines[..at].iter().rev().take_while(|line| {
            let line = line.trim_start();
            line.starts_with("//") || line.starts_with("#[")
        });
        let reason = comments.into_iter().any(|line| line.trim_start().starts_with(REASON));
        found.push((name, at + 1, length + 1, reason));
    }
    found
}

#[test]
fn functions_are_short_or_say_why_not() {
    let mut long = Vec::new();
    let mut count = 0;
    for (file, text) in sources() {
        for (name, line, lines, reason) in functions(&text) {
            count += 1;
            if lines > FUNCTION_LINES && !reason {
                long.push(format!("{file}:{line}: {name} has {lines} lines"));
            }
        }
    }
    assert!(count > 1000, "functions are found: {count}");
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// The module path of a file: `gateway/hub/mod.rs` is `gateway::hub`.
fn module(file: &str) -> String {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.replace('/', "::")
}

/// The files that a file imports from, those around it aside: what is part of a module may use it.
fn imports(file: &str, text: &str, modules: &BTreeMap<String, String>) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let own = module(file);
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let path = rest.split(|c: char| !is_path(c)).next().unwrap_or_default();
        let braces = rest[path.len()..].strip_prefix('{').and_then(|rest| rest.split('}').next());
        let names = braces.unwrap_or_default().split(',').map(str::trim);
        let paths = names.map(|name| format!("{path}{name}")).chain([path.to_owned()]);
        for path in paths {
            let parts: Vec<&str> = path.split("::").filter(|part| !part.is_empty()).collect();
            let longest =
                (1..=parts.len()).rev().find_map(|n| modules.get_key_value(&parts[..n].join("::")));
            let Some((module, file)) = longest else { continue };
            let around = own == *module || own.starts_with(&format!("{module}::"));
            if !around {
                found.insert(file.clone());
            }
        }
    }
    found
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = sources();
    let modules: BTreeMap<String, String> =
        sources.keys().map(|file| (module(file), file.clone())).collect();
    let mut edges: BTreeMap<String, BTreeSet<String>> = sources
        .iter()
        .filter(|(file, _)| !file.ends_with("tests.rs"))
        .map(|(file, text)| (file.clone(), imports(file, text, &modules)))
        .collect();
    assert!(edges.values().map(BTreeSet::len).sum::<usize>() > 300, "imports are found");
    // Whoever imports nothing that is left cannot be part of a circle.
    loop {
        let free: Vec<String> = edges
            .iter()
            .filter(|(_, to)| to.iter().all(|to| !edges.contains_key(to)))
            .map(|(file, _)| file.clone())
            .collect();
        if free.is_empty() {
            break;
        }
        free.iter().for_each(|file| drop(edges.remove(file)));
    }
    // Nor whoever is imported by nothing that is left.
    loop {
        let imported: BTreeSet<String> = edges.values().flatten().cloned().collect();
        let before = edges.len();
        edges.retain(|file, _| imported.contains(file));
        if edges.len() == before {
            break;
        }
    }
    let left: Vec<String> = edges
        .iter()
        .map(|(file, to)| {
            let to: Vec<&str> =
                to.iter().filter(|to| edges.contains_key(*to)).map(String::as_str).collect();
            format!("{file} imports {}", to.join(", "))
        })
        .collect();
    assert!(left.is_empty(), "{}", left.join("\n"));
}

#[test]
fn the_map_of_the_design_leads_to_files() {
    let design = std::fs::read_to_string(root().join("docs/design.md")).expect("the page");
    let mut missing = Vec::new();
    let mut count = 0;
    for line in design.lines().filter(|line| line.starts_with("| ") || line.starts_with("- ")) {
        // A path is followed by names of files beside it, and of functions in it.
        let mut at = PathBuf::new();
        let mut text = String::new();
        let row = line.starts_with("| ");
        let cells: Vec<&str> = line.split('|').collect();
        let places = if row { cells.get(2).copied().unwrap_or_default() } else { line };
        for word in places.split('`').skip(1).step_by(2) {
            if word.ends_with(".rs") || word.ends_with('/') || word.ends_with(".sh") {
                count += 1;
                let beside = at.parent().map(Path::to_path_buf).unwrap_or_default();
                let roots = [root(), root().join("src"), beside];
                match roots.iter().map(|root| root.join(word)).find(|path| path.exists()) {
                    Some(path) => {
                        text = std::fs::read_to_string(&path).unwrap_or_default();
                        at = path;
                    }
                    None => missing.push(word.to_owned()),
                }
            } else if row && !text.is_empty() && !text.contains(&format!("fn {word}")) {
                missing.push(format!("{word} in {}", at.display()));
            }
        }
    }
    assert!(count > 40, "paths are found: {count}");
    assert!(missing.is_empty(), "docs/design.md names what is not there: {missing:?}");
}
