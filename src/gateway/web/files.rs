//! Static files: a request for one in, the head of the answer and an open file out.
//!
//! What HTTP asks for (types, ranges, conditions, the index of a directory) is `tower_http`'s
//! [`ServeDir`]. This file says which file a path means: one below the directory whose path has no
//! part that begins with a dot. Links may lead anywhere below it. The file that was opened is what is
//! checked, so nobody can exchange it in between. Everything here may wait for a disk.

use std::fs::{File, Metadata};
use std::future::{Future, Ready, ready};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use http::header::{CONTENT_LENGTH, ETAG, IF_RANGE, RANGE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use rustix::fs::{CWD, Mode, OFlags, openat};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::ServeDir;
use tower_http::services::fs;

/// What is sent of an open file.
#[derive(Debug)]
pub(crate) struct Part {
    /// The file; it is read at positions, never sought.
    pub file: Arc<Found>,
    /// Where the next byte is.
    pub at: u64,
    /// How many are left.
    pub left: u64,
}

impl Part {
    /// Reads the next bytes at the end of `into`, so many at most.
    ///
    /// # Errors
    /// The system's; `UnexpectedEof` if the file has become shorter.
    pub(crate) fn read(&mut self, into: &mut Vec<u8>, most: usize) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        let start = into.len();
        let room = most.min(usize::try_from(self.left).unwrap_or(most));
        into.resize(start + room, 0);
        let read = self.file.file.read_at(&mut into[start..], self.at);
        into.truncate(start + *read.as_ref().unwrap_or(&0));
        match read? {
            0 if room > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.at += n as u64;
                self.left -= n as u64;
                Ok(())
            }
        }
    }

    /// So many of the bytes that were read last are read again next time.
    pub(crate) fn unread(&mut self, bytes: usize) {
        self.at -= bytes as u64;
        self.left += bytes as u64;
    }
}

/// The answer to a request for a file below a directory: status and headers, and what of the file
/// follows.
pub(crate) fn look_up(directory: &Path, request: &Request<()>) -> (Response<()>, Option<Part>) {
    let (response, part) = serve(directory, request);
    let headers = response.headers();
    // RFC 9110 section 13.1.5: a part is only for those who have the rest of the same file.
    let other = request
        .headers()
        .get(IF_RANGE)
        .is_some_and(|condition| headers.get(ETAG) != Some(condition));
    // No range is a part of an empty file, and `Content-Range` cannot say so.
    let empty = response.status() == StatusCode::PARTIAL_CONTENT
        && headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0");
    if request.headers().contains_key(RANGE) && (other || empty) {
        let mut whole = request.clone();
        whole.headers_mut().remove(RANGE);
        return serve(directory, &whole);
    }
    (response, part)
}

fn serve(directory: &Path, request: &Request<()>) -> (Response<()>, Option<Part>) {
    let below = Below { directory: directory.into(), last: Arc::default() };
    let mut service = ServeDir::with_backend("/", below.clone()).ignore_multi_range_requests(true);
    let mut answer = pin!(service.try_call(request.clone()));
    let answer = match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(answer)) => answer.map(drop),
        Poll::Ready(Err(error)) => failed(&error),
        // Nothing in `Below` ever waits for a waker.
        Poll::Pending => failed(&io::ErrorKind::WouldBlock.into()),
    };
    let part = below.part(request.method(), answer.status(), answer.headers());
    (answer, part)
}

fn failed(error: &io::Error) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = match error.kind() {
        io::ErrorKind::NotFound => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    response
}

/// An open file or directory.
#[derive(Debug)]
pub(crate) struct Found {
    file: File,
    facts: Facts,
    /// Where `ServeDir` would read.
    at: AtomicU64,
}

/// What `ServeDir` asks about a file.
#[derive(Debug, Clone, Copy)]
struct Facts {
    is_dir: bool,
    length: u64,
    modified: Option<SystemTime>,
}

impl Facts {
    fn of(metadata: &Metadata) -> Facts {
        Facts {
            is_dir: metadata.is_dir(),
            length: metadata.len(),
            modified: metadata.modified().ok(),
        }
    }
}

impl fs::Metadata for Facts {
    fn is_dir(&self) -> bool {
        self.is_dir
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.modified.ok_or(io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> u64 {
        self.length
    }
}

/// What a path meant.
type Named = (PathBuf, Arc<Found>);

/// The files below a directory, for one request.
#[derive(Clone)]
struct Below {
    directory: Arc<Path>,
    /// What was opened last: it is asked about first, and opened then.
    last: Arc<Mutex<Option<Named>>>,
}

impl Below {
    fn find(&self, path: PathBuf) -> io::Result<Arc<Found>> {
        let mut last = self.last.lock();
        if let Some((known, found)) = &*last
            && *known == path
        {
            return Ok(Arc::clone(found));
        }
        let below = path.strip_prefix("/").unwrap_or(&path);
        let file = open_below(&self.directory, below).map_err(not_found)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() && !metadata.is_dir() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let facts = Facts::of(&metadata);
        let found = Arc::new(Found { file, facts, at: AtomicU64::new(0) });
        *last = Some((path, Arc::clone(&found)));
        Ok(found)
    }

    /// What of the file belongs into the answer.
    fn part(&self, method: &Method, status: StatusCode, headers: &HeaderMap) -> Option<Part> {
        let has_body = matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT);
        if method == Method::HEAD || !has_body {
            return None;
        }
        let (_, file) = self.last.lock().take()?;
        let left = headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
        Some(Part { at: file.at.load(Ordering::Relaxed), left, file })
    }
}

impl fs::Backend for Below {
    type File = Source;
    type Metadata = Facts;
    type OpenFuture = Ready<io::Result<Source>>;
    type MetadataFuture = Ready<io::Result<Facts>>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let file = self.find(path).and_then(|found| match found.facts.is_dir {
            true => Err(io::ErrorKind::NotFound.into()),
            false => Ok(Source(found)),
        });
        ready(file)
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        ready(self.find(path).map(|found| found.facts))
    }
}

/// A file as `ServeDir` sees it. It seeks there, and we read ([`Part::read`]): what it would read is
/// thrown away.
struct Source(Arc<Found>);

impl fs::File for Source {
    type Metadata = Facts;
    type MetadataFuture<'a> = Ready<io::Result<Facts>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        ready(Ok(self.0.facts))
    }
}

impl AsyncRead for Source {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for Source {
    fn start_seek(self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        let io::SeekFrom::Start(at) = position else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        self.0.at.store(at, Ordering::Relaxed);
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.0.at.load(Ordering::Relaxed)))
    }
}

/// Errors that say nothing about the machine: there is no such file for this client.
fn not_found(error: io::Error) -> io::Error {
    use rustix::io::Errno;
    let is_ours = error.raw_os_error().is_some_and(|code| {
        let code = Errno::from_raw_os_error(code);
        matches!(code, Errno::MFILE | Errno::NFILE | Errno::IO | Errno::NOMEM)
    });
    if is_ours { error } else { io::ErrorKind::NotFound.into() }
}

/// Opens what a path means below a directory, wherever links lead below it.
///
/// # Errors
/// The system's; `NotFound` for what lies elsewhere, and for names that begin with a dot.
fn open_below(directory: &Path, path: &Path) -> io::Result<File> {
    use std::os::unix::ffi::OsStrExt as _;
    let plain = |part: Component<'_>| match part {
        Component::Normal(name) => !name.as_bytes().starts_with(b"."),
        _ => false,
    };
    if !path.components().all(plain) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let root = openat(CWD, directory, OFlags::DIRECTORY | OFlags::CLOEXEC | HANDLE, Mode::empty())?;
    match open_beneath(&root, path)? {
        Some(file) => Ok(file.into()),
        None => open_checked(&root, path).map(File::from),
    }
}

/// Never waits for the other end of a FIFO.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// To hold a file without opening it.
#[cfg(target_os = "linux")]
const HANDLE: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const HANDLE: OFlags = OFlags::RDONLY;

/// Lets the kernel see to it that the way never leaves the directory; `None` if that cannot be said.
#[cfg(target_os = "linux")]
fn open_beneath(root: &OwnedFd, path: &Path) -> io::Result<Option<OwnedFd>> {
    use rustix::fs::{ResolveFlags, openat2};
    use rustix::io::Errno;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, path, READ, Mode::empty(), beneath) {
        Ok(file) => Ok(Some(file)),
        // The way leaves it, perhaps to come back; or an old kernel, or one that forbids the call.
        Err(Errno::XDEV | Errno::AGAIN | Errno::NOSYS | Errno::PERM | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(_: &OwnedFd, _: &Path) -> io::Result<Option<OwnedFd>> {
    Ok(None)
}

/// Opens a file wherever it is, and looks where that was.
#[cfg(target_os = "linux")]
fn open_checked(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    // Held only, for to open some devices does something to them.
    let held = openat(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let name = |fd: &OwnedFd| {
        use std::os::fd::AsRawFd as _;
        PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
    };
    if !std::fs::read_link(name(&held))?.starts_with(std::fs::read_link(name(root))?) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(openat(CWD, name(&held), READ, Mode::empty())?)
}

/// Opens a file to which no link leads.
#[cfg(not(target_os = "linux"))]
fn open_checked(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut at = root.as_fd().try_clone_to_owned()?;
    for part in path.components() {
        at = openat(&at, part.as_os_str(), READ | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(directory: &Path, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (response, part) = look_up(directory, &request.body(()).unwrap());
        let mut body = Vec::new();
        if let Some(mut part) = part {
            while part.left > 0 {
                part.read(&mut body, 3).unwrap();
            }
        }
        (response.status().as_u16(), String::from_utf8(body).unwrap())
    }

    #[test]
    fn links_lead_to_what_is_inside_only() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let inside = tempfile::tempdir().unwrap();
        let at = |name: &str| inside.path().join(name);
        std::fs::create_dir(at("sub")).unwrap();
        std::fs::create_dir(at(".hidden")).unwrap();
        std::fs::write(at("sub/a"), "a").unwrap();
        std::fs::write(at(".hidden/b"), "b").unwrap();
        symlink("sub/a", at("relative")).unwrap();
        symlink(at("sub/a"), at("absolute")).unwrap();
        symlink("../sub", at("sub/up")).unwrap();
        symlink(".hidden/b", at("published")).unwrap();
        symlink(outside.path().join("secret"), at("out")).unwrap();
        symlink(outside.path(), at("out-dir")).unwrap();
        symlink("../../../../../../../../etc/passwd", at("passwd")).unwrap();
        symlink("/proc/self/root/etc/passwd", at("magic")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for (path, body) in
            [("/relative", "a"), ("/absolute", "a"), ("/sub/up/a", "a"), ("/published", "b")]
        {
            assert_eq!(read(inside.path(), path, &[]), (200, body.to_owned()), "{path}");
        }
        for path in [
            "/out",
            "/out-dir/secret",
            "/passwd",
            "/magic",
            "/loop",
            "/.hidden/b",
            "/%2ehidden/b",
            "/sub/../sub/a",
            "/%2e%2e/x",
            "/sub%2f..%2fsub%2fa",
            "/sub/a%00",
            "/sub/a/",
            "/sub/a/b",
            "/sub/",
            "/",
        ] {
            assert_eq!(read(inside.path(), path, &[]), (404, String::new()), "{path}");
        }
    }

    #[test]
    fn ranges_are_those_of_the_same_file() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a"), "0123456789").unwrap();
        let get = |headers: &[_]| read(directory.path(), "/a", headers);
        let request = Request::get("/a").body(()).unwrap();
        let (response, _) = look_up(directory.path(), &request);
        let tag = response.headers()[ETAG].to_str().unwrap().to_owned();
        assert!(tag.starts_with('"'), "a strong one: {tag}");
        assert_eq!(get(&[]), (200, "0123456789".into()));
        assert_eq!(get(&[("range", "bytes=2-4")]), (206, "234".into()));
        assert_eq!(get(&[("range", "bytes=-2")]), (206, "89".into()));
        assert_eq!(get(&[("range", "bytes=2-4"), ("if-range", &tag)]), (206, "234".into()));
        assert_eq!(get(&[("range", "bytes=2-4"), ("if-range", "\"x\"")]).0, 200);
        assert_eq!(get(&[("range", "bytes=99-"), ("if-range", "\"x\"")]).0, 200);
        assert_eq!(get(&[("range", "bytes=99-")]), (416, String::new()));
        assert_eq!(get(&[("range", "bytes=0-0,2-2")]).0, 200, "several at once are not offered");
        assert_eq!(get(&[("if-none-match", &tag)]), (304, String::new()));
        assert_eq!(get(&[("if-match", "\"x\"")]), (412, String::new()));
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(CWD, &fifo, kind, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(read(directory.path(), "/fifo", &[]).0, 404);
    }
}
