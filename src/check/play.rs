//! The steps in which the listener is to go on.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::check::clients::Deed;
use crate::check::driver::{Driver, Until};
use crate::check::findings;
use crate::check::findings::seconds;
use crate::check::player::{Player, offers};
use crate::check::report::{Finding, Outcome, Report, Severity};
use crate::check::says;
use crate::check::steps::{Step, UNICODE};
use crate::config::hooks::Hook;
use crate::listener::connection::Closed;
use crate::listener::exchange::{HandshakeDecision, PushAsk};
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::event::Subprotocol;
use crate::listener::protocol::push::Push;
use crate::ws::payload::Payload;

/// Messages of the burst, and the connections that send them.
const BURST: usize = 300;
const SENDERS: usize = 5;

/// When a burst is cut short whose answers still come, and when any is.
const BURST_LOOK: Duration = Duration::from_secs(4);
const BURST_END: Duration = Duration::from_secs(60);

/// How long a listener that is only read is watched.
const WATCH: Duration = Duration::from_secs(2);

impl Player<'_> {
    /// All steps.
    pub(super) async fn play(mut self) -> Report {
        if let Err(why) = self.start().await {
            return self.not_started(why);
        }
        if self.settings.feeds_listener() {
            self.handshake().await;
            self.open().await;
            if let Err(why) = self.second_start().await {
                return self.not_started(why);
            }
            self.message(Step::Text, Payload::text("Hello from wsgw check")).await;
            self.message(Step::Unicode, Payload::text(UNICODE)).await;
            self.message(Step::Empty, Payload::text("")).await;
            self.message(Step::Binary, Payload::binary(&[0, 1, 2, 0xff])).await;
            self.push().await;
            self.burst().await;
            self.close().await;
        } else {
            self.watch().await;
        }
        self.end_of_stdin().await;
        self.sigterm().await;
        let found = findings::findings(&self.ledger, &self.facts, &self.program, &self.settings);
        let stderr = if found.is_empty() { Vec::new() } else { self.stderr };
        Report { findings: found, steps: self.steps, stderr, started: true }
    }

    /// What is told of a listener that cannot be started.
    fn not_started(mut self, why: String) -> Report {
        self.say(Step::Start, Outcome::Bad, "the gateway would not start".to_owned());
        let said = findings::last_words(&self.stderr);
        let said = said.map_or(String::new(), |line| format!(" Its stderr says: {line}"));
        let message = format!("It cannot be started: {why}.{said}");
        let mend = "Run the command by hand in the same directory, and mend what it says. A listener has to run until its \
                    stdin ends.";
        let mend = mend.to_owned();
        let finding = Finding { id: "does_not_start", severity: Severity::Error, message, mend };
        Report { findings: vec![finding], steps: self.steps, stderr: self.stderr, started: false }
    }

    async fn handshake(&mut self) {
        if !self.settings.asks(Hook::OnHandshake) || !self.begin(Step::Handshake).await {
            return;
        }
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.ledger.add_conn(conn.to_string());
        let offers = offers(&self.settings);
        let members = self.client.members(&self.settings, conn, Subprotocol::Offered(&offers));
        if let Some(driver) = &mut self.driver {
            driver.exchange.handshake(conn, members, offers, Instant::now());
        }
        let until = self.wait_answer(Step::Handshake).await;
        let decision = self.ledger.of_step(Step::Handshake).find_map(|(_, sent)| {
            sent.deeds.iter().find_map(|deed| match deed {
                Deed::Handshake(decision) => Some(decision.clone()),
                _ => None,
            })
        });
        let text = match (&decision, until) {
            (_, Until::Gone) => self.gone(Step::Handshake).await,
            (None, _) => format!(
                "no answer in {}: the client is refused with 503",
                seconds(self.settings.listener_timeout)
            ),
            (Some(decision), _) => {
                self.refused = matches!(decision, HandshakeDecision::Refuse(400..=499, _));
                says::decision(decision)
            }
        };
        let good = decision.is_some() && until != Until::Gone;
        self.say(Step::Handshake, self.outcome(Step::Handshake, good), text);
    }

    pub(super) async fn open(&mut self) {
        if self.refused {
            return self.skip_refused(Step::Open);
        }
        if !self.begin(Step::Open).await {
            return;
        }
        self.open_conn();
        self.open_conn();
        self.told(Step::Open, "2 connections are open").await;
    }

    /// Waits for the effect of a told event, and reports it.
    async fn told(&mut self, step: Step, what: &str) {
        let hook = if step == Step::Open { Hook::OnClientOpen } else { Hook::OnClientClose };
        let is_told = self.settings.asks(hook);
        let until = self.wait_told(step).await;
        let text = match until {
            Until::Gone => self.gone(step).await,
            Until::Deadline => format!("{what}; it does not read what it is told of that"),
            Until::Done if is_told => {
                let ignored = match self.ledger.ignored.contains(&step) {
                    true => {
                        " (the message in its answer goes to nobody: to greet, write a command, \
                             {\"command\":\"send\",…})"
                    }
                    false => "",
                };
                format!("{what}, it was told{ignored}{}", self.unasked())
            }
            Until::Done => format!("{what}; it is not told{}", self.unasked()),
        };
        self.say(step, self.outcome(step, until == Until::Done), text);
    }

    async fn message(&mut self, step: Step, payload: Payload) {
        if self.refused {
            return self.skip_refused(step);
        }
        if !self.begin(step).await {
            return;
        }
        let conn = self.sender();
        if let Some(driver) = &mut self.driver {
            driver.exchange.message(conn, payload.clone());
        }
        if !self.settings.asks(Hook::OnMessage) {
            return self.unasked_message(step, &payload).await;
        }
        let until = self.wait_answer(step).await;
        if step == Step::Text {
            self.text_unchanged = self.sent_on(step).is_some_and(|sent| sent == payload);
        }
        if step == Step::Unicode && !self.ledger.has_fault_in(step) {
            let came = self.sent_on(step).and_then(|sent| sent.as_text().map(str::to_owned));
            self.facts.damaged = came.filter(|text| says::is_damaged(text, self.text_unchanged));
        }
        self.answered(step, Some(&payload), until).await;
    }

    /// The message that goes out in a step.
    fn sent_on(&self, step: Step) -> Option<Payload> {
        let mut deeds = self.ledger.of_step(step).flat_map(|(_, sent)| &sent.deeds);
        deeds.find_map(|deed| match deed {
            Deed::Sent { payload, .. } => Some(payload.clone()),
            _ => None,
        })
    }

    /// A message of which the listener is not asked, or that is a plain line.
    async fn unasked_message(&mut self, step: Step, payload: &Payload) {
        let until = self.wait_told(step).await;
        let plain = self.settings.is_plain();
        let text = match until {
            Until::Gone => self.gone(step).await,
            _ if plain && payload.is_binary() => {
                "a binary message is no line: it is dropped".to_owned()
            }
            Until::Deadline if plain => "it does not read its stdin".to_owned(),
            _ if plain => format!("it has read the line{}", self.unasked()),
            _ => format!("it is not asked (hooks){}", self.unasked()),
        };
        self.say(step, self.outcome(step, until == Until::Done), text);
    }

    async fn push(&mut self) {
        let step = Step::Push;
        if !self.begin(step).await {
            return;
        }
        let (reply, mut outcome) = oneshot::channel();
        let push = Push::parse(br#"{"message":"A push from wsgw check"}"#);
        if let (Ok(push), Some(driver)) = (push, &mut self.driver) {
            let ask = PushAsk { push, reply, ticket: Box::new(()) };
            driver.exchange.push(ask, Instant::now());
        }
        if !self.settings.asks(Hook::OnMessage) {
            let until = self.wait_told(step).await;
            let text = match until {
                Until::Gone => self.gone(step).await,
                _ => format!("it is not asked{}", self.unasked()),
            };
            return self.say(step, self.outcome(step, until != Until::Gone), text);
        }
        let until = self.wait_answer(step).await;
        self.answered(step, None, until).await;
        if let (Ok(result), Some(last)) = (outcome.try_recv(), self.steps.last_mut()) {
            last.gateway.push_str(&says::push_outcome(&result));
        }
    }

    /// Reports the answer to the one event of a step.
    async fn answered(&mut self, step: Step, payload: Option<&Payload>, until: Until) {
        let text = match until {
            Until::Gone => self.gone(step).await,
            _ => says::answer(&self.ledger, step, payload, &self.settings),
        };
        let in_time = self
            .ledger
            .of_step(step)
            .any(|(_, sent)| sent.answered.is_some() && sent.timed_out.is_none());
        let damaged = step == Step::Unicode && self.facts.damaged.is_some();
        let good = in_time && until != Until::Gone && !damaged;
        self.say(step, self.outcome(step, good), text);
    }

    async fn burst(&mut self) {
        let step = Step::Burst;
        if self.refused {
            return self.skip_refused(step);
        }
        if !self.begin(step).await {
            return;
        }
        let mut senders = self.driver.as_ref().map_or_else(Vec::new, |d| d.clients.conns());
        while senders.len() < SENDERS {
            senders.push(self.open_conn());
        }
        let began = Instant::now();
        if let Some(driver) = &mut self.driver {
            for n in 0..BURST {
                let message = Payload::text(&format!("burst {n}"));
                driver.exchange.message(senders[n % SENDERS], message);
            }
        }
        if !self.settings.asks(Hook::OnMessage) {
            let until = self.wait_told(step).await;
            let text = match until {
                Until::Gone => self.gone(step).await,
                _ => format!("{BURST} messages at once{}", self.unasked()),
            };
            return self.say(step, self.outcome(step, until == Until::Done), text);
        }
        let look = if self.silent { Duration::from_secs(1) } else { BURST_LOOK };
        let mut until = self.wait_answers(step, BURST, began + look).await;
        let answered = self.burst_answers(began);
        if until == Until::Deadline && !self.silent {
            // The pace is known, and waiting for the rest may take minutes.
            if answered.1 > 0 && answered.0 + look / 4 > began.elapsed() {
                return self.cut_burst(look, answered.1).await;
            }
            until = self.wait_answers(step, BURST, began + BURST_END).await;
        }
        let (took, answers) = self.burst_answers(began);
        if answers > 0 && !self.silent {
            self.facts.burst = Some((took, answers));
        }
        let text = match until {
            Until::Gone => self.gone(step).await,
            _ => says::burst(answers, BURST, took),
        };
        self.say(step, self.outcome(step, answers == BURST && until == Until::Done), text);
    }

    /// When the last answer of the burst came, and how many came in all.
    fn burst_answers(&self, began: Instant) -> (Duration, usize) {
        let answers = self.ledger.of_step(Step::Burst).filter_map(|(_, sent)| sent.answered);
        let (count, last) = answers.fold((0, began), |(n, last), at| (n + 1, last.max(at)));
        (last.duration_since(began), count)
    }

    /// The burst would take too long: another process goes on.
    async fn cut_burst(&mut self, after: Duration, answers: usize) {
        self.facts.cut = Some((after, answers));
        if let Some(driver) = &mut self.driver {
            driver.bury(&mut self.ledger).await;
        }
        self.let_go().await;
        let text = format!("{} (the rest is not waited for)", says::burst(answers, BURST, after));
        let good = !findings::is_slow(answers, after);
        self.say(Step::Burst, self.outcome(Step::Burst, good), text);
    }

    async fn close(&mut self) {
        if self.refused {
            return self.skip_refused(Step::Close);
        }
        if !self.begin(Step::Close).await {
            return;
        }
        let conn = self.sender();
        if let Some(driver) = &mut self.driver {
            let closed = Closed { code: 1001, reason: String::new(), clean: true };
            driver.clients.close(conn, closed, &mut driver.exchange);
        }
        self.told(Step::Close, "a client has left").await;
    }

    /// A listener that is not written to is only watched.
    async fn watch(&mut self) {
        for step in [Step::Open, Step::Text] {
            if !self.begin(step).await {
                return;
            }
            if step == Step::Open {
                self.open_conn();
                self.open_conn();
                continue;
            }
            let Some(driver) = &mut self.driver else { return };
            driver.until(Instant::now() + WATCH, &mut self.ledger, |_, _| false).await;
            let gone = driver.is_gone();
            let lines = self.ledger.lines;
            let text = match gone {
                true => self.gone(step).await,
                false => format!("it wrote {lines} lines in 2 s{}", self.unasked()),
            };
            self.say(Step::Text, self.outcome(Step::Text, !gone), text);
        }
    }

    fn skip_refused(&mut self, step: Step) {
        let text =
            "not played: the listener refuses the client (--url and -H give it what it asks for)";
        self.say(step, Outcome::Skipped, text.to_owned());
    }

    /// What it did unasked in this step.
    fn unasked(&self) -> String {
        let of = |driver: &Driver| says::unasked(&driver.unasked, driver.unasked_count);
        self.driver.as_ref().map_or(String::new(), of)
    }
}
