use std::cell::Cell;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;

use super::*;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.get())
}

fn open(directory: &Path) -> (Daily, mpsc::Receiver<String>) {
    let (complaints, heard) = mpsc::channel();
    let complain = Box::new(move |text: &str| complaints.send(text.to_owned()).unwrap());
    (Daily::open_with(directory, Arc::default(), complain, now).unwrap(), heard)
}

fn ours(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name());
    let mut names: Vec<_> = names.filter_map(|n| n.into_string().ok()).collect();
    names.retain(|name| is_ours(name));
    names.sort();
    names
}

#[test]
fn each_day_has_its_file_and_the_link_leads_to_the_newest() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let text = |name: &str| fs::read_to_string(at(name)).unwrap();
    let day = 20_000;
    NOW.set(day * DAY);
    fs::write(at(LINK), "another program's").unwrap();
    fs::write(at("WebSocketServer.log"), "another program's").unwrap();
    let (mut log, _) = open(directory.path());
    for n in 0..20 {
        NOW.set((day + n) * DAY + 5);
        log.write_all(format!("{n}\n").as_bytes()).unwrap();
        assert_eq!(text(LINK), format!("{n}\n"));
    }
    let kept = ours(directory.path());
    assert_eq!(kept.len(), KEPT);
    assert_eq!(kept[0], "WebSocket.2024-10-10.log");
    assert_eq!(text(&kept[0]), "6\n");
    // A start on the same day removes none and appends.
    let (mut again, _) = open(directory.path());
    again.write_all(b"again\n").unwrap();
    assert_eq!(ours(directory.path()), kept);
    assert_eq!(text(LINK), "19\nagain\n");
    assert_eq!(text("WebSocketServer.log"), "another program's");
    assert_eq!(text(&format!("{LINK}.{}.old", std::process::id())), "another program's");
}

#[test]
fn a_clock_that_is_wrong_for_a_moment_costs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let link = || fs::read_to_string(directory.path().join(LINK)).unwrap();
    let day = 20_000;
    NOW.set(day * DAY);
    let (mut log, _) = open(directory.path());
    for n in 0..20 {
        NOW.set((day + n) * DAY);
        log.write_all(b"right\n").unwrap();
    }
    let before = ours(directory.path());
    // Far in the future, and at the beginning of time.
    for wrong in [100_000, 0, u64::MAX / DAY / 100] {
        NOW.set(wrong * DAY);
        log.write_all(b"wrong\n").unwrap();
        assert_eq!(link(), "wrong\n");
        NOW.set((day + 19) * DAY);
        log.write_all(b"back\n").unwrap();
        assert!(link().starts_with("right\nback\n"), "{}", link());
    }
    let after = ours(directory.path());
    assert!(before.iter().all(|name| after.contains(name)), "{before:?} {after:?}");
    // However many there are of a wrong future: today's file and those before it stay.
    for n in 0..50 {
        NOW.set((100_000 + n) * DAY);
        log.write_all(b"wrong\n").unwrap();
        NOW.set((day + 19) * DAY);
        log.write_all(b"back\n").unwrap();
    }
    let after = ours(directory.path());
    assert!(before.iter().all(|name| after.contains(name)), "{before:?} {after:?}");
    NOW.set((day + 20) * DAY);
    log.write_all(b"tomorrow\n").unwrap();
    let after = ours(directory.path());
    assert!(before[KEPT - KEPT_UP_TO_TODAY + 1..].iter().all(|n| after.contains(n)), "{after:?}");
    assert!(after.len() < KEPT + KEPT_UP_TO_TODAY);
}

#[test]
fn whatever_others_do_to_the_files_the_log_is_made_anew_or_it_is_said() {
    NOW.set(20_000 * DAY);
    let directory = tempfile::tempdir().unwrap();
    let logs = directory.path().join("logs");
    let (mut log, complaints) = open(&logs);
    let file = logs.join(name_of(20_000));
    let link = || fs::read_to_string(logs.join(LINK)).unwrap();
    let write = |log: &mut Daily, text: &str| {
        log.look_now.store(true, Ordering::Release);
        log.write_all(format!("{text}\n").as_bytes())
    };
    write(&mut log, "first").unwrap();
    let moved = directory.path().join("moved");
    fs::rename(&file, &moved).unwrap();
    write(&mut log, "moved").unwrap();
    assert_eq!(link(), "moved\n");
    fs::remove_file(&file).unwrap();
    write(&mut log, "removed").unwrap();
    assert_eq!(link(), "removed\n");
    fs::remove_dir_all(&logs).unwrap();
    write(&mut log, "no directory").unwrap();
    assert_eq!(link(), "no directory\n");
    // As logrotate's `copytruncate` does it.
    OpenOptions::new().write(true).truncate(true).open(&file).unwrap();
    write(&mut log, "truncated").unwrap();
    assert_eq!(link(), "truncated\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o0)).unwrap();
    write(&mut log, "chmod").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(link(), "truncated\nchmod\n");
    fs::remove_file(logs.join(LINK)).unwrap();
    write(&mut log, "no link").unwrap();
    assert_eq!(link(), "truncated\nchmod\nno link\n");
    assert!(complaints.try_recv().is_err());
    // What cannot be replaced is said, once, and what is lost is an error that is counted.
    type Put = fn(&Path);
    let surprises: [(Put, &str); 3] = [
        (|at| fs::create_dir(at).unwrap(), "Is a directory"),
        (|at| symlink("/dev/full", at).unwrap(), "it is a device, not a regular file"),
        (
            |at| {
                let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
                rustix::fs::mknodat(rustix::fs::CWD, at, kind, mode, 0).unwrap();
            },
            "No such device or address",
        ),
    ];
    for (put, why) in surprises {
        fs::remove_file(&file).unwrap();
        put(&file);
        assert!(write(&mut log, "lost").is_err());
        assert!(write(&mut log, "lost").is_err());
        let said = complaints.try_recv().unwrap();
        assert!(said.contains(why) && said.contains("lines are lost"), "{said}");
        assert!(complaints.try_recv().is_err(), "it was said twice");
        fs::remove_file(&file).or_else(|_| fs::remove_dir(&file)).unwrap();
        write(&mut log, why).unwrap();
        assert_eq!(link(), format!("{why}\n"));
    }
    // A file that was moved goes on where none can be made in its place.
    fs::rename(&file, &moved).unwrap();
    fs::create_dir(&file).unwrap();
    write(&mut log, "in the moved file").unwrap();
    assert!(fs::read_to_string(&moved).unwrap().ends_with("in the moved file\n"));
    assert!(complaints.try_recv().unwrap().contains("the file that was open goes on"));
}
