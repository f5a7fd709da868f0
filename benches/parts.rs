//! What one message costs in the gateway's own code, part by part: `cargo bench`.
//!
//! The kernel's `send` to each client costs microseconds; these have to stay far below that.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use wsgw::gateway::history::{Limits, Log, Store};
use wsgw::listener::protocol::answer;
use wsgw::listener::protocol::answer::Line;
use wsgw::listener::protocol::channel::Channel;
use wsgw::listener::protocol::connid::ConnId;
use wsgw::listener::protocol::event;
use wsgw::listener::protocol::event::Body;
use wsgw::listener::protocol::push::Push;
use wsgw::listener::protocol::target::Target;
use wsgw::listener::recipients::{ChannelTarget, Recipients, resolve_recipients};
use wsgw::text::position::Epoch;
use wsgw::ws::decoder;
use wsgw::ws::frame;
use wsgw::ws::payload::Payload;

/// A client's text frame, masked.
fn from_client(payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut bytes = vec![0x81];
    match payload.len() {
        n @ 0..126 => bytes.push(0x80 | n as u8),
        n @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]));
    bytes
}

fn frames(c: &mut Criterion) {
    for size in [128, 64 * 1024] {
        let payload = "x".repeat(size);
        let mut group = c.benchmark_group(format!("frame/{size}"));
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function("encode", |b| b.iter(|| frame::text(black_box(&payload))));
        let bytes = from_client(payload.as_bytes());
        group.bench_function("read", |b| {
            b.iter_batched_ref(
                || bytes.clone(),
                |bytes| black_box(decoder::next(bytes, &mut None, 1 << 20, None)),
                BatchSize::SmallInput,
            );
        });
    }
}

fn events(c: &mut Criterion) {
    let text = "x".repeat(128);
    let mut out = Vec::with_capacity(1024);
    c.bench_function("event/message", |b| {
        b.iter(|| {
            out.clear();
            event::message(&mut out, 123_456, ConnId(99), Body::Text(black_box(&text)), &[]);
        });
    });
    c.bench_function("event/binary", |b| {
        b.iter(|| {
            out.clear();
            event::message(&mut out, 123_456, ConnId(99), Body::Binary(text.as_bytes()), &[]);
        });
    });
    let push = br#"{"message":"backup done","room":"ops","connections":["k3","k9"]}"#;
    c.bench_function("push/parse", |b| b.iter(|| Push::parse(black_box(push))));
}

fn answers(c: &mut Criterion) {
    let text = "x".repeat(128);
    let mut echo = Vec::new();
    event::message(&mut echo, 123_456, ConnId(99), Body::Text(&text), &[]);
    echo.pop();
    let lines = [
        ("echo, parsed", echo.clone()),
        ("id alone", br#"{"id":123456}"#.to_vec()),
        ("other text", format!(r#"{{"id":123456,"message":"{text}"}}"#).into_bytes()),
        ("escaped text", format!(r#"{{"id":123456,"message":"\u00e9\n{text}"}}"#).into_bytes()),
    ];
    for (name, line) in &lines {
        c.bench_function(&format!("answer/{name}"), |b| {
            b.iter(|| match answer::parse(black_box(line)) {
                Line::Answer(id, fields) => {
                    let _ = black_box((id, fields.message(false)));
                }
                other => panic!("{other:?}"),
            });
        });
    }
    // What an echo costs in truth: its id is read, and the line compared with the event's.
    c.bench_function("answer/echo", |b| {
        b.iter(|| {
            let (id, _) = answer::leading_id(black_box(&echo)).unwrap_or_default();
            black_box((id, echo[..] == black_box(&echo)[..]))
        });
    });
}

fn routing(c: &mut Criterion) {
    for count in [1_u64, 100, 10_000] {
        let names: Vec<String> = (0..count).map(|n| ConnId(n * 7).to_string()).collect();
        let list = serde_json::to_string(&names).unwrap_or_default();
        let line = format!(r#"{{"id":1,"connections":{list}}}"#).into_bytes();
        let mut group = c.benchmark_group(format!("route/{count}"));
        group.throughput(Throughput::Elements(count));
        group.bench_function("from the line", |b| {
            b.iter(|| {
                let Line::Answer(_, fields) = answer::parse(black_box(&line)) else { return };
                let Ok(answer) = fields.message(false) else { return };
                let target = answer.lists.target.as_ref();
                black_box(resolve_recipients(target, &[], |_| Recipients::All));
            });
        });
        let target = Target::Connections(names);
        group.bench_function("from the names", |b| {
            b.iter(|| {
                black_box(resolve_recipients(Some(black_box(&target)), &[], |_| Recipients::All))
            });
        });
    }
    let frame = frame::text("hello");
    c.bench_function("frame/share", |b| b.iter(|| Bytes::clone(black_box(&frame))));
}

/// Messages of 128 bytes to `channels` channels in turn, each of which keeps 100.
fn history(c: &mut Criterion) {
    let limits =
        Limits { channels: vec![("*".into(), 100)], broadcast: 0, age_ms: 0, bytes: 1 << 30 };
    let payload = Payload::text(&"x".repeat(128));
    for channels in [1, 1000] {
        let to: Vec<Recipients> = (0..channels)
            .filter_map(|n| Channel::parse(&format!("room.{n}")))
            .map(|channel| ChannelTarget::recipients(vec![channel], Vec::new()))
            .collect();
        let mut log = Log::new(Epoch::random(), limits.clone());
        let mut group = c.benchmark_group(format!("history/{channels}"));
        let mut n = 0;
        let mut keep = |log: &mut Log| {
            n += 1;
            black_box(log.keep(&to[n % to.len()], &payload, 0));
        };
        group.bench_function("keep", |b| b.iter(|| keep(&mut log)));
        let Ok(dir) = tempfile::tempdir() else { return };
        let opened = Store::open(&dir.path().join("history.db"), limits.clone(), 0);
        let (mut store, mut log) = opened.expect("a new file");
        for batch in [1, 1000] {
            group.throughput(Throughput::Elements(batch));
            group.bench_function(format!("file, {batch} in a transaction"), |b| {
                b.iter(|| {
                    (0..batch).for_each(|_| keep(&mut log));
                    let batch = log.take_batch().expect("it has a file");
                    store.write(&batch).expect("a file that can be written");
                });
            });
        }
    }
}

criterion_group!(benches, frames, events, answers, routing, history);
criterion_main!(benches);
