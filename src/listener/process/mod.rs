//! One listener process: started in a process group of its own, with a clean environment, and
//! ended as a group.
//!
//! A process whose leader has exited is signalled as a group first and waited for then: the group's
//! number is that of the leader, and while nobody has waited for the leader, the number cannot be
//! given to another process.

mod exec;
pub(crate) mod orphans;
pub(crate) mod program;
mod wait;

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::settings::ListenerCommand;
use crate::listener::process::wait::Which;

/// A listener that was started. The pipes are nonblocking.
pub(crate) struct Spawned {
    /// Its process.
    pub process: Process,
    /// Its stdin; none where it reads /dev/null.
    pub stdin: Option<OwnedFd>,
    /// Its stdout.
    pub stdout: Option<OwnedFd>,
    /// Its stderr.
    pub stderr: Option<OwnedFd>,
}

/// A process and its group. Where it is dropped before it was waited for, the group is killed.
pub(crate) struct Process {
    child: Child,
    /// Tells that some child may have exited.
    child_signals: tokio::signal::unix::Signal,
    reaped: bool,
}

impl Process {
    /// Its process id, and that of its group.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has exited, and leaves it to the kernel: its number stays its own.
    pub(crate) async fn exited(&mut self) {
        while !self.reaped && matches!(wait::exited(Which::One(self.pid())), Ok(None)) {
            self.child_signals.recv().await;
        }
    }

    /// Kills its group, and waits for it.
    ///
    /// # Errors
    /// The kernel's; how it ended is not known then.
    pub(crate) async fn kill(&mut self) -> io::Result<ExitStatus> {
        if !self.reaped {
            self.signal_group(Signal::KILL);
        }
        self.exited().await;
        self.reap()
    }

    /// Takes it from the kernel once it has exited (else this waits, and blocks). Its number may be
    /// given to another process from then on, unless something of its group is left.
    ///
    /// # Errors
    /// The kernel's; how it ended is not known then.
    pub(crate) fn reap(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait();
        self.reaped = true;
        orphans::leave_own(self.pid());
        status
    }

    /// Signals its group. After [`reap`](Process::reap) only where
    /// [`group_exists`](Process::group_exists) holds.
    pub(crate) fn signal_group(&self, signal: Signal) {
        if let Some(group) = group(self.pid()) {
            // ESRCH: all of it is gone. EPERM: it changed its user, and we may not signal it.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Whether anything of its group is left; before [`reap`](Process::reap) always.
    pub(crate) fn group_exists(&self) -> bool {
        group(self.pid()).is_some_and(|group| test_kill_process_group(group).is_ok())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.signal_group(Signal::KILL);
        // Mostly it is gone at once. If not, it is left to the kernel, or to the task that waits
        // for orphans.
        let _ = self.child.try_wait();
        orphans::leave_own(self.pid());
    }
}

/// Variables of a service manager that are meant for us alone.
const PRIVATE: [&str; 3] = ["NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM"];

/// Beginnings of the names of more of them.
const PRIVATE_PREFIXES: [&str; 2] = ["WATCHDOG_", "LISTEN_"];

/// Starts a listener. Call it from a thread that lives as long as `serve`: the listener gets
/// SIGTERM when that thread ends (Linux). It gets `descriptor_limit` (soft, hard) as its limits on
/// open files.
///
/// # Errors
/// The kernel's; [`explain`] makes them readable.
pub(crate) fn spawn(
    command: &ListenerCommand,
    gateway: &str,
    control_url: Option<&str>,
    with_stdin: bool,
    descriptor_limit: Option<(u64, u64)>,
) -> io::Result<Spawned> {
    let [program, arguments @ ..] = &command.argv[..] else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"));
    };
    let mut process = Command::new(program);
    process
        .args(arguments)
        .current_dir(&command.directory)
        .stdin(if with_stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if PRIVATE.contains(&text.as_ref())
            || PRIVATE_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
        {
            process.env_remove(&name);
        }
    }
    process.env("WSGW_PROTOCOL", "1").env("WSGW_GATEWAY", gateway);
    match control_url {
        Some(url) => process.env("WSGW_CONTROL", url),
        None => process.env_remove("WSGW_CONTROL"),
    };
    if std::env::var_os("PYTHONUNBUFFERED").is_none() {
        process.env("PYTHONUNBUFFERED", "1");
    }
    // A program of select() must not inherit the limit that we raised for our clients.
    exec::prepare(&mut process, descriptor_limit);
    // Before it can exit; and a SIGCHLD that was ignored when we were started must not be.
    let child_signals = signal(SignalKind::child())?;
    let mut child = process.spawn()?;
    orphans::enter_own(child.id());
    let stdin = child.stdin.take().map(OwnedFd::from);
    let stdout = child.stdout.take().map(OwnedFd::from);
    let stderr = child.stderr.take().map(OwnedFd::from);
    let process = Process { child, child_signals, reaped: false };
    for pipe in [&stdin, &stdout, &stderr].into_iter().flatten() {
        rustix::io::ioctl_fionbio(pipe, true)?;
    }
    Ok(Spawned { process, stdin, stdout, stderr })
}

/// What a failed [`spawn`] means, for a person.
pub(crate) fn explain(error: &io::Error, command: &ListenerCommand) -> String {
    let program = command.argv.first().map(|p| p.to_string_lossy().into_owned());
    let program = program.unwrap_or_default();
    let directory = command.directory.display();
    match error.kind() {
        _ if !command.directory.is_dir() => format!("its directory {directory} does not exist"),
        io::ErrorKind::NotFound if program.contains('/') => format!(
            "there is no program {program} (relative paths count from {directory}), or the \
             interpreter in its first line does not exist"
        ),
        io::ErrorKind::NotFound if program.contains(char::is_whitespace) => format!(
            "there is no program {program:?} in PATH: give its words one by one (-- {program}), or \
             all as one string to a shell (--listener {program:?})"
        ),
        io::ErrorKind::NotFound => {
            format!(
                "there is no program {program:?} in PATH; for a file in {directory} write ./{program}"
            )
        }
        io::ErrorKind::PermissionDenied if command.directory.join(&program).is_dir() => {
            format!("{program} is a directory: name the program in it")
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "{program} is not executable: chmod +x it, or name its interpreter (python3 {program})"
            )
        }
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            format!("{program} cannot be executed: does its first line lack `#!`?")
        }
        _ => format!("{program}: {error}"),
    }
}

fn group(pid: u32) -> Option<Pid> {
    // 0 and 1 would mean our own group, or everybody.
    i32::try_from(pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::PathBuf;

    use super::*;

    fn command(argv: &[&str]) -> ListenerCommand {
        ListenerCommand {
            argv: argv.iter().map(Into::into).collect(),
            directory: PathBuf::from("/"),
        }
    }

    async fn output_of(script: &str) -> String {
        let mut spawned =
            spawn(&command(&["sh", "-c", script]), "chat", Some("http://x"), false, None).unwrap();
        spawned.process.exited().await;
        let mut text = String::new();
        // The child has exited: its output is in the pipe.
        std::fs::File::from(spawned.stdout.take().unwrap()).read_to_string(&mut text).unwrap();
        text
    }

    #[tokio::test]
    async fn it_has_our_variables_and_no_descriptor_of_ours() {
        let _ours = std::fs::File::open("/dev/null").unwrap();
        let text =
            output_of("echo $WSGW_PROTOCOL $WSGW_GATEWAY $WSGW_CONTROL; ls /proc/self/fd").await;
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("1 chat http://x"));
        // 3 is the directory that ls itself reads.
        assert_eq!(lines.collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    }

    #[tokio::test]
    async fn it_has_default_signals_and_leads_its_group() {
        let text = output_of("grep SigIgn /proc/$$/status; ps -o pgid= -p $$; echo $$").await;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(lines[0], "SigIgn:\t0000000000000000", "{text}");
        assert_eq!(lines[1], lines[2]);
    }

    #[tokio::test]
    async fn the_groups_number_stays_its_own_until_the_group_was_killed() {
        // The leader exits and leaves one behind, which holds the pipe open.
        let argv = command(&["sh", "-c", "sleep 60 & exit 3"]);
        let mut spawned = spawn(&argv, "chat", None, false, None).unwrap();
        let pid = spawned.process.pid();
        spawned.process.exited().await;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, state) = stat.rsplit_once(") ").unwrap();
        assert!(state.starts_with('Z'), "somebody waited for it already: {stat}");
        assert!(spawned.process.group_exists());
        assert_eq!(spawned.process.kill().await.unwrap().code(), Some(3));
        let mut stdout = std::fs::File::from(spawned.stdout.take().unwrap());
        rustix::io::ioctl_fionbio(&stdout, false).unwrap();
        assert_eq!(stdout.read(&mut [0]).unwrap(), 0, "the one that was left lives on");
        assert!(spawned.process.kill().await.is_ok(), "twice is fine");
    }

    #[test]
    fn errors_say_what_to_do() {
        let missing = command(&["no-such-program"]);
        let error = io::Error::from(io::ErrorKind::NotFound);
        assert!(explain(&error, &missing).contains("./no-such-program"));
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(explain(&error, &command(&["./x.py"])).contains("chmod +x"));
    }
}
