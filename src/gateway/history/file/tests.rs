//! Histories in files: what stands after what end.

mod faults;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::super::{Ask, Replay};
use super::*;
use crate::listener::protocol::channel::Channel;
use crate::listener::recipients::{ChannelTarget, Recipients};
use crate::text::position::{Position, Since};
use crate::ws::payload::Payload;

/// Names the file that a child process of a test uses.
const CHILD: &str = "WSGW_TEST_HISTORY";

fn limits(channels: &[(&str, usize)], broadcast: usize) -> Limits {
    let channels = channels.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    Limits { channels, broadcast, age_ms: 0, bytes: 1 << 30 }
}

fn everything() -> Limits {
    limits(&[("*", 1000)], 1000)
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

fn to(names: &[&str]) -> Recipients {
    ChannelTarget::recipients(names.iter().map(|name| channel(name)).collect(), Vec::new())
}

struct Place {
    _dir: TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.db");
    Place { _dir: dir, path }
}

fn open(path: &Path, limits: Limits) -> (Store, Log) {
    Store::open(path, limits, 1000).unwrap()
}

fn error(path: &Path) -> String {
    Store::open(path, everything(), 1000).map(|_| ()).unwrap_err()
}

fn write(store: &mut Store, log: &mut Log) -> Result<(), String> {
    store.write(&log.take_batch().unwrap())
}

fn publish(store: &mut Store, log: &mut Log, to: &Recipients, text: &str) -> Position {
    let at = log.keep(to, &Payload::text(text), 1000).unwrap();
    write(store, log).unwrap();
    at
}

fn resume(log: &mut Log, channels: &[&str], since: Position) -> Replay {
    let channels: Vec<Channel> = channels.iter().map(|name| channel(name)).collect();
    let newest = log.position().number;
    let ask = Ask {
        channels: &channels,
        all: true,
        since: Some(Since::After(since)),
        newest,
        fallback: None,
        max_bytes: 1 << 30,
        max_messages: 10_000,
    };
    log.replay(&ask, 1000)
}

fn bodies(replay: &Replay) -> Vec<&str> {
    replay.messages.iter().map(|kept| kept.payload.as_text().unwrap_or("binary")).collect()
}

fn rows(path: &Path) -> Vec<(i64, Option<String>, i64, i64)> {
    let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut rows = reader.prepare("SELECT seq, channel, at, binary FROM messages").unwrap();
    let read = rows.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))).unwrap();
    read.map(Result::unwrap).collect()
}

/// Runs `child_of_other_tests` in a process of its own, behind these words of a shell.
fn child(path: &Path, shell: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    let test = format!("{}::child_of_other_tests", module_path!().trim_start_matches("wsgw::"));
    let mut child = Command::new("sh")
        .args(["-c", &format!("{shell} exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args([&test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    (child, lines.filter_map(|line| line.strip_prefix("child ").map(str::to_owned)))
}

/// Publishes without an end, and prints each position once it is in the file.
#[test]
fn child_of_other_tests() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let (mut store, mut log) = open(Path::new(&path), everything());
    // The harness has begun a line.
    println!();
    for n in 0.. {
        let text = format!("{n}{}", "x".repeat(1000));
        let position = log.keep(&to(&["a"]), &Payload::text(&text), 1000).unwrap();
        match write(&mut store, &mut log) {
            Ok(()) => println!("child {position}"),
            Err(error) => {
                log.new_epoch();
                store.new_epoch(log.position().epoch).unwrap();
                println!("child {error}");
            }
        }
    }
}

#[test]
fn positions_and_messages_stand_after_sigkill() {
    let place = place();
    let (mut child, lines) = child(&place.path, "");
    let printed: Vec<String> = lines.take(300).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    let last = Position::parse(&printed[299]).unwrap();
    assert_eq!(last.number, 300);
    let (_store, mut log) = open(&place.path, everything());
    assert_eq!(log.position().epoch, last.epoch);
    assert!(log.position().number >= 300);
    let replay = resume(&mut log, &["a"], Position { number: 250, ..last });
    assert_eq!(replay.recovered, Some(true));
    let first: Vec<bool> = bodies(&replay)
        .iter()
        .zip(250..)
        .map(|(body, n)| body.starts_with(&format!("{n}x")))
        .collect();
    assert!(first.len() >= 50 && first.iter().all(|good| *good));
}

#[test]
fn a_file_is_for_one_history_at_a_time() {
    let place = place();
    let (mut other, mut lines) = child(&place.path, "");
    lines.next().unwrap();
    assert!(error(&place.path).contains("in use by another gateway or another wsgw serve"));
    other.kill().unwrap();
    other.wait().unwrap();
    let (mut store, mut log) = open(&place.path, everything());
    assert!(error(&place.path).contains("in use by another"));
    let link = place.path.with_file_name("link");
    std::os::unix::fs::symlink(&place.path, &link).unwrap();
    assert!(error(&link).contains("in use by another"), "by another name");
    // What was refused has not taken anything from the one that has it.
    publish(&mut store, &mut log, &to(&["a"]), "x");
    assert!(error(&place.path).contains("in use by another"));
    drop(store);
    open(&place.path, everything());
}

#[test]
fn all_kinds_of_messages_come_back() {
    let place = place();
    let (mut store, mut log) = open(&place.path, everything());
    let start = log.position();
    assert_eq!(start.number, 0);
    publish(&mut store, &mut log, &to(&["a", "b"]), "\u{e4}\0\n");
    log.keep(&Recipients::All, &Payload::binary(&[0, 255]), 2000).unwrap();
    log.keep(&to(&["b"]), &Payload::text(""), 3000).unwrap();
    write(&mut store, &mut log).unwrap();
    assert_eq!(
        rows(&place.path),
        [
            (1, Some("a".into()), 1000, 0),
            (1, Some("b".into()), 1000, 0),
            (2, None, 2000, 1),
            (3, Some("b".into()), 3000, 0)
        ]
    );
    let before = resume(&mut log, &["a", "b"], start);
    assert_eq!((before.recovered, before.messages.len()), (Some(true), 3));
    store.close().unwrap();
    let (_store, mut log) = open(&place.path, everything());
    assert_eq!(resume(&mut log, &["a", "b"], start), before);
    assert_eq!(log.position(), Position { number: 3, ..start });
}

#[test]
fn what_was_evicted_stays_evicted_after_a_restart() {
    let place = place();
    let few = limits(&[("a", 2), ("b", 2)], 1);
    let (mut store, mut log) = open(&place.path, few.clone());
    let start = log.position();
    for n in 1..=3 {
        publish(&mut store, &mut log, &to(&["a"]), &format!("a{n}"));
    }
    publish(&mut store, &mut log, &to(&["b"]), "b");
    publish(&mut store, &mut log, &Recipients::All, "all");
    publish(&mut store, &mut log, &Recipients::All, "all");
    assert_eq!(rows(&place.path).len(), 4, "evicted rows are deleted");
    drop((store, log));
    for _ in 0..2 {
        let (store, mut log) = open(&place.path, few.clone());
        for (number, recovered) in [(0, false), (1, false), (4, false), (5, true)] {
            let replay = resume(&mut log, &["a", "b"], Position { number, ..start });
            assert_eq!(replay.recovered, Some(recovered), "{number}");
        }
        let channels = [channel("a"), channel("b")];
        let ask =
            Ask { channels: &channels, all: false, ..ask_all(Position { number: 1, ..start }) };
        assert_eq!(bodies(&log.replay(&ask, 1000)), ["a2", "a3", "b"]);
        let ask = Ask { channels: &channels, all: false, ..ask_all(start) };
        assert_eq!(log.replay(&ask, 1000).recovered, Some(false));
        let ask = Ask { channels: &channels[1..], all: false, ..ask_all(start) };
        assert_eq!(log.replay(&ask, 1000).recovered, Some(true));
        drop(store);
    }
    // Of a channel that holds nothing any more, too.
    let (store, _) = open(&place.path, limits(&[("b", 2), ("a", 0)], 1));
    store.close().unwrap();
    let (_store, mut log) = open(&place.path, limits(&[("b", 2)], 1));
    let channels = [channel("a")];
    let ask = Ask { channels: &channels, all: false, ..ask_all(start) };
    log.set_limits(few);
    assert_eq!(log.replay(&ask, 1000).recovered, Some(false));
}

fn ask_all(since: Position) -> Ask<'static> {
    Ask {
        channels: &[],
        all: true,
        since: Some(Since::After(since)),
        newest: u64::MAX,
        fallback: None,
        max_bytes: 1 << 30,
        max_messages: 10_000,
    }
}

#[test]
fn channels_that_were_not_kept_before_are_not_recovered() {
    let place = place();
    let (mut store, mut log) = open(&place.path, limits(&[("a", 9)], 0));
    let at = publish(&mut store, &mut log, &to(&["a"]), "1");
    assert_eq!(log.keep(&to(&["b"]), &Payload::text("lost"), 1000), None);
    store.close().unwrap();
    let (store, mut log) = open(&place.path, limits(&[("a", 9), ("b", 9)], 0));
    assert_eq!(resume(&mut log, &["a"], at).recovered, Some(true));
    assert_eq!(resume(&mut log, &["a", "b"], at).recovered, Some(false));
    let later = log.position();
    assert_ne!(later, at);
    drop(store);
    let (_store, mut log) = open(&place.path, limits(&[("a", 9), ("b", 9)], 0));
    assert_eq!(log.position(), later, "the same limits again change nothing");
    assert_eq!(resume(&mut log, &["a", "b"], at).recovered, Some(false));
    assert_eq!(resume(&mut log, &["a", "b"], later).recovered, Some(true));
}

#[test]
fn only_a_clean_end_outlasts_the_machine() {
    let place = place();
    let open_in = |boot| Store::open_in_boot(&place.path, everything(), 1000, boot).unwrap();
    let (mut store, mut log) = open_in(Some("one"));
    let first = publish(&mut store, &mut log, &to(&["a"]), "x");
    drop(store);
    let (store, log) = open_in(Some("one"));
    assert_eq!(log.position(), first, "a crash of the program");
    store.close().unwrap();
    let (store, log) = open_in(Some("two"));
    assert_eq!(log.position(), first, "a clean end, then another boot");
    drop(store);
    let (mut store, mut log) = open_in(Some("three"));
    assert_ne!(log.position().epoch, first.epoch, "no clean end, and another boot");
    assert_eq!((log.position().number, rows(&place.path).len()), (0, 0));
    let second = publish(&mut store, &mut log, &to(&["a"]), "x");
    drop(store);
    let (store, log) = open_in(None);
    assert_ne!(log.position().epoch, second.epoch, "the boot is not known");
    drop(store);
    // What lies there after the machine went down may be damaged.
    let (mut store, mut log) = open_in(Some("four"));
    publish(&mut store, &mut log, &to(&["a"]), "x");
    drop(store);
    std::fs::write(&place.path, [7; 50_000]).unwrap();
    let (_store, log) = open_in(Some("five"));
    assert_eq!(log.position().number, 0);
}

#[test]
fn without_its_lock_file_a_database_is_not_continued() {
    let place = place();
    let (mut store, mut log) = open(&place.path, everything());
    let at = publish(&mut store, &mut log, &to(&["a"]), "x");
    store.close().unwrap();
    std::fs::remove_file(place.path.with_file_name("history.db-lock")).unwrap();
    let (_store, log) = open(&place.path, everything());
    assert_ne!(log.position().epoch, at.epoch);
}

#[test]
fn others_read_it_while_it_is_open_and_do_not_hinder_it() {
    let place = place();
    let (mut store, mut log) = open(&place.path, everything());
    publish(&mut store, &mut log, &to(&["a"]), "hi");
    let script = "import sqlite3, sys\n\
        db = sqlite3.connect(sys.argv[1])\n\
        print(db.execute('SELECT seq, channel, binary, body FROM messages').fetchall())";
    let read = || {
        let out = Command::new("python3").args(["-c", script]).arg(&place.path).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    assert_eq!(read(), "[(1, 'a', 0, 'hi')]\n");
    // A reader that does not end, in this process.
    let reader =
        Connection::open_with_flags(&place.path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM messages").unwrap();
    for _ in 0..20 {
        for _ in 0..1000 {
            log.keep(&to(&["a"]), &Payload::text(&"x".repeat(400)), 1000).unwrap();
        }
        write(&mut store, &mut log).unwrap();
    }
    reader.execute_batch("COMMIT").unwrap();
    drop(reader);
    assert!(error(&place.path).contains("in use by another"));
    assert_eq!(read().matches("(").count(), 1000);
    store.close().unwrap();
    assert!(!place.path.with_file_name("history.db-wal").exists());
    assert_eq!(read().matches("(").count(), 1000);
}

#[test]
fn the_wal_is_bounded_while_batches_come() {
    let place = place();
    let (mut store, mut log) = open(&place.path, limits(&[("*", 500)], 0));
    let payload = Payload::text(&"x".repeat(1000));
    let mut most = 0;
    for _ in 0..80 {
        for n in 0..1000 {
            log.keep(&to(&[&format!("c{}", n % 7)]), &payload, 1000).unwrap();
        }
        write(&mut store, &mut log).unwrap();
        let wal = std::fs::metadata(place.path.with_file_name("history.db-wal")).unwrap().len();
        most = most.max(wal);
    }
    assert!(most < 16 << 20, "{most}");
    assert_eq!(rows(&place.path).len(), 3500);
}

#[test]
fn a_vacuum_by_another_program_changes_nothing() {
    let place = place();
    let (mut store, mut log) = open(&place.path, limits(&[("*", 3)], 0));
    for _ in 0..5 {
        publish(&mut store, &mut log, &to(&["a", "b"]), "x");
    }
    let other = Connection::open(&place.path).unwrap();
    other.execute_batch("VACUUM").unwrap();
    drop(other);
    let at = publish(&mut store, &mut log, &to(&["b"]), "x");
    drop(store);
    let (mut store, mut log) = open(&place.path, limits(&[("*", 3)], 0));
    let held = |log: &mut Log, name| log.channel(name, 1000).unwrap().messages;
    assert_eq!((log.position(), held(&mut log, "a"), held(&mut log, "b")), (at, 3, 3));
    assert_eq!(rows(&place.path).len(), 6);
    publish(&mut store, &mut log, &to(&["a", "b"]), "x");
    assert_eq!(rows(&place.path).len(), 6);
}
