//! The play: which process of the listener it is played to, which clients there are, what is waited for.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::check::client::Client;
use crate::check::command::{Program, program_of};
use crate::check::driver::{Driver, Until};
use crate::check::findings::{Death, Facts};
use crate::check::ledger::Ledger;
use crate::check::processes;
use crate::check::report::{Outcome, StepReport};
use crate::check::steps::Step;
use crate::config::settings::GatewaySettings;
use crate::listener::connection::ConnInfo;
use crate::listener::protocol::connid::ConnId;
use crate::listener::protocol::event::Subprotocol;
use crate::listener::supervisor::{EARLY, UP_AFTER};

/// How long a listener that has read what it was told may take to end of it.
const REACTION: Duration = Duration::from_millis(150);

/// How long is waited where nothing is expected to come any more.
pub(super) const SHORT: Duration = Duration::from_millis(200);

/// How long it may take to start until it reads.
const START: Duration = Duration::from_secs(5);

/// How long a late answer is waited for, so that it is told from a missing one.
const LATE: Duration = Duration::from_secs(2);

/// Processes that are started in a check at most.
const PROCESSES: usize = 12;

/// What a play is about, and what is known so far.
pub(super) struct Player<'a> {
    pub(super) settings: Arc<GatewaySettings>,
    pub(super) client: Client,
    /// The control port that a gateway would name to it.
    pub(super) control_url: Option<String>,
    pub(super) progress: &'a dyn Fn(&str),
    pub(super) program: Program,
    pub(super) driver: Option<Driver>,
    pub(super) ledger: Ledger,
    pub(super) facts: Facts,
    pub(super) steps: Vec<StepReport>,
    pub(super) stderr: Vec<String>,
    pub(super) next_id: u64,
    pub(super) next_conn: u64,
    pub(super) processes: usize,
    /// The step that was played last.
    pub(super) last: Step,
    /// Children of ours that are not the listener's.
    pub(super) known_children: Vec<processes::Left>,
    /// Whether it has not written a byte, or reads nothing, so that long waits are useless.
    pub(super) silent: bool,
    /// Whether it does not let the clients in.
    pub(super) refused: bool,
    /// Whether the first text went out as it came.
    pub(super) text_unchanged: bool,
}

impl<'a> Player<'a> {
    /// Before the first step.
    pub(super) fn new(
        settings: Arc<GatewaySettings>,
        client: Client,
        progress: &'a dyn Fn(&str),
    ) -> Player<'a> {
        let program = settings.listener.as_ref().map(program_of);
        let ledger = Ledger::new(settings.is_plain(), offers(&settings));
        Player {
            settings,
            client,
            control_url: None,
            progress,
            program: program.unwrap_or(Program::Shell),
            driver: None,
            ledger,
            facts: Facts::default(),
            steps: Vec::new(),
            stderr: Vec::new(),
            next_id: 1,
            next_conn: 1,
            processes: 0,
            last: Step::Start,
            known_children: processes::children_beside(0),
            silent: false,
            refused: false,
            text_unchanged: false,
        }
    }

    // ---- processes -------------------------------------------------------------------------

    /// Starts it as a gateway does, which forgives one exit at once.
    pub(super) async fn start(&mut self) -> Result<(), String> {
        (self.progress)(Step::Start.name());
        for attempt in 0..2 {
            self.start_process()?;
            let Some(driver) = &mut self.driver else { break };
            let pid = driver.process.pid();
            let up = Instant::now() + UP_AFTER;
            let until = driver.until(up, &mut self.ledger, |driver, _| driver.wrote).await;
            if until == Until::Done {
                // It may have written its last words.
                driver.until(up, &mut self.ledger, |_, _| false).await;
            }
            if !driver.is_gone() {
                let text = format!("it runs as process {pid}");
                self.say(Step::Start, self.outcome(Step::Start, true), text);
                return Ok(());
            }
            let wrote = driver.wrote;
            let how = self.died(Step::Start).await;
            if wrote {
                self.say(Step::Start, Outcome::Bad, format!("it ended: {how}"));
                return Ok(());
            }
            if attempt == 1 {
                return Err(how);
            }
            self.facts.deaths.clear();
        }
        Ok(())
    }

    /// Where it ended at its first event without having read it, its start may only have been slow to
    /// fail: tries again, and gives it the time in which a gateway counts an exit as a failed start.
    pub(super) async fn second_start(&mut self) -> Result<(), String> {
        let of_start = self.facts.deaths.last().is_some_and(|death| death.unstarted);
        if !of_start || self.driver.is_some() {
            return Ok(());
        }
        self.start_process()?;
        if let Some(driver) = &mut self.driver {
            let early = Instant::now() + EARLY;
            driver.until(early, &mut self.ledger, |driver, _| driver.wrote).await;
            if driver.is_gone() && !driver.wrote {
                let how = self.died(Step::Start).await;
                self.steps.clear();
                return Err(how);
            }
        }
        self.facts.deaths.clear();
        self.steps.truncate(1);
        self.open().await;
        Ok(())
    }

    pub(super) fn start_process(&mut self) -> Result<(), String> {
        self.processes += 1;
        self.ledger.begin_process();
        self.driver =
            Some(Driver::start(&self.settings, self.control_url.as_deref(), self.next_id)?);
        Ok(())
    }

    /// It has ended in this step: how, in words.
    pub(super) async fn died(&mut self, step: Step) -> String {
        let Some(driver) = &mut self.driver else { return String::new() };
        let had_read = driver.has_read_all();
        let unstarted = !had_read && !driver.wrote && driver.started.elapsed() < EARLY;
        let (how, well) = driver.bury(&mut self.ledger).await;
        let stderr = driver.stderr().await;
        self.facts.deaths.push(Death { step, how: how.clone(), well, had_read, unstarted, stderr });
        self.let_go().await;
        how
    }

    /// Forgets a process that has ended.
    pub(super) async fn let_go(&mut self) {
        if let Some(driver) = self.driver.take() {
            self.next_id = driver.exchange.next_free_id();
            let said = driver.stderr().await;
            if !said.is_empty() {
                self.stderr = said;
            }
        }
    }

    /// Begins a step: whether there is a listener to play it to, with two clients.
    pub(super) async fn begin(&mut self, step: Step) -> bool {
        (self.progress)(step.name());
        if let Some(driver) = &mut self.driver {
            // It may have ended between two steps.
            let ending = driver.until(Instant::now(), &mut self.ledger, |_, _| false).await;
            if ending != Until::Gone && driver.has_closed_stdout() {
                driver.until(Instant::now() + SHORT, &mut self.ledger, |_, _| false).await;
            }
            if !driver.is_gone() {
                self.enter(step);
                return true;
            }
            let last = self.last;
            let how = self.died(last).await;
            if let Some(report) = self.steps.last_mut() {
                report.outcome = Outcome::Bad;
                report.gateway.push_str(&format!("; then it ended ({how})"));
            }
        }
        self.enter(step);
        let hopeless =
            self.facts.deaths.len() > 3 && self.ledger.all().all(|(_, s)| s.answered.is_none());
        if hopeless || self.processes >= PROCESSES || self.start_process().is_err() {
            self.say(
                step,
                Outcome::Skipped,
                "not played: the listener does not stay up".to_owned(),
            );
            return false;
        }
        if step > Step::Open && step != Step::EndOfStdin && !self.refused {
            self.open_conn();
            self.open_conn();
        }
        let Some(driver) = &mut self.driver else { return false };
        let up = Instant::now() + UP_AFTER;
        driver.until(up, &mut self.ledger, |_, _| false).await;
        if !self.silent {
            // What it is asked next shall not wait for its start.
            let read = Instant::now() + START;
            driver.until(read, &mut self.ledger, |driver, _| driver.has_read_all()).await;
        }
        if driver.is_gone() {
            // One that ends by itself does so whatever it is told.
            let by_itself = self.facts.deaths.iter().any(|death| death.step == Step::Start);
            self.died(if by_itself { Step::Start } else { Step::Open }).await;
            self.say(
                step,
                Outcome::Skipped,
                "not played: the listener does not stay up".to_owned(),
            );
            return false;
        }
        true
    }

    pub(super) fn enter(&mut self, step: Step) {
        self.last = step;
        self.ledger.step = step;
        if let Some(driver) = &mut self.driver {
            driver.begin_step();
        }
    }

    /// Opens one more connection.
    pub(super) fn open_conn(&mut self) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let members = self.client.members(&self.settings, conn, Subprotocol::Chosen(None));
        let path_len = self.client.path_len();
        let remote = Client::remote(conn).into();
        let members = members.into();
        let opened_at = SystemTime::now();
        let info = Arc::new(ConnInfo { id: conn, opened_at, remote, members, path_len });
        self.ledger.add_conn(conn.to_string());
        if let Some(driver) = &mut self.driver {
            driver.clients.open(conn);
            driver.exchange.opened(info, &[]);
        }
        conn
    }

    /// A connection that sends.
    pub(super) fn sender(&mut self) -> ConnId {
        let open = self.driver.as_ref().and_then(|driver| driver.clients.conns().first().copied());
        open.unwrap_or_else(|| self.open_conn())
    }

    // ---- waiting ---------------------------------------------------------------------------

    /// Waits until it has read what it was told, and a moment longer.
    pub(super) async fn wait_told(&mut self, step: Step) -> Until {
        let limit = match step {
            _ if self.silent => SHORT,
            // It may still be starting.
            Step::Open => self.settings.listener_timeout.max(START),
            _ => self.settings.listener_timeout,
        };
        let Some(driver) = &mut self.driver else { return Until::Gone };
        let deadline = Instant::now() + limit;
        let read =
            driver.until(deadline, &mut self.ledger, |driver, _| driver.has_read_all()).await;
        if read == Until::Deadline {
            if driver.stdin_broke {
                self.facts.closed_stdin.get_or_insert(step);
            }
            self.facts.unread.get_or_insert(step);
            self.silent = true;
            return read;
        }
        // Some programs answer these too, and have reacted then.
        let ledger = &mut self.ledger;
        let beside = ledger.beside;
        let expected = ledger.of_step(step).count();
        let reacted = Instant::now() + REACTION;
        let reaction = driver
            .until(reacted, ledger, |_, ledger| expected > 0 && ledger.beside >= beside + expected)
            .await;
        if reaction == Until::Gone { Until::Gone } else { Until::Done }
    }

    /// Waits until all `count` events of the step are answered or given up.
    pub(super) async fn wait_answers(
        &mut self,
        step: Step,
        count: usize,
        deadline: Instant,
    ) -> Until {
        let Some(driver) = &mut self.driver else { return Until::Gone };
        let misses = self.ledger.misses;
        driver
            .until(deadline, &mut self.ledger, |_, ledger| {
                if count == 1 && ledger.misses > misses {
                    // It has answered as well as it can.
                    return true;
                }
                let asked = || ledger.of_step(step).filter(|(_, sent)| sent.is_asked());
                asked().count() >= count && asked().all(|(_, sent)| sent.is_settled())
            })
            .await
    }

    /// Waits for the answer to the one event of this step.
    pub(super) async fn wait_answer(&mut self, step: Step) -> Until {
        let limit = self.settings.listener_timeout;
        // Behind the time-out, so that the exchange notes it.
        let limit = if self.silent { SHORT } else { limit * 2 + SHORT };
        let misses = self.ledger.misses;
        let until = self.wait_answers(step, 1, Instant::now() + limit).await;
        if until == Until::Gone {
            return until;
        }
        if self.ledger.misses > misses {
            let until = self.wait_answers(step, 2, Instant::now() + SHORT).await;
            if until == Until::Gone {
                return until;
            }
        }
        let answered = self.ledger.of_step(step).any(|(_, sent)| sent.answered.is_some());
        let Some(driver) = &mut self.driver else { return Until::Gone };
        if answered {
            self.silent = false;
            return Until::Done;
        }
        let answers_nothing = self.ledger.all().all(|(_, sent)| sent.answered.is_none());
        let is_broken = driver.stdin_broke;
        if is_broken {
            self.facts.closed_stdin.get_or_insert(step);
        }
        // The first answer of all may take long: a database is opened for it, say.
        if self.ledger.misses > misses || answers_nothing && (self.silent || is_broken) {
            if !driver.has_read_all() {
                self.facts.unread.get_or_insert(step);
            }
            self.silent = true;
            return Until::Deadline;
        }
        let late = Instant::now() + LATE.min(self.settings.listener_timeout * 4);
        let until = driver
            .until(late, &mut self.ledger, |_, ledger| {
                ledger.of_step(step).any(|(_, sent)| sent.answered.is_some())
            })
            .await;
        if until == Until::Deadline && answers_nothing {
            if !driver.has_read_all() {
                self.facts.unread.get_or_insert(step);
            }
            self.silent = true;
        }
        if until == Until::Gone { until } else { Until::Deadline }
    }

    // ---- reporting -------------------------------------------------------------------------

    /// Reports that it has ended.
    pub(super) async fn gone(&mut self, step: Step) -> String {
        let how = self.died(step).await;
        let again = match step {
            Step::Handshake => "the client would be refused with 503",
            Step::Open | Step::Close => "the gateway would start it again, and the clients stay",
            _ => "the gateway would start it again and send it the message once more",
        };
        format!("it ended ({how}): {again}")
    }

    /// How a step went, if nothing but `good` and its lines speak for it.
    pub(super) fn outcome(&self, step: Step, good: bool) -> Outcome {
        if good && !self.ledger.has_fault_in(step) { Outcome::Good } else { Outcome::Bad }
    }

    pub(super) fn say(&mut self, step: Step, outcome: Outcome, mut gateway: String) {
        if outcome == Outcome::Bad && self.ledger.has_fault_in(step) {
            gateway.push_str("; a line that it wrote is at fault (see below)");
        }
        self.steps.push(StepReport { step: step.name(), outcome, gateway });
    }
}

/// The subprotocols that a client offers.
pub(super) fn offers(settings: &GatewaySettings) -> Vec<String> {
    settings.protocols.clone().unwrap_or_else(|| vec!["json".to_owned()])
}
