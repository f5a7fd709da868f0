//! Passwords and tokens that do not stand on the command line, where `ps` shows them: asked for at
//! the terminal, or read from files.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

use crate::cli::ConnectArgs;
use crate::connect::exit;
use crate::connect::options::Options;
use crate::error::Failure;
use crate::{files, paths};

/// The largest file of headers, or of a user, in bytes.
const LARGEST: usize = 64 * 1024;

/// The longest password, in bytes.
const LONGEST: usize = 4096;

/// The flags with what they refer to: `-H @FILE`, `--user-file FILE`, and the password that `-u NAME`
/// asks for.
///
/// # Errors
/// Exit code 2 for a file that cannot be used, or where there is nobody to ask; 130 for Ctrl-C.
pub(super) fn complete(args: &ConnectArgs) -> Result<ConnectArgs, Failure> {
    let mut args = args.clone();
    let mut headers = Vec::new();
    for header in args.header {
        match header.strip_prefix('@') {
            None => headers.push(header),
            Some(file) => {
                let text = read("--header @", Path::new(file))?;
                headers.extend(text.lines().map(str::to_owned).filter(|l| !l.trim().is_empty()));
            }
        }
    }
    args.header = headers;
    if let Some(path) = &args.user_file {
        let text = read("--user-file ", path)?;
        let line = text.lines().next().unwrap_or_default();
        if !line.contains(':') {
            let path = path.display();
            return Err(Failure::usage(format!(
                "--user-file {path}: its first line must be NAME:PASSWORD"
            )));
        }
        args.user = Some(line.to_owned());
    }
    let checked = args.clone();
    if let Some(name) = args.user.as_mut().filter(|user| !user.contains(':')) {
        // What is wrong with the other flags is said before anybody is asked.
        let whole = ConnectArgs { user: Some(format!("{name}:")), ..checked };
        Options::parse(&whole)?;
        let password = ask(name)?;
        *name = format!("{name}:{password}");
    }
    Ok(args)
}

fn read(flag: &str, path: &Path) -> Result<String, Failure> {
    let text = paths::expand_home(path)
        .and_then(|path| files::read_text(&path, LARGEST).map_err(|e| e.to_string()));
    text.map_err(|why| Failure::usage(format!("{flag}{}: {why}", path.display())))
}

/// Asks for a password at the terminal, which does not show it. Stdin may hold messages.
fn ask(name: &str) -> Result<String, Failure> {
    let nobody = |e: io::Error| {
        Failure::usage(format!(
            "--user {name:?} has no password, and there is no terminal to ask for it ({e}): write \
             NAME:PASSWORD, or use --user-file FILE"
        ))
    };
    let mut terminal = File::options().read(true).write(true).open("/dev/tty").map_err(nobody)?;
    let silent = Silent::new(&terminal).map_err(nobody)?;
    let password = write!(terminal, "password of {}: ", name.escape_debug())
        .and_then(|()| read_password(&mut terminal));
    drop(silent);
    let _ = terminal.write_all(b"\n");
    match password.map_err(nobody)? {
        Some(bytes) => String::from_utf8(bytes)
            .map_err(|_| Failure::usage("the password that was typed is not UTF-8 text")),
        None => Err(Failure::new(exit::INTERRUPTED, "no password was given")),
    }
}

/// The bytes up to Enter; none at Ctrl-C, and at Ctrl-D without a password.
fn read_password(terminal: &mut File) -> io::Result<Option<Vec<u8>>> {
    let mut password = Vec::new();
    loop {
        let mut byte = [0];
        if terminal.read(&mut byte)? == 0 {
            return Ok(None);
        }
        match byte[0] {
            b'\r' | b'\n' => return Ok(Some(password)),
            0x03 => return Ok(None),
            0x04 if password.is_empty() => return Ok(None),
            // Backspace takes a whole character.
            0x08 | 0x7f => while password.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            // Ctrl-U.
            0x15 => password.clear(),
            byte if password.len() < LONGEST => password.push(byte),
            _ => {}
        }
    }
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Silent {
    terminal: File,
    before: Termios,
}

impl Silent {
    fn new(terminal: &File) -> io::Result<Silent> {
        let terminal = terminal.try_clone()?;
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        // Without ISIG Ctrl-C and Ctrl-Z cannot end us with the echo switched off.
        silent.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&terminal, OptionalActions::Drain, &silent)?;
        Ok(Silent { terminal, before })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}
