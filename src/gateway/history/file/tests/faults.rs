//! What is wrong with files, and what happens then.

use std::path::PathBuf;

use super::*;

#[test]
fn damaged_files_are_refused_and_left_alone() {
    let place = place();
    let (mut store, mut log) = open(&place.path, everything());
    for n in 0..100 {
        publish(&mut store, &mut log, &to(&["a"]), &format!("{n}{}", "x".repeat(500)));
    }
    store.close().unwrap();
    let good = std::fs::read(&place.path).unwrap();
    let mut middle = good.clone();
    middle[4096 * 6..4096 * 9].fill(0xab);
    let mut head = good.clone();
    head[..16].fill(b'-');
    for (what, bytes) in [
        ("garbage", vec![0xab; 20_000]),
        ("text", b"Dear diary, this is not a database at all.\n".repeat(100)),
        ("cut", good[..good.len() / 2].to_vec()),
        ("cut in a page", good[..5000].to_vec()),
        ("middle", middle),
        ("head", head),
    ] {
        std::fs::write(&place.path, &bytes).unwrap();
        let error = error(&place.path);
        assert!(error.contains("is damaged") && error.contains("move it away"), "{what}: {error}");
        assert!(error.contains("history.db"), "{what}: {error}");
        assert!(std::fs::read(&place.path).unwrap() == bytes, "{what} was changed");
    }
    std::fs::write(&place.path, good).unwrap();
    assert_eq!(open(&place.path, everything()).1.position().number, 100);
}

#[test]
fn newer_formats_and_databases_of_others_are_refused() {
    let place = place();
    open(&place.path, everything()).0.close().unwrap();
    let other = Connection::open(&place.path).unwrap();
    other.pragma_update(None, "user_version", 2).unwrap();
    drop(other);
    assert!(
        error(&place.path).contains("has format 2, and this version of wsgw knows formats up to 1")
    );
    let foreign = place.path.with_file_name("other.db");
    let other = Connection::open(&foreign).unwrap();
    other.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(1)").unwrap();
    assert!(error(&foreign).contains("another program"));
    assert_eq!(other.query_row("SELECT x FROM t", [], |row| row.get(0)), Ok(1));
}

#[test]
fn places_that_cannot_hold_a_file_are_refused() {
    let place = place();
    let dir = place.path.parent().unwrap();
    std::fs::create_dir(dir.join("locked.db-lock")).unwrap();
    for (path, reason) in [
        (dir.to_path_buf(), "not a regular file"),
        (dir.join("none/history.db"), "none: No such file"),
        (dir.join("locked.db"), "locked.db-lock for writing"),
        (PathBuf::from("/dev/null"), "not a regular file"),
        (PathBuf::from("/proc/history.db"), "/proc/history.db-lock for writing"),
        (PathBuf::from("/"), "not a regular file"),
    ] {
        let error = error(&path);
        assert!(error.contains(reason) && error.contains("the history file /"), "{error}");
    }
}

#[test]
fn a_full_disk_ends_the_epoch_even_if_the_program_is_killed_then() {
    let place = place();
    let (mut store, mut log) = open(&place.path, everything());
    let at = publish(&mut store, &mut log, &to(&["a"]), "x");
    let pages: i64 = store.connection.query_row("PRAGMA page_count", [], |r| r.get(0)).unwrap();
    let limit = |store: &Store, pages: i64| {
        store
            .connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .unwrap();
    };
    limit(&store, pages + 2);
    log.keep(&to(&["a"]), &Payload::text(&"x".repeat(50_000)), 1000).unwrap();
    let error = write(&mut store, &mut log).unwrap_err();
    assert!(error.contains("the disk is full"), "{error}");
    assert_eq!(rows(&place.path).len(), 1, "nothing of the batch is there");
    log.new_epoch();
    let second = log.position().epoch;
    store.new_epoch(second).unwrap();
    // Killed here: positions of the first epoch must not be served.
    drop(store);
    let (mut store, mut log) = open(&place.path, everything());
    assert!(log.position().epoch != at.epoch && log.position().epoch != second);
    // Once there is room it goes on by itself.
    limit(&store, 7);
    log.keep(&to(&["a"]), &Payload::text(&"x".repeat(50_000)), 1000).unwrap();
    write(&mut store, &mut log).unwrap_err();
    log.new_epoch();
    store.new_epoch(log.position().epoch).unwrap();
    limit(&store, 1000);
    let at = publish(&mut store, &mut log, &to(&["a"]), "y");
    assert_eq!(at.number, 1);
    drop(store);
    let (_store, mut log) = open(&place.path, everything());
    let replay = resume(&mut log, &["a"], Position { number: 0, ..at });
    assert_eq!((replay.recovered, bodies(&replay)), (Some(true), vec!["y"]));
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_no_end() {
    let place = place();
    // Blocks of 512 bytes: 200 KiB.
    let (mut child, lines) = child(&place.path, "trap '' XFSZ; ulimit -f 400;");
    let lines: Vec<String> = lines.take(2000).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    let positions: Vec<Position> = lines.iter().filter_map(|line| Position::parse(line)).collect();
    let failed: Vec<&String> =
        lines.iter().filter(|line| Position::parse(line).is_none()).collect();
    assert!(failed.iter().all(|line| line.contains("history.db cannot be used")), "{failed:?}");
    assert!(!failed.is_empty() && positions[0].number == 1);
    let (_store, log) = open(&place.path, everything());
    let last = Position::parse(lines.last().unwrap());
    match last {
        Some(last) => {
            assert!(log.position().epoch != positions[0].epoch || failed.is_empty(), "{last}")
        }
        None => assert_eq!(log.position().number, 0),
    }
}
