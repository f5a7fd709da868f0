//! What is known of `serve`, and what of it the person looks at. Plain data of the main thread.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crate::api::{Watch, WatchedGateway};

/// Seconds of rates that are kept for each gateway.
const TRAIL: usize = 600;
/// Lines of the log that are kept.
const LOG_LINES: usize = 500;

/// By what the table is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Name,
    State,
    Connections,
    In,
    Out,
    P99,
    Window,
    Refused,
}

impl Sort {
    /// Whether the largest come first, unless the person turns it round.
    fn largest_first(self) -> bool {
        !matches!(self, Sort::Name)
    }

    fn compare(self, a: &WatchedGateway, b: &WatchedGateway) -> Ordering {
        let p99 =
            |g: &WatchedGateway| g.listener_detail.as_ref().and_then(|l| l.p99_ms).unwrap_or(-1.0);
        let unanswered =
            |g: &WatchedGateway| g.listener_detail.as_ref().map_or(0, |l| l.unanswered) + g.queued;
        match self {
            // The names of all decide where nothing else does.
            Sort::Name => Ordering::Equal,
            // By name of the state: failed, running, starting, stopped, stopping; those that failed
            // are the largest.
            Sort::State => b.status.state.name().cmp(a.status.state.name()),
            Sort::Connections => a.status.connections.cmp(&b.status.connections),
            Sort::In => a.rates.messages_in.total_cmp(&b.rates.messages_in),
            Sort::Out => a.rates.messages_out.total_cmp(&b.rates.messages_out),
            Sort::P99 => p99(a).total_cmp(&p99(b)),
            Sort::Window => unanswered(a).cmp(&unanswered(b)),
            Sort::Refused => refused(a).cmp(&refused(b)),
        }
    }
}

/// Connections that a gateway refused so far, whatever for.
pub(super) fn refused(gateway: &WatchedGateway) -> u64 {
    gateway.refused.iter().map(|refusals| refusals.count).sum()
}

/// The last rates of a gateway, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// Messages from clients, a second.
    pub messages_in: VecDeque<u64>,
    /// Messages to clients, a second.
    pub messages_out: VecDeque<u64>,
}

/// What covers the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Page {
    /// The table, and below it what there is room for.
    #[default]
    Table,
    /// One gateway, on all of the screen.
    Gateway,
    /// The log, on all of the screen.
    Log,
    /// The keys.
    Help,
}

/// Everything that is drawn.
pub(super) struct Model {
    /// Where the control port is.
    pub endpoint: String,
    /// The newest event.
    pub watch: Option<Watch>,
    /// When it came.
    pub came: Instant,
    /// Why there is no newer one.
    pub lost: Option<String>,
    /// Lines of the log, the oldest first.
    pub log: VecDeque<String>,
    /// What is shown.
    pub page: Page,
    /// By what the table is sorted.
    pub sort: Sort,
    /// Whether it is turned round.
    pub reversed: bool,
    /// Without colours (`NO_COLOR`).
    pub plain: bool,
    only: Option<String>,
    selected: Option<String>,
    trails: HashMap<String, Trail>,
}

impl Model {
    /// Nothing has come yet. With `only`, one gateway is all that is shown.
    pub(super) fn new(only: Option<String>) -> Model {
        Model {
            endpoint: String::new(),
            watch: None,
            came: Instant::now(),
            lost: None,
            log: VecDeque::new(),
            page: if only.is_some() { Page::Gateway } else { Page::Table },
            sort: Sort::Name,
            reversed: false,
            plain: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
            only,
            selected: None,
            trails: HashMap::new(),
        }
    }

    /// A `serve` was found, and its first event came.
    pub(super) fn found(&mut self, endpoint: String, watch: Watch, now: Instant) {
        self.endpoint = endpoint;
        // The first event has the newest lines that are kept, those seen before among them.
        self.log.clear();
        self.came(watch, now);
    }

    /// The next event came.
    pub(super) fn came(&mut self, mut watch: Watch, now: Instant) {
        self.lost = None;
        self.came = now;
        if watch.log_skipped > 0 {
            self.log.push_back(format!("({} lines are left out)", watch.log_skipped));
        }
        self.log.extend(std::mem::take(&mut watch.log));
        while self.log.len() > LOG_LINES {
            self.log.pop_front();
        }
        self.trails.retain(|id, _| watch.gateways.iter().any(|g| g.status.id == *id));
        for gateway in &watch.gateways {
            let trail = self.trails.entry(gateway.status.id.clone()).or_default();
            for (kept, rate) in [
                (&mut trail.messages_in, gateway.rates.messages_in),
                (&mut trail.messages_out, gateway.rates.messages_out),
            ] {
                kept.push_back(rate.round() as u64);
                if kept.len() > TRAIL {
                    kept.pop_front();
                }
            }
        }
        self.watch = Some(watch);
    }

    /// `serve` cannot be reached.
    pub(super) fn lost(&mut self, why: String) {
        self.lost = Some(why);
    }

    /// Whether one gateway alone is shown.
    pub(super) fn is_of_one(&self) -> bool {
        self.only.is_some()
    }

    /// The gateways that are shown, in their order.
    pub(super) fn rows(&self) -> Vec<&WatchedGateway> {
        let all = self.watch.iter().flat_map(|watch| &watch.gateways);
        let mut rows: Vec<&WatchedGateway> =
            all.filter(|g| self.only.as_ref().is_none_or(|only| *only == g.status.id)).collect();
        let turned = self.sort.largest_first() != self.reversed;
        rows.sort_by(|a, b| {
            let order = self.sort.compare(a, b);
            let order = if turned { order.reverse() } else { order };
            let names = a.status.id.cmp(&b.status.id);
            let by_name = self.sort == Sort::Name && self.reversed;
            order.then(if by_name { names.reverse() } else { names })
        });
        rows
    }

    /// The place of the selected gateway among the rows.
    pub(super) fn place(&self) -> usize {
        let selected = self.selected.as_ref();
        self.rows().iter().position(|g| Some(&g.status.id) == selected).unwrap_or(0)
    }

    /// The selected gateway; the first where none was selected or it is gone.
    pub(super) fn current(&self) -> Option<&WatchedGateway> {
        self.rows().get(self.place()).copied()
    }

    /// Its last rates.
    pub(super) fn trail(&self, id: &str) -> Option<&Trail> {
        self.trails.get(id)
    }

    /// Moves the selection by so many rows.
    pub(super) fn step(&mut self, by: isize) {
        let last = self.rows().len().saturating_sub(1);
        let place = self.place().saturating_add_signed(by).min(last);
        self.selected = self.rows().get(place).map(|g| g.status.id.clone());
    }

    /// Sorts by this; a second time turns it round.
    pub(super) fn sort_by(&mut self, sort: Sort) {
        // What was looked at stays selected, whatever was first before.
        self.selected = self.current().map(|g| g.status.id.clone());
        self.reversed = self.sort == sort && !self.reversed;
        self.sort = sort;
    }

    /// Shows a page; the table where that page is shown already.
    pub(super) fn turn_to(&mut self, page: Page) {
        self.page = if self.page == page { self.first_page() } else { page };
    }

    /// The page that is left for others, and come back to.
    pub(super) fn first_page(&self) -> Page {
        if self.is_of_one() { Page::Gateway } else { Page::Table }
    }
}
