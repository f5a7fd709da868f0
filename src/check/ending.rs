//! The steps in which the listener is to end.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::time::sleep;

use crate::check::findings::seconds;
use crate::check::player::Player;
use crate::check::processes;
use crate::check::report::Outcome;
use crate::check::steps::Step;
use crate::listener::supervisor::{STDIN_WAIT, TERM_WAIT};
use crate::ws::payload::Payload;

/// How long what a listener has started may take to go after it.
const CHILDREN: Duration = Duration::from_millis(300);

/// How long the listener may take to get to work before it is sent SIGTERM.
const AT_WORK: Duration = Duration::from_secs(1);

impl Player<'_> {
    /// Closes its stdin, as a gateway does first when it stops.
    pub(super) async fn end_of_stdin(&mut self) {
        let step = Step::EndOfStdin;
        if !self.settings.feeds_listener() {
            let text = "its stdin is /dev/null (hooks none)".to_owned();
            return self.say(step, Outcome::Skipped, text);
        }
        if !self.begin(step).await {
            return;
        }
        self.ledger.ended = true;
        let began = Instant::now();
        let Some(driver) = &mut self.driver else { return };
        driver.close_stdin();
        let in_time = driver.until_exit(began + STDIN_WAIT, &mut self.ledger).await;
        let took = began.elapsed();
        let mut text = format!("it ended after {}", seconds(took));
        if in_time {
            self.look_for_children().await;
        } else {
            self.facts.stayed = true;
            driver.signal(Signal::TERM);
            let deadline = Instant::now() + TERM_WAIT;
            let heeded = driver.until_exit(deadline, &mut self.ledger).await;
            self.facts.ignored_sigterm = !heeded;
            text = match heeded {
                true => "it was still there after 4 s, and ended by SIGTERM".to_owned(),
                false => "it was still there after 4 s, and 2 s after SIGTERM: SIGKILL".to_owned(),
            };
        }
        self.end_process().await;
        let ledger = &self.ledger;
        self.facts.plain_at_end =
            self.settings.is_plain() && ledger.lines > 0 && ledger.lines == ledger.lines_after_end;
        let left = self.facts.children.len() + self.facts.escaped.len();
        if left > 0 {
            let processes = if left == 1 { "process" } else { "processes" };
            text.push_str(&format!(", and left {left} {processes} behind"));
        }
        let late = ledger.all().filter(|(_, sent)| sent.after_end).count();
        if late > 0 {
            let answers = if late == 1 { "answer" } else { "answers" };
            text.push_str(&format!("; {late} {answers} came only now"));
        }
        if self.facts.plain_at_end {
            text.push_str("; its lines came only now");
        }
        let good = in_time && left == 0 && late == 0 && !self.facts.plain_at_end;
        self.say(step, self.outcome(step, good), text);
    }

    /// What runs of its group after it has exited, and what has left the group.
    async fn look_for_children(&mut self) {
        let Some(driver) = &self.driver else { return };
        let group = driver.process.pid();
        let deadline = Instant::now() + CHILDREN;
        let mut children = processes::left_of(group);
        while !children.is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
            children = processes::left_of(group);
        }
        let mut escaped = processes::children_beside(group);
        escaped.retain(|child| !self.known_children.contains(child));
        self.known_children.extend(escaped.iter().cloned());
        if self.facts.children.is_empty() {
            self.facts.children = children;
        }
        self.facts.escaped.extend(escaped);
    }

    /// Ends what is left of the process.
    async fn end_process(&mut self) {
        if let Some(driver) = &mut self.driver {
            driver.bury(&mut self.ledger).await;
        }
        self.let_go().await;
    }

    /// SIGTERM alone, to a process that has something to do.
    pub(super) async fn sigterm(&mut self) {
        let step = Step::Sigterm;
        if self.facts.stayed {
            let text = "as after the end of stdin".to_owned();
            let outcome = self.outcome(step, !self.facts.ignored_sigterm);
            return self.say(step, outcome, text);
        }
        if !self.begin(step).await {
            return;
        }
        let fed = self.settings.feeds_listener();
        if let Some(driver) = self.driver.as_mut().filter(|_| fed)
            && let Some(conn) = driver.clients.conns().first().copied()
        {
            driver.exchange.message(conn, Payload::text("The last message of wsgw check"));
            let deadline = Instant::now() + AT_WORK;
            let ledger = &mut self.ledger;
            driver
                .until(deadline, ledger, |driver, ledger| {
                    let mut of_step = ledger.of_step(step).filter(|(_, sent)| sent.is_asked());
                    driver.has_read_all() && of_step.all(|(_, sent)| sent.is_settled())
                })
                .await;
            ledger.leave_out(step);
        }
        let Some(driver) = &mut self.driver else { return };
        let began = Instant::now();
        driver.signal(Signal::TERM);
        let mut in_time = driver.until_exit(began + TERM_WAIT, &mut self.ledger).await;
        let mut text = format!("it ended after {}", seconds(began.elapsed()));
        if !in_time && fed {
            // The end of stdin comes first when a gateway stops; SIGTERM is for those that stay.
            driver.close_stdin();
            let deadline = Instant::now() + TERM_WAIT;
            in_time = driver.until_exit(deadline, &mut self.ledger).await;
            text =
                "it does not heed SIGTERM; the end of stdin, which comes first at a stop, ends it"
                    .to_owned();
        }
        if in_time {
            self.look_for_children().await;
        } else {
            text = "it was still there 2 s after SIGTERM: SIGKILL".to_owned();
            self.facts.ignored_sigterm = true;
        }
        self.end_process().await;
        self.say(step, self.outcome(step, in_time), text);
    }
}
