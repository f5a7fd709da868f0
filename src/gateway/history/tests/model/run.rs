//! Random steps, carried out on a log and on the model, with a restart from a file's rows now and then.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::gateway::history::batch::{self, Row};
use crate::gateway::history::limits::SavedLimits;
use crate::gateway::history::restore::{Restoring, Saved};
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::{ChannelTarget, Recipients};

#[derive(Debug, Clone)]
enum Step {
    /// To these channels; to all if there is none.
    Publish(Vec<usize>, usize),
    Private,
    Wait(u64),
    Limits(Limits),
    Replay {
        channels: Vec<usize>,
        all: bool,
        since: Asked,
        fallback: Asked,
        back: u64,
        most: (usize, usize),
    },
    Query {
        channels: Option<Vec<usize>>,
        since: Asked,
        most: (usize, usize),
    },
    NewEpoch,
    Restart(Limits),
}

#[derive(Debug, Clone)]
enum Asked {
    Nothing,
    Newest(u64),
    Span(u64),
    Position(Index),
    OtherEpoch,
}

/// What a file would hold.
struct Disk {
    rows: BTreeMap<u64, Row>,
    floors: HashMap<Option<Channel>, u64>,
    rest: u64,
    newest: u64,
    epoch: Epoch,
    limits: SavedLimits,
}

impl Disk {
    fn write(&mut self, batch: Batch) {
        if batch.epoch != self.epoch {
            self.epoch = batch.epoch;
            self.rows.clear();
            self.floors.clear();
            self.rest = 0;
        }
        self.newest = batch.newest;
        self.rows.extend(batch.rows.into_iter().map(|row| (row.id, row)));
        for id in &batch.evicted {
            assert!(self.rows.remove(id).is_some(), "evicted twice, or never kept");
        }
        for (channel, floor) in batch.floors {
            match floor {
                Some(floor) => self.floors.insert(channel, floor),
                None => self.floors.remove(&channel),
            };
        }
        self.rest = batch.rest.unwrap_or(self.rest);
        if let Some(limits) = batch.limits {
            self.limits = limits;
        }
    }

    fn check(&self, model: &Model) {
        let mut expected: Vec<(u64, Option<Channel>)> = Vec::new();
        for sent in model.held() {
            expected.extend(sent.holders.iter().map(|holder| (sent.number, holder.clone())));
        }
        let rows = self.rows.values().map(|row| (batch::number_of(row.id), row.channel.clone()));
        let mut rows: Vec<_> = rows.collect();
        rows.sort();
        expected.sort();
        assert_eq!(rows, expected);
        assert_eq!((self.epoch, self.newest), (model.epoch, model.newest));
    }

    fn restore(&self, limits: Limits, now: u64) -> Log {
        let mut restoring = Restoring::new(Saved {
            epoch: self.epoch,
            newest: self.newest,
            limits: self.limits.clone(),
            floors: self.floors.clone(),
            rest: self.rest,
        });
        let mut rows: Vec<&Row> = self.rows.values().collect();
        while let Some(first) = rows.first().copied() {
            let number = batch::number_of(first.id);
            let count = rows.partition_point(|row| batch::number_of(row.id) == number);
            let of_message: Vec<_> = rows
                .drain(..count)
                .map(|row| (batch::index_of(row.id), row.channel.clone()))
                .collect();
            restoring.message((number, first.at), first.payload.clone(), &of_message);
        }
        restoring.finish(limits, now)
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        Just(Asked::Nothing),
        (0..6_u64).prop_map(Asked::Newest),
        (0..60_u64).prop_map(Asked::Span),
        any::<Index>().prop_map(Asked::Position),
        any::<Index>().prop_map(Asked::Position),
        any::<Index>().prop_map(Asked::Position),
        Just(Asked::OtherEpoch),
    ]
}

fn some_limits() -> impl Strategy<Value = Limits> {
    let pattern =
        prop_oneof![Just("*"), Just("a*"), Just("a.*"), Just("*.1"), Just("b"), Just("c")];
    let age = prop_oneof![Just(0_u64), 5..50_u64];
    let bytes = prop_oneof![Just(1 << 20), 0..4000_usize];
    (vec((pattern, 0..6_usize), 0..4), 0..4_usize, age, bytes).prop_map(
        |(patterns, broadcast, age_ms, bytes)| Limits {
            age_ms,
            bytes,
            ..limits(&patterns, broadcast)
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let names = || vec(0..NAMES.len(), 0..4);
    let most = || {
        let messages = prop_oneof![Just(1000_usize), 0..8_usize];
        (messages, prop_oneof![Just(1 << 20), 0..1000_usize])
    };
    let replay =
        (names(), any::<bool>(), asked(), asked(), prop_oneof![Just(0_u64), 0..4_u64], most());
    prop_oneof![
        12 => (names(), 0..300_usize).prop_map(|(names, length)| Step::Publish(names, length)),
        1 => Just(Step::Private),
        2 => (1..20_u64).prop_map(Step::Wait),
        1 => some_limits().prop_map(Step::Limits),
        6 => replay.prop_map(|(channels, all, since, fallback, back, most)| {
            Step::Replay { channels, all, since, fallback, back, most }
        }),
        2 => (proptest::option::of(names()), asked(), most())
            .prop_map(|(channels, since, most)| Step::Query { channels, since, most }),
        1 => some_limits().prop_map(Step::Restart),
        1 => (0..4).prop_map(|n| if n == 0 { Step::NewEpoch } else { Step::Private }),
    ]
}

struct Run {
    log: Log,
    model: Model,
    disk: Disk,
    now: u64,
}

impl Run {
    fn new(limits: Limits) -> Run {
        let mut log = Log::new(Epoch::random(), limits.clone());
        let epoch = log.position().epoch;
        log.batch = Some(Batch::new(epoch, 0));
        let (rows, floors) = Default::default();
        let saved = log.changes.save(&limits);
        let disk = Disk { rows, floors, rest: 0, newest: 0, epoch, limits: saved };
        Run { log, model: Model::new(limits, epoch), disk, now: 1000 }
    }

    fn since(&self, asked: &Asked) -> Option<Since> {
        // One ahead of the newest is among them.
        let newest = self.model.newest as usize;
        let (epoch, number) = match asked {
            Asked::Nothing => return None,
            Asked::Newest(n) => return Some(Since::Newest(*n)),
            Asked::Span(span) => return Some(Since::Span(Duration::from_millis(*span))),
            Asked::Position(index) => (self.model.epoch, index.index(newest + 2) as u64),
            Asked::OtherEpoch => (Epoch::parse("________".replace('_', "x").as_str()).unwrap(), 0),
        };
        Some(Since::After(Position { epoch, number }))
    }

    fn publish(&mut self, channels: &[Channel], length: usize) {
        let payload = Payload::text(&"x".repeat(length));
        let to = match channels {
            [] => Recipients::AllBut(Arc::from([ConnId(1)])),
            _ => ChannelTarget::recipients(channels.to_vec(), vec![ConnId(1)]),
        };
        let channels = match &to {
            Recipients::Members(target) => target.channels.to_vec(),
            _ => Vec::new(),
        };
        let at = self.log.keep(&to, &payload, self.now).map(|at| at.number);
        assert_eq!(at, self.model.publish(&channels, &payload, self.now));
    }

    /// Somebody comes, with a position most likely.
    fn replay(&mut self, ask: &Ask<'_>) {
        let replay = self.log.replay(ask, self.now);
        self.model.check_replay(ask, &replay, self.now);
        if let Some(Since::After(position)) = ask.since {
            let found = self.log.after(ask, position, self.now);
            self.model.check_after(ask, position, found, self.now);
        }
    }

    fn step(&mut self, step: &Step) {
        let Run { log, model, now, .. } = self;
        let pick =
            |at: &[usize]| -> Vec<Channel> { at.iter().map(|at| channel(NAMES[*at])).collect() };
        let evicts =
            !matches!(step, Step::Wait(_) | Step::Limits(_) | Step::NewEpoch | Step::Restart(_));
        if evicts {
            model.enforce(Some(*now));
        }
        match step {
            Step::Publish(names, length) => self.publish(&pick(names), *length),
            Step::Private => {
                let only = Recipients::Only(Arc::from([ConnId(1)]));
                assert_eq!(log.keep(&only, &Payload::text("x"), *now), None);
            }
            Step::Wait(ms) => *now += ms,
            Step::Limits(limits) => {
                log.set_limits(limits.clone());
                model.set_limits(limits.clone());
            }
            Step::Replay { channels, all, since, fallback, back, most } => {
                let channels = pick(channels);
                let (since, fallback) = (self.since(since), self.since(fallback));
                let newest = self.model.newest.saturating_sub(*back);
                let (max_messages, max_bytes) = *most;
                let ask = Ask {
                    channels: &channels,
                    all: *all,
                    since,
                    newest,
                    fallback,
                    max_bytes,
                    max_messages,
                };
                self.replay(&ask);
            }
            Step::Query { channels, since, most } => {
                let channels = channels.as_ref().map(|channels| pick(channels));
                let (max_messages, max_bytes) = *most;
                let since = self.since(since);
                let query = Query { channels: channels.as_deref(), since, max_messages, max_bytes };
                let found = self.log.query(&query, self.now);
                self.model.check_query(&query, found, self.now);
            }
            Step::NewEpoch => {
                log.new_epoch();
                let evictions = model.evictions;
                *model = Model::new(model.limits.clone(), log.position().epoch);
                model.evictions = evictions;
            }
            Step::Restart(limits) => {
                self.disk.write(log.take_batch().unwrap());
                *log = self.disk.restore(limits.clone(), *now);
                model.restart();
                model.set_limits(limits.clone());
                model.enforce(Some(*now));
            }
        }
        let Run { log, model, disk, now } = self;
        assert_eq!(log.position(), Position { epoch: model.epoch, number: model.newest });
        if evicts {
            model.check_stats(log, *now);
        }
        disk.write(log.take_batch().unwrap());
        disk.check(model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn a_log_does_what_a_list_of_everything_would(
        limits in some_limits(),
        steps in vec(step(), 1..80),
    ) {
        let mut run = Run::new(limits);
        steps.iter().for_each(|step| run.step(step));
    }
}
