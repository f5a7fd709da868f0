//! Whether a listener's program is there and may be executed, found out without starting it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::config::settings::ListenerCommand;
use crate::files;
use crate::listener::process::explain;

/// Bytes of a script that are read for its first line.
const FIRST_LINE: usize = 256;

/// What a shell knows itself, so that no file has its name.
const OF_THE_SHELL: [&str; 24] = [
    ".", ":", "alias", "case", "cd", "command", "echo", "eval", "exec", "exit", "export", "false",
    "for", "if", "printf", "read", "set", "shift", "test", "trap", "true", "ulimit", "umask",
    "while",
];

/// Characters after which a command line is more than a program and its arguments.
const OF_ITS_SYNTAX: &str = "|&;<>()$`\\\"'*?[]#~={}!\n";

/// Interpreters whose first argument names the script.
const INTERPRETERS: [&str; 11] =
    ["bash", "dash", "deno", "lua", "node", "perl", "php", "python", "python3", "ruby", "sh"];

/// Options of interpreters that take no argument of their own.
const PLAIN_OPTIONS: [&str; 8] = ["-u", "-E", "-I", "-B", "-O", "-s", "-w", "-n"];

/// Why a listener's command cannot be executed; `None` if nothing speaks against it.
pub(crate) fn what_is_missing(command: &ListenerCommand) -> Option<String> {
    if !command.directory.is_dir() {
        return Some(explain(&io::Error::from(io::ErrorKind::NotFound), command));
    }
    let program = command.argv.first()?;
    let path = match find(program, &command.directory) {
        Ok(path) => path,
        Err(error) => return Some(explain(&error, command)),
    };
    match line_of_shell(&command.argv) {
        Some(words) => {
            let words = ListenerCommand { argv: words, directory: command.directory.clone() };
            what_is_missing(&words)
        }
        None => missing_interpreter(&path, &command.directory)
            .or_else(|| missing_script(&command.argv, &command.directory)),
    }
}

/// The file that a program's name leads to.
///
/// # Errors
/// What starting it would fail with.
pub(crate) fn find(program: &OsStr, directory: &Path) -> io::Result<PathBuf> {
    let executable = |path: PathBuf| -> io::Result<PathBuf> {
        let metadata = std::fs::metadata(&path)?;
        if metadata.is_dir() {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        access(&path, Access::EXEC_OK)?;
        Ok(path)
    };
    if program.as_encoded_bytes().contains(&b'/') {
        return executable(directory.join(program));
    }
    let mut denied = None;
    let search = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/bin:/usr/bin"));
    for place in std::env::split_paths(&search) {
        match executable(directory.join(place).join(program)) {
            Ok(path) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => denied = Some(error),
            Err(_) => {}
        }
    }
    Err(denied.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
}

/// The words of a command line for the shell that is nothing but a program and its arguments.
pub(crate) fn line_of_shell(argv: &[OsString]) -> Option<Vec<OsString>> {
    let [shell, option, line, ..] = argv else { return None };
    let name = Path::new(shell).file_name()?.to_str()?;
    if !matches!(name, "sh" | "bash" | "dash") || option != "-c" {
        return None;
    }
    let line = line.to_str()?;
    if line.contains(|c| OF_ITS_SYNTAX.contains(c)) {
        return None;
    }
    let mut words = line.split_whitespace().skip_while(|word| *word == "exec").peekable();
    let first = words.peek()?;
    if OF_THE_SHELL.contains(first) {
        return None;
    }
    Some(words.map(OsString::from).collect())
}

/// The words behind `#!` in a script's first line.
pub(crate) fn first_line(path: &Path) -> Option<Vec<String>> {
    let mut start = vec![0; FIRST_LINE];
    let mut file = files::open_regular(path).ok()?;
    let length = io::Read::read(&mut file, &mut start).ok()?;
    let text = String::from_utf8_lossy(&start[..length]);
    let line = text.split('\n').next()?.strip_prefix("#!")?;
    Some(line.split([' ', '\t']).filter(|word| !word.is_empty()).map(str::to_owned).collect())
}

/// The first line of a script names a program that is not there.
fn missing_interpreter(path: &Path, directory: &Path) -> Option<String> {
    let words = first_line(path)?;
    let interpreter = words.first()?;
    let shown = path.display();
    if words.last().is_some_and(|last| last.ends_with('\r')) {
        return Some(format!(
            "the lines of {shown} end with \\r\\n, so that its interpreter is not found: save it with \
             the line ends of Unix (sed -i 's/\\r$//' {shown})"
        ));
    }
    if !Path::new(interpreter).exists() {
        return Some(format!(
            "the first line of {shown} names the interpreter {interpreter}, which is not there: \
             install it, or name another one in that line"
        ));
    }
    let by_env = interpreter.ends_with("/env");
    let named =
        words.get(1).filter(|name| by_env && !name.starts_with('-') && !name.contains('='))?;
    find(OsStr::new(named), directory).is_err().then(|| {
        format!(
            "the first line of {shown} asks for {named}, and there is no such program in PATH: \
             install it, or name another one in that line"
        )
    })
}

/// An interpreter is given a script that is not there.
fn missing_script(argv: &[OsString], directory: &Path) -> Option<String> {
    let name = Path::new(argv.first()?).file_name()?.to_str()?;
    let digits_and_dots = |c: char| c.is_ascii_digit() || c == '.';
    if !INTERPRETERS.iter().any(|known| name.trim_end_matches(digits_and_dots) == *known)
        && !INTERPRETERS.contains(&name)
    {
        return None;
    }
    let plain = |word: &&OsString| PLAIN_OPTIONS.iter().any(|option| *word == option);
    let script = argv[1..].iter().find(|word| !plain(word))?;
    // Any other option may take the next word, or the text of a program.
    if script.as_encoded_bytes().starts_with(b"-") || name == "deno" {
        return None;
    }
    (!directory.join(script).exists()).then(|| {
        format!(
            "{name} is given the file {}, which does not exist (relative paths count from {})",
            script.display(),
            directory.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_missing_is_named_and_what_cannot_be_told_is_let_pass() {
        let dir = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str, mode| {
            fs::write(dir.path().join(name), text).unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        script("plain", "cat", 0o644);
        script("good", "#!/bin/sh\ncat", 0o755);
        script("gone", "#!/no/such/interpreter -x\n", 0o755);
        script("windows", "#!/bin/sh\r\ncat\r\n", 0o755);
        script("env", "#!/usr/bin/env no-such-language\n", 0o755);
        let missing = |argv: &[&str]| {
            let argv = argv.iter().map(Into::into).collect();
            what_is_missing(&ListenerCommand { argv, directory: dir.path().to_owned() })
        };
        for good in [
            &["cat"][..],
            &["./good"],
            &["sh", "-c", "cat"],
            &["sh", "-c", "exec ./good x"],
            &["sh", "-c", "no-such-program | cat"],
            &["sh", "-c", "while read l; do echo; done"],
            &["sh", "-c", "echo hi"],
            &["sh", "-u", "good"],
            &["sh", "-x", "no-such-file"],
            &["sh", "-c"],
        ] {
            assert_eq!(missing(good), None, "{good:?}");
        }
        for (bad, part) in [
            (&["no-such-program"][..], "in PATH"),
            (&["./no-such-file"], "no program ./no-such-file"),
            (&["./plain"], "chmod +x"),
            (&["/"], "is a directory"),
            (&["./gone"], "/no/such/interpreter"),
            (&["./windows"], "line ends"),
            (&["./env"], "no-such-language"),
            (&["sh", "-c", "no-such-program x"], "in PATH"),
            (&["sh", "-c", "exec ./gone"], "/no/such/interpreter"),
            (&["sh", "no-such-file"], "no-such-file"),
            (&["sh", "-u", "no-such-file"], "no-such-file"),
        ] {
            let why = missing(bad).unwrap_or_default();
            assert!(why.contains(part), "{bad:?}: {why}");
        }
        let argv = vec!["cat".into()];
        let directory = dir.path().join("none");
        let why = what_is_missing(&ListenerCommand { argv, directory }).unwrap();
        assert!(why.contains("directory"), "{why}");
    }
}
