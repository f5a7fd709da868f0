//! How a node comes to the stream, loses it, comes back, and leaves.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::settings::OnEngineLoss;
use crate::gateway::kept::now;
use crate::gateway::msg::HubMsg;
use crate::gateway::relay::Passing;
use crate::listener::op::Op;
use crate::listener::protocol::connid::ConnId;
use crate::listener::recipients::Recipients;
use crate::server::cluster::engine::{OpenError, Session, too_small};
use crate::server::cluster::task::{Ears, Link, Task, number};
use crate::server::cluster::wire;
use crate::server::cluster::wire::{Entry, Header};
use crate::text::position::{Epoch, Position};

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_millis(100);

impl Task {
    pub(super) fn opened(&mut self, session: Result<Session, OpenError>) {
        let session = match session {
            Ok(session) => session,
            Err(OpenError::Unfit(why)) => {
                self.status.failed(self.gateway(), &why);
                self.status.give_up(why);
                return;
            }
            Err(OpenError::Failed(why)) => {
                self.status.failed(self.gateway(), &why);
                self.status.holds(self.on_loss == OnEngineLoss::Hold);
                return;
            }
        };
        self.status.check(self.gateway(), &session.differences, &session.version);
        let most = self.engine.most();
        if let Some(why) = too_small(&self.engine.client) {
            self.status.give_up(why);
        } else if most < self.most {
            self.status.give_up(format!(
                "the NATS server takes messages of {most} bytes of a client at most, and max-message is \
                 larger: set it to {most}, or raise max_payload of the servers"
            ));
        }
        self.consumed = 0;
        self.made = session.made;
        self.own_beat = Instant::now();
        self.next_beat = Instant::now();
        self.come_back(&session);
        self.link = Link::Behind;
        let anew = session.is_other;
        self.session = Some(session);
        self.status.holds(false);
        self.status.set_up(self.gateway(), true);
        if self.is_core() {
            return self.caught_up();
        }
        self.markers += 1;
        let count = self.markers;
        let first = match self.on_loss {
            OnEngineLoss::Hold => self.order.first_unseen(),
            OnEngineLoss::Local => self.order.promise(),
        };
        let header = Header { node: self.me, number: 0, before: 0, at: now() };
        let mut marker = wire::begin(header);
        wire::write(&mut marker, &Entry::Marker { first, anew, count });
        self.marker = Some(marker.freeze());
    }

    /// All that was in the stream when it was opened has been read.
    pub(super) fn caught_up(&mut self) {
        self.link = Link::Up;
        self.restoring = false;
        if let Some(draft) = self.draft.take() {
            self.outlet.adopt(draft);
        }
        self.status.ready();
        match self.on_loss {
            OnEngineLoss::Hold => {
                self.status.retried(self.order.again());
            }
            OnEngineLoss::Local => self.give_up_unseen(),
        }
        self.tell_members();
        if std::mem::take(&mut self.strayed) && !self.is_core() {
            self.renew_epoch();
        }
        for passing in std::mem::take(&mut self.held) {
            self.route(passing);
        }
    }

    /// Puts another epoch into the stream: what clients had from before may not be all.
    pub(super) fn renew_epoch(&self) {
        let engine = self.engine.clone();
        tokio::spawn(async move {
            if let Err(why) = engine.another_epoch().await {
                tracing::warn!("{why}");
            }
        });
    }

    /// What was sent to the stream and did not come back goes to nobody.
    pub(super) fn give_up_unseen(&mut self) {
        for item in self.order.give_up() {
            self.status.lost();
            self.give_up(item.passing);
        }
        while let Some(item) = self.order.take_own() {
            self.outlet.hand_out(item.passing, None);
        }
        self.outlet.core().post_all(self.outlet.gateway(), || HubMsg::GateOpen);
    }

    /// A delivery that did not come to the stream goes to nobody; whoever waits for it is told.
    fn give_up(&mut self, passing: Passing) {
        if let Passing::Op(Op::Deliver(mut delivery)) = passing {
            // Its sender's shard hears of it, and sends it to nobody: no connection has such a name.
            let core = self.outlet.core();
            let nobody = delivery.from.map(|from| ConnId(core.shard_of(from) as u64));
            self.outlet.retarget(&mut delivery, Recipients::Only(nobody.into_iter().collect()));
            self.outlet.hand_out(Passing::Op(Op::Deliver(delivery)), None);
        } else {
            self.outlet.hand_out(passing, None);
        }
    }

    /// The servers cannot be reached.
    pub(super) fn lose(&mut self, why: &str) {
        if self.link == Link::Down {
            return;
        }
        self.link = Link::Down;
        self.session = None;
        self.marker = None;
        if self.restoring {
            // It is read again from its beginning.
            self.handled = None;
            self.draft = None;
        }
        self.status.failed(self.gateway(), why);
        self.status.set_up(self.gateway(), false);
        self.close_batch();
        self.order.take_unpublished();
        self.status.holds(self.on_loss == OnEngineLoss::Hold);
        let is_delivery = |passing: &Passing| matches!(passing, Passing::Op(Op::Deliver(_)));
        let hold = self.on_loss == OnEngineLoss::Hold;
        for item in self.order.take_all_own(|item| !hold || !is_delivery(&item.passing)) {
            self.outlet.hand_out(item.passing, None);
        }
        for told in self.counts.take_all() {
            self.tell(told);
        }
    }

    pub(super) async fn end(mut self, mut ears: Ears) {
        self.close_batch();
        ears.inbox.close();
        if self.link == Link::Up {
            self.publish(&Entry::Bye, None);
            self.flush().await;
            // The farewell is a courtesy.
            let _ = tokio::time::timeout(FAREWELL, self.engine.client.flush()).await;
        }
        for item in self.order.take_all_own(|_| true).into_iter().chain(self.order.give_up()) {
            self.give_up(item.passing);
        }
        for (_, _, passing) in std::mem::take(&mut self.waiting) {
            self.outlet.hand_out(passing, None);
        }
        while let Some(passing) = ears.inbox.try_recv() {
            self.outlet.hand_out(passing, None);
        }
        for passing in std::mem::take(&mut self.held) {
            self.outlet.hand_out(passing, None);
        }
        for told in self.counts.take_all() {
            self.tell(told);
        }
    }

    /// The stream is there (again).
    fn come_back(&mut self, session: &Session) {
        let handled = self.handled.map_or(0, |(handled, _)| handled);
        if session.is_other {
            // What was not read there may be nowhere.
            self.handled = None;
            self.order.other_stream();
        } else if self.handled.is_some() && session.oldest > handled + 1 {
            // What is missing cannot be had any more.
            self.status.gap();
            self.order.gap();
            self.stray();
        }
        let Some(epoch) = session.epoch else { return };
        let from = if session.is_other { session.epoch_at } else { session.oldest };
        let before = number(from.saturating_sub(1), u16::MAX);
        if self.restoring {
            self.epoch = Some(epoch);
            self.draft = self
                .outlet
                .history()
                .map(|history| history.draft(Position { epoch, number: before }));
        } else if session.is_other {
            self.epoch = Some(epoch);
            self.outlet.begin_epoch(epoch, before);
        }
        // Otherwise the epoch is renewed by a message, at its place.
    }

    /// Clients got what is not in the stream, or will not get what is there: nobody can resume from
    /// before. Until all nodes have a new epoch, this one has one of its own.
    pub(super) fn stray(&mut self) {
        if std::mem::replace(&mut self.strayed, true) || self.restoring {
            return;
        }
        let at = self.handled.map_or(0, |(handled, _)| handled);
        self.epoch = None;
        self.outlet.begin_epoch(Epoch::random(), number(at, u16::MAX));
    }
}
