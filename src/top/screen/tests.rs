//! Pictures at several sizes.

use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use crate::top::keys::{Wish, wish};
use crate::top::model::Model;
use crate::top::screen::draw;

fn gateway(id: &str, connections: u64, rate: f64) -> Value {
    json!({
        "id": id, "state": "running", "listener": "up", "startup": "automatic",
        "address": "ws://127.0.0.1:10125", "connections": connections, "messages_in": 1,
        "messages_out": 2, "restarts": 0, "listener_pid": 7, "error": null,
        "rates": {"messages_in": rate, "messages_out": rate * 10.0, "bytes_in": 10.0,
                  "bytes_out": 1e6, "opened": 0.5},
        "listener_detail": {"command": "python3 chat.py", "since": "2026-11-27T10:00:00Z",
                            "window": 256, "unanswered": 3, "p50_ms": 0.3, "p99_ms": 12.0,
                            "answers": 99, "timeouts": 1, "faults": 0, "stderr": ["a\u{1b}[2Jb"]},
        "refused": [{"reason": "origin", "count": 4, "key": "allow-origin", "text": "Add the page."}],
        "queued": 0, "dropped": 1, "slow_consumers": 0, "channels": 2, "console": true
    })
}

fn model(gateways: Vec<Value>) -> Model {
    let watch = json!({
        "time": "2026-11-27T10:00:00Z", "version": "0.1.0", "pid": 1,
        "since": "2026-11-27T09:00:00Z", "health": "ok", "reasons": [], "gateways": gateways,
        "log": ["INFO one", "WARN \u{1b}]0;x\u{7}two"], "log_skipped": 0, "nodes": []
    });
    let mut model = Model::new(None);
    model.plain = true;
    let watch = serde_json::from_value(watch).unwrap();
    model.found("http://127.0.0.1:10124".to_owned(), watch, Instant::now());
    model
}

fn picture(model: &Model, width: u16, height: u16, later: Duration) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, Instant::now() + later)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
    (0..height).map(row).collect()
}

fn press(model: &mut Model, code: KeyCode) -> Wish {
    wish(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)), model)
}

#[test]
fn every_size_is_drawn() {
    let mut many: Vec<Value> =
        (0..40).map(|n| gateway(&format!("gateway-{n:02}"), n, 1.0)).collect();
    many[3]["error"] = json!("no such program\nsecond line");
    many[3]["last_error"] =
        json!({"at": "2026-11-27T10:00:00Z", "message": "bad\u{9b}", "stderr": ["x"]});
    for gateways in [vec![], vec![gateway("chat", 1, 1.0)], many] {
        let mut model = model(gateways);
        for key in ['?', '?', 'l', 'l', '\n', '\n'] {
            let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
            press(&mut model, code);
            for (width, height) in [(1, 1), (2, 9), (9, 2), (20, 5), (40, 10), (80, 24), (250, 80)]
            {
                let rows = picture(&model, width, height, Duration::ZERO);
                assert!(rows.iter().all(|row| !row.contains(char::is_control)), "{rows:?}");
            }
        }
    }
}

#[test]
fn a_small_terminal_shows_what_matters_most() {
    let rows = picture(&model(vec![gateway("chat", 17, 250.0)]), 40, 10, Duration::ZERO);
    assert!(rows[0].starts_with("wsgw ok"), "{rows:#?}");
    assert!(rows[1].contains("1/1 running  17 conns  in 250/s"), "{rows:#?}");
    assert!(rows[2].contains("GATEWAY") && rows[2].contains("OUT/S"), "{rows:#?}");
    assert!(rows[3].contains("chat") && rows[3].contains("running") && rows[3].contains("2500"));
    assert!(rows[9].contains("q quit  ? help"), "{rows:#?}");
}

#[test]
fn a_large_terminal_shows_all() {
    let text =
        picture(&model(vec![gateway("chat", 17, 250.0)]), 140, 50, Duration::ZERO).join("\n");
    for want in [
        "REFUSED",
        "ADDRESS",
        "ws://127.0.0.1:10125",
        "12ms",
        "3/256",
        "python3 chat.py",
        "pid 7",
        "p50 0.3ms  p99 12ms",
        "1 time-out",
        "4  origin  key: allow-origin  Add the page.",
        "2 channels  1 dropped message",
        r"a\x1b[2Jb",
        r"WARN \x1b]0;x\x07two",
        "max 250/s",
        "in 10 B/s  out 1 MB/s",
        "http://127.0.0.1:10124",
    ] {
        assert!(text.contains(want), "{want} in\n{text}");
    }
}

#[test]
fn keys_sort_and_select() {
    let mut model = model(vec![gateway("a", 1, 3.0), gateway("b", 3, 2.0), gateway("c", 2, 1.0)]);
    let order =
        |model: &Model| model.rows().iter().map(|g| g.status.id.clone()).collect::<String>();
    press(&mut model, KeyCode::Down);
    for (key, want) in
        [('n', "cba"), ('n', "abc"), ('c', "bca"), ('c', "acb"), ('i', "abc"), ('o', "abc")]
    {
        press(&mut model, KeyCode::Char(key));
        assert_eq!(order(&model), want, "{key}");
        assert_eq!(model.current().unwrap().status.id, "b", "what was selected stays so");
    }
    press(&mut model, KeyCode::End);
    assert_eq!(model.current().unwrap().status.id, "c");
    press(&mut model, KeyCode::Home);
    press(&mut model, KeyCode::Up);
    assert_eq!(model.current().unwrap().status.id, "a");
    assert_eq!(press(&mut model, KeyCode::Char('q')), Wish::Leave);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(wish(&Event::Key(interrupt), &mut model), Wish::Interrupt);
}

#[test]
fn what_is_old_is_said() {
    let mut model = model(vec![gateway("chat", 1, 1.0)]);
    let text = picture(&model, 80, 24, Duration::from_secs(7)).join("\n");
    assert!(text.contains("no news for 7s"), "{text}");
    model.lost("cannot reach \u{1b}it".to_owned());
    let text = picture(&model, 80, 24, Duration::from_secs(70)).join("\n");
    assert!(text.contains(r"serve is gone for 1m10s; trying again: cannot reach \x1bit"), "{text}");
    assert!(text.contains("chat"), "the last figures stay");
}

#[test]
fn the_selected_row_is_in_sight() {
    let mut model = model((0..100).map(|n| gateway(&format!("g{n:02}"), n, 1.0)).collect());
    press(&mut model, KeyCode::End);
    let text = picture(&model, 60, 12, Duration::ZERO).join("\n");
    assert!(text.contains("g99"), "{text}");
}
