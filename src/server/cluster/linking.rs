//! How a node comes to the stream, loses it, comes back, and leaves.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::{ApiError, ErrorCode};
use crate::config::settings::OnEngineLoss;
use crate::gateway::msg::HubMsg;
use crate::gateway::relay::Passing;
use crate::listener::op::{Delivery, Op};
use crate::listener::protocol::node::Node;
use crate::listener::recipients::Recipients;
use crate::server::cluster::engine::{OpenError, Session, too_small};
use crate::server::cluster::replica::{Link, Opened};
use crate::server::cluster::task::{Ears, Item, Task, number};
use crate::server::cluster::wire::Entry;
use crate::text::position::{Epoch, Position};

/// What a producer is told whose message was on its way when the servers were lost.
const MAY_COME: &str = "the NATS servers of the cluster do not answer; the message was handed to them and may \
                        still be delivered";

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
                self.failures = self.failures.wrapping_add(1);
                self.status.failed(self.gateway(), &why);
                self.status.holds(self.on_loss == OnEngineLoss::Hold);
                return;
            }
        };
        if session.opened.is_some_and(|opened| self.replica.is_outdated(&opened)) {
            return;
        }
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
        self.goes_alone = false;
        self.failures = 0;
        self.own_beat = Instant::now();
        self.next_beat = Instant::now();
        self.sent_at = Instant::now();
        self.opened_at = Instant::now();
        self.status.holds(false);
        self.status.set_up(self.gateway(), true);
        if let Some(opened) = session.opened {
            self.come_back(&opened);
        }
        self.session = Some(session);
        if self.is_core() {
            self.caught_up();
        }
    }

    /// The stream is there (again).
    fn come_back(&mut self, opened: &Opened) {
        let (epoch, _) = opened.epoch;
        let before = Position { epoch, number: number(opened.from.saturating_sub(1), u16::MAX) };
        if opened.begins {
            self.draft = self.outlet.history().map(|history| history.draft(before));
        }
        if opened.has_hole || opened.is_other {
            // What is missing cannot be had any more.
            self.status.gap();
            self.nodes.doubt_all();
        }
        if self.replica.opened(opened) {
            self.alone(before.number);
        }
    }

    /// Nobody can resume from before: until this node reads another epoch, it has one of its own.
    pub(super) fn alone(&self, newest: u64) {
        self.outlet.begin_epoch(Epoch::random(), newest);
    }

    /// Messages are missing here that stand in the stream: all nodes begin another epoch.
    pub(super) fn wrong(&mut self, node: Node) {
        tracing::error!(gateway = %self.gateway(), %node, "messages of a node are missing: nobody can resume from before");
        self.status.gap();
        self.nodes.doubt(node);
        if self.replica.stray() {
            self.alone(number(self.replica.handled(), u16::MAX));
        }
        self.lose("messages of a node are missing");
    }

    /// All that was in the stream when it was opened has been read.
    pub(super) fn caught_up(&mut self) {
        let (again, unsure) = self.replica.caught_up();
        self.status.retried(again);
        if let Some(mut draft) = self.draft.take() {
            if let Some(at) = unsure {
                draft.is_known_behind(number(at, u16::MAX));
            }
            self.outlet.adopt(draft);
        }
        self.status.ready();
        self.tell_members();
        for passing in std::mem::take(&mut self.held) {
            self.route(passing);
        }
    }

    /// The servers have been silent for long: clients go on without them. What waited for them goes to this
    /// node's own clients; what is on its way holds nobody up any more.
    pub(super) fn go_alone(&mut self) {
        if !std::mem::replace(&mut self.goes_alone, true) {
            for item in self.replica.order.items() {
                if let Passing::Op(Op::Deliver(delivery)) = &mut item.passing
                    && !std::mem::replace(&mut item.let_go, true)
                {
                    self.outlet.let_go(delivery);
                }
            }
            self.outlet.core().post_all(self.outlet.gateway(), || HubMsg::GateOpen);
        }
        for passing in std::mem::take(&mut self.held) {
            self.take(passing);
        }
    }

    /// Carries out what has come back from the stream.
    pub(super) fn carry_out_own(&self, item: Item, number: Option<u64>) {
        match item.passing {
            Passing::Op(op) if item.let_go => self.outlet.hand_in(op, number),
            passing => self.outlet.hand_out(passing, number),
        }
    }

    /// These were sent to the stream, and did not come back: they go to nobody.
    pub(super) fn give_up(&mut self, lost: Vec<Item>) {
        if lost.is_empty() {
            return;
        }
        for item in lost {
            self.status.lost();
            self.to_nobody(item);
        }
        while let Some(item) = self.replica.order.take_own() {
            self.carry_out_own(item, None);
        }
        self.outlet.core().post_all(self.outlet.gateway(), || HubMsg::GateOpen);
    }

    /// A delivery that did not come to the stream goes to nobody; whoever waits for it is told.
    fn to_nobody(&self, mut item: Item) {
        if let Passing::Op(Op::Deliver(delivery)) = &mut item.passing {
            match item.let_go {
                true => delivery.to = Recipients::Only(Arc::from([])),
                false => self.outlet.to_nobody(delivery),
            }
        }
        self.carry_out_own(item, None);
    }

    /// The servers cannot be reached.
    pub(super) fn lose(&mut self, why: &str) {
        if self.replica.link == Link::Down {
            return;
        }
        self.close_batch();
        self.replica.lost();
        self.session = None;
        self.looking = None;
        self.status.failed(self.gateway(), why);
        self.status.set_up(self.gateway(), false);
        self.status.holds(self.on_loss == OnEngineLoss::Hold);
        let is_delivery = |passing: &Passing| matches!(passing, Passing::Op(Op::Deliver(_)));
        let hold = self.on_loss == OnEngineLoss::Hold;
        for item in self.replica.order.take_all_own(|item| !hold || !is_delivery(&item.passing)) {
            self.carry_out_own(item, None);
        }
        if hold {
            // Whoever pushed them need not wait for the servers.
            for item in self.replica.order.items() {
                if let Passing::Op(Op::Deliver(Delivery { report: Some(report), .. })) =
                    &item.passing
                {
                    report.fail(ApiError::new(ErrorCode::EngineLost, MAY_COME));
                }
            }
        }
        for told in self.counts.take_all() {
            self.tell(told);
        }
    }

    pub(super) async fn end(mut self, mut ears: Ears) {
        self.close_batch();
        ears.inbox.close();
        if self.replica.link == Link::Up {
            self.publish(&Entry::Bye, None);
            self.flush().await;
            // The farewell is a courtesy.
            let _ = tokio::time::timeout(FAREWELL, self.engine.client.flush()).await;
        }
        let order = &mut self.replica.order;
        for item in order.take_all_own(|_| true).into_iter().chain(order.give_up()) {
            self.to_nobody(item);
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
}
