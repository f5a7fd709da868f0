//! A unix socket that listens: bound so that it is never open to more than it should be, and its file
//! removed at the end if it is still ours.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::files;
use crate::net::bind::BACKLOG;

/// Why a file is not replaced.
const NOT_A_SOCKET: &str = "there is a file that is not a socket";

/// Where a socket is bound, and who may use it.
#[derive(Debug)]
pub(crate) struct Place {
    /// Absolute.
    path: PathBuf,
    mode: u32,
    group: Option<u32>,
}

/// What stands at a path that a socket is wanted at.
#[derive(Debug)]
enum There {
    Nothing,
    /// A socket on which nobody listens.
    Stale,
    /// What must not be replaced, and why.
    Taken(String),
}

/// Why a socket cannot be bound.
#[derive(Debug)]
pub(crate) enum BindError {
    /// Something stands at its path that must not be replaced.
    Taken(String),
    /// Anything else.
    Failed(String),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::Taken(why) | BindError::Failed(why) => f.write_str(why),
        }
    }
}

impl Place {
    /// A place for a socket; `group` is a name or a number. This may wait for the program that looks
    /// groups up.
    pub(crate) fn new(path: &Path, mode: u32, group: Option<&str>) -> Result<Place, String> {
        let path = std::path::absolute(path).map_err(|e| e.to_string())?;
        let group = group.map(group_id).transpose()?;
        Ok(Place { path, mode, group })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a socket could be bound here, as far as that can be told without binding. A socket that
    /// stands here already is not in the way: it may be that of the `serve` whose settings are looked
    /// at.
    ///
    /// # Errors
    /// The reason.
    pub(crate) fn ensure_usable(&self) -> Result<(), String> {
        SockAddr::unix(self.temporary()).map_err(|e| format!("the path is too long: {e}"))?;
        if let Ok(metadata) = fs::symlink_metadata(&self.path)
            && !metadata.file_type().is_socket()
        {
            return Err(NOT_A_SOCKET.to_owned());
        }
        self.path.parent().map_or(Ok(()), files::ensure_can_be_directory)
    }

    /// The name under which it is bound first.
    fn temporary(&self) -> PathBuf {
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".new");
        PathBuf::from(temporary)
    }

    /// Binds, where nothing stands in the way. The socket does not block.
    pub(crate) fn bind(self) -> Result<(SocketFile, UnixListener), BindError> {
        if let There::Taken(why) = look(&self.path) {
            return Err(BindError::Taken(why));
        }
        let (socket, identity) = self.bind_now().map_err(BindError::Failed)?;
        Ok((SocketFile { place: self, identity }, socket))
    }

    fn bind_now(&self) -> Result<(UnixListener, Identity), String> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent).map_err(|e| format!("its directory cannot be made: {e}"))?;
        }
        // Bound under another name and renamed once mode and group are right: nobody finds it open
        // to more than it should be, and a stale one is replaced in one step.
        let temporary = self.temporary();
        match look(&temporary) {
            There::Taken(why) => return Err(format!("{}: {why}", temporary.display())),
            There::Stale => drop(fs::remove_file(&temporary)),
            There::Nothing => {}
        }
        let socket = bind_closed(&temporary).map_err(|e| format!("cannot be bound: {e}"))?;
        let made = (|| {
            socket.set_nonblocking(true)?;
            if self.group.is_some() {
                std::os::unix::fs::chown(&temporary, None, self.group)?;
            }
            fs::set_permissions(&temporary, fs::Permissions::from_mode(self.mode))?;
            let identity = Identity::of(&fs::symlink_metadata(&temporary)?);
            fs::rename(&temporary, &self.path)?;
            Ok(identity)
        })();
        let identity = made.map_err(|e: io::Error| {
            let _ = fs::remove_file(&temporary);
            format!("mode or group cannot be set: {e}")
        })?;
        Ok((socket, identity))
    }
}

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    fn of(metadata: &fs::Metadata) -> Identity {
        Identity(metadata.dev(), metadata.ino())
    }
}

/// The file of a bound socket; removed when dropped, if it is still ours. To be dropped before the
/// socket: while that is open, no other file can get its number.
#[derive(Debug)]
pub(crate) struct SocketFile {
    place: Place,
    identity: Identity,
}

impl SocketFile {
    pub(crate) fn path(&self) -> &Path {
        &self.place.path
    }

    /// Whether the file at the path is still that of the socket.
    pub(crate) fn is_ours(&self) -> bool {
        self.stands_at(&self.place.path)
    }

    /// Whether this path leads to the file.
    pub(crate) fn stands_at(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|m| Identity::of(&m) == self.identity)
    }

    /// Gives it another mode and group.
    pub(crate) fn set_access(&self, mode: u32, group: Option<&str>) -> Result<(), String> {
        let group = group.map(group_id).transpose()?;
        if !self.is_ours() {
            return Ok(());
        }
        let path = &self.place.path;
        let changed = std::os::unix::fs::chown(path, None, group.or(Some(own_group())))
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
        changed.map_err(|e| format!("mode or group cannot be set: {e}"))
    }

    /// Binds anew, where the file is gone or was replaced by a socket on which nobody listens.
    /// `take` gets the new socket.
    pub(crate) fn bind_anew<T>(
        &mut self,
        take: impl FnOnce(UnixListener) -> io::Result<T>,
    ) -> Result<T, String> {
        if let There::Taken(why) = look(&self.place.path) {
            return Err(format!("its file was replaced: {why}"));
        }
        let (socket, identity) = self.place.bind_now()?;
        let taken = take(socket).map_err(|e| e.to_string())?;
        self.identity = identity;
        Ok(taken)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_ours() {
            let _ = fs::remove_file(&self.place.path);
        }
    }
}

/// What stands at a path. What cannot be told is taken.
fn look(path: &Path) -> There {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => match connect(path) {
            Ok(()) => {
                There::Taken("another process listens on it (another `wsgw serve`?)".to_owned())
            }
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => There::Stale,
            Err(e) if e.kind() == io::ErrorKind::NotFound => There::Nothing,
            Err(e) => There::Taken(format!(
                "a socket is there, and whether somebody listens on it cannot be told: {e}"
            )),
        },
        Ok(_) => There::Taken(NOT_A_SOCKET.to_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => There::Nothing,
        Err(e) => There::Taken(e.to_string()),
    }
}

/// Whether somebody listens on a socket. Never waits: one whose backlog is full is listened on.
fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
        connected => connected,
    }
}

/// Binds with a mode that lets nobody else in, whatever the umask: who connected before the right
/// mode is set would stay. (On Linux the file gets the mode of the socket; elsewhere it is the
/// umask's until [`Place::bind_now`] sets it.)
fn bind_closed(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let _ = rustix::fs::fchmod(&socket, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The group that files of this process get.
fn own_group() -> u32 {
    rustix::process::getegid().as_raw()
}

/// A group's number. The name is looked up in `/etc/group`, then by `getent`, which knows other
/// databases.
fn group_id(group: &str) -> Result<u32, String> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let find = |table: &str| {
        table.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok()).flatten()
        })
    };
    let local = fs::read_to_string("/etc/group");
    if let Some(id) = local.as_ref().ok().and_then(|table| find(table)) {
        return Ok(id);
    }
    let asked = std::process::Command::new("getent").args(["group", group]).output();
    let asked = asked.ok().and_then(|output| find(&String::from_utf8_lossy(&output.stdout)));
    asked.ok_or_else(|| match local {
        Ok(_) => format!("there is no group {group:?}"),
        Err(e) => format!("the group {group:?} cannot be looked up: /etc/group: {e}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_socket_is_closed_to_others_from_its_first_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.sock");
        let _socket = bind_closed(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_stands_at_a_path_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| dir.path().join(name);
        let live = bind_closed(&path("live")).unwrap();
        drop(bind_closed(&path("stale")).unwrap());
        fs::write(path("file"), "").unwrap();
        std::os::unix::fs::symlink(path("live"), path("link")).unwrap();
        let _datagrams = std::os::unix::net::UnixDatagram::bind(path("datagrams")).unwrap();
        assert!(matches!(look(&path("nothing")), There::Nothing));
        assert!(matches!(look(&path("stale")), There::Stale));
        for taken in ["live", "file", "link", "datagrams"] {
            assert!(matches!(look(&path(taken)), There::Taken(_)), "{taken}");
        }
        drop(live);
        assert!(matches!(look(&path("live")), There::Stale));
    }

    #[test]
    fn a_socket_with_nobody_left_in_its_backlog_is_still_listened_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.sock");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let mut waiting = Vec::new();
        for _ in 0..3 {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&SockAddr::unix(&path).unwrap());
            waiting.push(client);
        }
        assert!(matches!(look(&path), There::Taken(_)));
    }
}
