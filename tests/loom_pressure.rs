//! The gate of `gateway::pressure` under loom: every interleaving of a shard that parks a connection
//! and of those who open the gate. A lost wake-up would leave a client unread for ever.

use loom::sync::atomic;

#[path = "../src/gateway/pressure.rs"]
#[allow(dead_code, unreachable_pub)]
mod pressure;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use pressure::{FRAMES_PER_SHARD, Gate, Pressure};

/// What a shard does at the end of a turn, and what is left: asleep with the gate open is a fault
/// unless somebody posted a wake-up.
fn check(pressure: &Pressure, gate: Gate, read_on: bool, woken: &AtomicBool) {
    let asleep = !read_on && !woken.load(Ordering::SeqCst);
    assert!(!(asleep && pressure.may_read(gate)), "a wake-up was lost");
}

#[test]
fn frames_that_are_sent_wake_a_shard_that_waits() {
    loom::model(|| {
        let gate = Gate { window: None };
        let pressure = Arc::new(Pressure::new(1));
        let woken = Arc::new(AtomicBool::new(false));
        pressure.frames_added(FRAMES_PER_SHARD);
        let sender = {
            let (pressure, woken) = (Arc::clone(&pressure), Arc::clone(&woken));
            thread::spawn(move || {
                pressure.frames_done(1);
                if pressure.wake_waiters(gate) {
                    woken.store(true, Ordering::SeqCst);
                }
            })
        };
        let read_on = pressure.wait_for_gate(gate);
        sender.join().unwrap();
        check(&pressure, gate, read_on, &woken);
    });
}

#[test]
fn answers_wake_a_shard_that_waits() {
    loom::model(|| {
        let gate = Gate { window: Some(16) };
        let pressure = Arc::new(Pressure::new(2));
        let woken = Arc::new(AtomicBool::new(false));
        pressure.publish(true, 15, 0);
        // One message is under way to the primary, which takes it in and has its answer.
        pressure.message_posted();
        let primary = {
            let (pressure, woken) = (Arc::clone(&pressure), Arc::clone(&woken));
            thread::spawn(move || {
                pressure.message_taken(16);
                pressure.publish(false, 15, 0);
                if pressure.wake_waiters(gate) {
                    woken.store(true, Ordering::SeqCst);
                }
            })
        };
        let read_on = pressure.wait_for_gate(gate);
        primary.join().unwrap();
        check(&pressure, gate, read_on, &woken);
    });
}

#[test]
fn a_message_that_is_handed_over_is_never_missing_from_the_sum() {
    loom::model(|| {
        let gate = Gate { window: Some(16) };
        let pressure = Arc::new(Pressure::new(2));
        pressure.publish(false, 15, 0);
        pressure.message_posted();
        let primary = {
            let pressure = Arc::clone(&pressure);
            thread::spawn(move || pressure.message_taken(16))
        };
        assert!(!pressure.may_read(gate), "sixteen are ahead, whoever holds them");
        primary.join().unwrap();
        assert!(!pressure.may_read(gate));
    });
}
