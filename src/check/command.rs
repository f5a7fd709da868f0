//! Which program a listener is, as far as its command tells: its mends are named after it.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::config::settings::ListenerCommand;
use crate::listener::process::program;

/// A program, or the language that it is written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Program {
    Python,
    Node,
    Jq,
    /// An awk that flushes by `fflush()`.
    Awk,
    /// It reads and writes in blocks, but for `-W interactive`.
    Mawk,
    Sed,
    Grep,
    Perl,
    Ruby,
    Php,
    Shell,
    /// Any other, by its name.
    Other(String),
}

/// Programs that start another one, which is what matters.
const IN_FRONT: [&str; 9] =
    ["env", "exec", "nice", "nohup", "stdbuf", "timeout", "ionice", "setsid", "unbuffer"];

/// The program of a listener.
pub(super) fn program_of(command: &ListenerCommand) -> Program {
    if let Some(words) = program::line_of_shell(&command.argv) {
        return of_words(&words, &command.directory);
    }
    if let [shell, option, line, ..] = &command.argv[..]
        && matches!(by_name(&base_name(shell)), Program::Shell)
        && option == "-c"
    {
        return within(&line.to_string_lossy(), &command.directory);
    }
    of_words(&command.argv, &command.directory)
}

fn of_words(words: &[OsString], directory: &Path) -> Program {
    let is_in_front = |word: &&OsString| {
        let name = base_name(word);
        IN_FRONT.contains(&name.as_str()) || name.starts_with('-') || name.contains('=')
    };
    let Some(word) = words.iter().find(|word| !is_in_front(word)) else {
        return Program::Other("the listener".to_owned());
    };
    match one(word, directory) {
        Program::Other(_) => Program::Other(word.to_string_lossy().into_owned()),
        known => known,
    }
}

/// The program with this name, or the one that runs the script with this name.
fn one(word: &OsStr, directory: &Path) -> Program {
    let named = by_name(&base_name(word));
    if !matches!(named, Program::Other(_) | Program::Awk) {
        return named;
    }
    let Ok(path) = program::find(word, directory) else { return named };
    if named == Program::Awk {
        // `awk` is a link to one of several programs.
        let real = path.canonicalize().unwrap_or(path);
        let is_mawk = real.file_name().is_some_and(|name| name == "mawk");
        return if is_mawk { Program::Mawk } else { Program::Awk };
    }
    let interpreter = program::first_line(&path).unwrap_or_default();
    let words = interpreter.iter().map(|word| base_name(OsStr::new(word)));
    let name = words.into_iter().find(|name| name != "env" && !name.starts_with('-'));
    name.map_or(named, |name| by_name(&name))
}

/// The first program in a command line of a shell that is known to hold its output back, else the
/// shell.
fn within(line: &str, directory: &Path) -> Program {
    let word = |c: char| c.is_whitespace() || "|&;()<>`$'\"".contains(c);
    let known = line.split(word).filter(|word| !word.is_empty()).map(|word| {
        let named = by_name(&base_name(OsStr::new(word)));
        if named == Program::Awk { one(OsStr::new(word), directory) } else { named }
    });
    let mut known = known.filter(|program| !matches!(program, Program::Other(_) | Program::Shell));
    known.next().unwrap_or(Program::Shell)
}

fn base_name(word: &OsStr) -> String {
    let name = Path::new(word).file_name().unwrap_or(word);
    name.to_string_lossy().into_owned()
}

/// The program with this file name: `python3.12` is Python, and so is `chat.py`.
fn by_name(name: &str) -> Program {
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
    match (plain, suffix) {
        ("python" | "pypy" | "uv", _) | (_, "py") => Program::Python,
        ("node" | "nodejs" | "bun" | "deno" | "tsx", _) | (_, "js" | "mjs" | "cjs" | "ts") => {
            Program::Node
        }
        ("jq" | "gojq" | "jaq", _) => Program::Jq,
        ("mawk", _) => Program::Mawk,
        ("awk" | "gawk" | "nawk" | "original-awk", _) | (_, "awk") => Program::Awk,
        ("sed", _) => Program::Sed,
        ("grep" | "egrep" | "fgrep", _) => Program::Grep,
        ("perl", _) | (_, "pl") => Program::Perl,
        ("ruby", _) | (_, "rb") => Program::Ruby,
        ("php", _) => Program::Php,
        ("sh" | "bash" | "dash" | "zsh" | "ksh" | "ash", _) | (_, "sh" | "bash") => Program::Shell,
        _ => Program::Other(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn programs_are_known_by_their_command() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("chat");
        std::fs::write(&script, "#!/usr/bin/env -S python3 -u\n").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let of = |argv: &[&str]| {
            let argv = argv.iter().map(Into::into).collect();
            program_of(&ListenerCommand { argv, directory: PathBuf::from("/") })
        };
        assert_eq!(of(&["python3", "-u", "chat.py"]), Program::Python);
        assert_eq!(of(&["/usr/bin/python3.12", "chat.py"]), Program::Python);
        assert_eq!(of(&["env", "X=1", "node", "x"]), Program::Node);
        assert_eq!(of(&[script.to_str().unwrap()]), Program::Python);
        assert_eq!(of(&["sh", "-c", "jq -c . | cat"]), Program::Jq);
        assert_eq!(of(&["sh", "-c", "exec sed s/a/b/"]), Program::Sed);
        assert_eq!(of(&["sh", "-c", "while read l; do echo \"$l\"; done"]), Program::Shell);
        assert_eq!(of(&["mawk", "{print}"]), Program::Mawk);
        assert_eq!(of(&["/opt/chat"]), Program::Other("/opt/chat".to_owned()));
        assert_eq!(of(&["tr", "a", "b"]), Program::Other("tr".to_owned()));
    }
}
