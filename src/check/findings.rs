//! From what was seen to what is wrong.

use std::time::Duration;

use crate::check::command::Program;
use crate::check::ledger::{Fault, Ledger, Seen, Sent};
use crate::check::mends;
use crate::check::processes;
use crate::check::processes::Left;
use crate::check::report::{Finding, Severity};
use crate::check::steps::Step;
use crate::config::settings::{GatewaySettings, OnTimeout};

/// Answers a second below which a listener is slow, on a machine with nothing else to do.
const FEW_PER_SECOND: f64 = 10.0;

/// The time for one answer above which a listener is slow.
const LONG: Duration = Duration::from_secs(1);

/// Whether so many answers in this time are few, whatever else the machine is busy with.
pub(super) fn is_slow(answers: usize, time: Duration) -> bool {
    rate(answers, time) * processes::crowding() < FEW_PER_SECOND
}

/// Answers a second.
fn rate(answers: usize, time: Duration) -> f64 {
    answers as f64 / time.as_secs_f64().max(1e-6)
}

/// How a process of the listener ended before its time.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) step: Step,
    /// How, in words.
    pub(super) how: String,
    /// Whether it exited without an error.
    pub(super) well: bool,
    /// Whether it had read what it was sent.
    pub(super) had_read: bool,
    /// Whether it went so soon, without having read or written anything, that it may never have started.
    pub(super) unstarted: bool,
    /// What it wrote to stderr last.
    pub(super) stderr: Vec<String>,
}

/// What was seen beside lines and their times.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) deaths: Vec<Death>,
    /// Steps in which it did not read what it was sent.
    pub(super) unread: Option<Step>,
    /// The step in which it was found to have closed its stdin, while it ran on.
    pub(super) closed_stdin: Option<Step>,
    /// The burst was cut short after this time, with so many answers.
    pub(super) cut: Option<(Duration, usize)>,
    /// The burst's answers took so long in all.
    pub(super) burst: Option<(Duration, usize)>,
    /// Text beyond ASCII came back as this.
    pub(super) damaged: Option<String>,
    pub(super) stayed: bool,
    pub(super) ignored_sigterm: bool,
    pub(super) children: Vec<Left>,
    pub(super) escaped: Vec<Left>,
    /// Whether lines of a listener of plain lines came at the end of stdin alone.
    pub(super) plain_at_end: bool,
}

/// Puts findings together.
pub(super) struct Findings<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) facts: &'a Facts,
    pub(super) program: &'a Program,
    pub(super) settings: &'a GatewaySettings,
    found: Vec<Finding>,
}

/// All that is wrong, the worst first.
pub(super) fn findings(
    ledger: &Ledger,
    facts: &Facts,
    program: &Program,
    settings: &GatewaySettings,
) -> Vec<Finding> {
    let mut all = Findings { ledger, facts, program, settings, found: Vec::new() };
    all.deaths();
    all.closed_stdin();
    let buffered = all.buffered();
    all.lines();
    if !buffered {
        all.unanswered();
        all.slow();
    }
    all.unicode();
    all.ends();
    let mut found = all.found;
    found.sort_by_key(|finding| finding.severity);
    found
}

impl Findings<'_> {
    fn error(&mut self, id: &'static str, message: String, mend: String) {
        self.found.push(Finding { id, severity: Severity::Error, message, mend });
    }

    fn warning(&mut self, id: &'static str, message: String, mend: String) {
        self.found.push(Finding { id, severity: Severity::Warning, message, mend });
    }

    fn deaths(&mut self) {
        let mut steps: Vec<Step> = Vec::new();
        for death in &self.facts.deaths {
            if !steps.contains(&death.step) {
                steps.push(death.step);
            }
        }
        let mut told: Vec<Step> = Vec::new();
        for death in &self.facts.deaths {
            // What happens all the time is told once.
            if told.contains(&death.step) || steps.len() > 2 && !told.is_empty() {
                continue;
            }
            told.push(death.step);
            let when = match death.step {
                Step::Start => "by itself".to_owned(),
                step if !death.had_read => format!("before it had read {}", step.what()),
                step => format!("after it was sent {}", step.what()),
            };
            let said = last_words(&death.stderr);
            let said = said.map_or(String::new(), |line| format!(" Its stderr says: {line}"));
            let when = if steps.len() > 2 {
                format!("{when}, and in {} more steps", steps.len() - 1)
            } else {
                when
            };
            let message = format!(
                "It ended {when} ({}). The gateway would keep its clients and start it again, and again each time \
                 this happens.{said}",
                death.how
            );
            let all = death.stderr.join("\n");
            let mend = mends::survive(self.program, death.step, death.well, &all);
            self.error("exits", message, mend);
        }
    }

    /// Whether it lives on without a stdin.
    fn closed_stdin(&mut self) {
        let Some(step) = self.facts.closed_stdin else { return };
        let message = format!(
            "It closed its stdin and runs on: it did not get {}, nor anything after it. The gateway could tell it of no \
             client and no message, until the listener is restarted.",
            step.what()
        );
        let mend = "Leave stdin open and read it line by line until it ends, then exit. Look for close(0), sys.stdin.close() \
                    and a redirection such as <&-; and in a shell script, for a program in front of the loop that reads \
                    the script's stdin to its end.";
        self.error("closes_stdin", message, mend.to_owned());
    }

    /// Whether its output is held back.
    fn buffered(&mut self) -> bool {
        let asked = || self.ledger.all().filter(|(_, sent)| sent.is_asked());
        let at_end = asked().filter(|(_, sent)| sent.after_end).count();
        // Events to which its line was at fault, or that went down with its process, say nothing.
        let dead = |step: Step| self.facts.deaths.iter().any(|death| death.step == step);
        let late = asked().filter(|(_, sent)| sent.timed_out.is_some() && !dead(sent.step)).count();
        let is_late = late > self.ledger.skipped;
        let held_back = at_end > 0 || is_late && self.ledger.shows_blocks();
        if !held_back && !self.facts.plain_at_end {
            return false;
        }
        let what = if self.facts.plain_at_end {
            format!("All of its {} lines came only when its stdin had ended", self.ledger.lines)
        } else if self.ledger.shows_blocks() {
            "Its answers came in blocks, long after their events".to_owned()
        } else {
            let answers = if at_end == 1 { "answer" } else { "answers" };
            format!("{at_end} {answers} came only when its stdin had ended")
        };
        let message = format!(
            "{what}: it holds its output back (most programs do that when their stdout is no terminal), or it reads to the \
             end before it writes. A gateway would wait in vain, and its clients would get nothing."
        );
        self.error("buffered", message, mends::flush(self.program));
        true
    }

    /// What is wrong with its lines.
    fn lines(&mut self) {
        let ledger = self.ledger;
        for (fault, seen) in ledger.faults() {
            self.line(*fault, seen);
        }
    }

    // Long because it is the table of what may be wrong with a line.
    fn line(&mut self, fault: Fault, seen: &Seen) {
        let Seen { count, line, why, id, step } = seen;
        let times = if *count > 1 { format!(" ({count} such lines)") } else { String::new() };
        let event = id.and_then(|id| self.ledger.all().find(|(sent, _)| *sent == id));
        let event = event.map_or(String::new(), |(_, sent)| sent.line.clone());
        let dropped = match step {
            Step::Handshake => "The client would be refused with 500.",
            _ => "The message would be dropped, and sent to nobody.",
        };
        match fault {
            Fault::Stray => self.error(
                "stray_output",
                format!("It wrote a line to stdout that is not JSON{times}: {line:?}. The gateway skips it and says so in the log."),
                mends::to_stderr(self.program, !self.has_answers()),
            ),
            Fault::Piece => self.error(
                "json_over_lines",
                format!("It wrote JSON over several lines{times}, such as {line:?}. The gateway reads a whole object from each line, so it skips all of these."),
                mends::one_line(self.program),
            ),
            Fault::Joined => self.error(
                "json_joined",
                format!("It wrote several JSON objects on one line{times}: {line}. The gateway skips such a line."),
                "Write a newline after each object.".to_owned(),
            ),
            Fault::NotJson => self.error(
                "not_json",
                format!("It wrote a line that is not valid JSON ({why}){times}: {line}. The gateway skips it."),
                mends::valid_json(self.program),
            ),
            Fault::NotUtf8 => self.error(
                "not_utf8",
                format!("It wrote a line that is not UTF-8{times}: {line}."),
                mends::utf8(self.program),
            ),
            Fault::TooLong => self.error(
                "line_too_long",
                format!("It wrote a line that is too long{times}: {why}. The gateway throws it away."),
                "Write less in one line, or raise --max-line.".to_owned(),
            ),
            Fault::NoId => self.error(
                "no_id",
                format!("It wrote an object with neither an id nor a command{times}: {line}. The gateway cannot tell which event it answers, and skips it."),
                "Copy the key id of the event into its answer, or answer with the event itself, changed. To send something without being asked, write {\"command\":\"send\",\"message\":\"…\"}.".to_owned(),
            ),
            Fault::IdNotNumber => self.error(
                "id_not_number",
                format!("The id of an answer is not a whole number{times} ({why}): {line}. The gateway skips it."),
                "Write the id as the event has it, a number without quotes: \"id\":3 and not \"id\":\"3\".".to_owned(),
            ),
            Fault::UnknownId => self.error(
                "unknown_id",
                format!("It answered with an id that no event had{times}: {line}. The gateway skips the line, and the event goes without an answer."),
                "Copy the id from the event that you answer; do not count by yourself.".to_owned(),
            ),
            Fault::AnsweredTwice => self.warning(
                "answered_twice",
                format!("It answered an event twice{times}: {line}. The first answer counts, the gateway ignores the second."),
                "Write one answer for each event. To send more than one message, add lines such as {\"command\":\"send\",\"message\":\"…\",\"connections\":[\"k1\"]}.".to_owned(),
            ),
            Fault::ByteOrderMark => self.error(
                "byte_order_mark",
                format!("It wrote a byte order mark (U+FEFF) in front of a line{times}: {line}. The gateway takes it for no JSON, and skips the line."),
                "Write UTF-8 without a byte order mark: new UTF8Encoding(false) in C# and PowerShell, encoding=\"utf-8\" and not \"utf-8-sig\" in Python.".to_owned(),
            ),
            Fault::UnknownKey => self.warning(
                "unknown_key",
                format!("It answers with the key {why:?}, which means nothing to the gateway{times}: {line}. The message goes out unchanged."),
                "Put the text that is to be sent in the key message: {\"id\":3,\"message\":\"…\"}. The other keys are base64, connections, except, channel, join and leave, all in small letters.".to_owned(),
            ),
            Fault::WrongAnswer => self.error(
                "wrong_type",
                format!("An answer is at fault{times}: {why}. The answer: {line}. Its event: {event}. {dropped}"),
                mends::of_answer(why, line),
            ),
            Fault::WrongCommand => self.error(
                "wrong_command",
                format!("A command is at fault{times}: {why}. The line: {line}. The gateway skips it."),
                "The commands are {\"command\":\"send\",\"message\":\"…\"} and {\"command\":\"close\",\"conn\":\"k1\",\"code\":4001}, and join, leave and members for channels. An echo of an event must not get the key command.".to_owned(),
            ),
            Fault::UnknownRecipient => self.warning(
                "unknown_recipient",
                format!("It names a recipient that never was a connection{times}: {why}. The line: {line}. The gateway skips that name."),
                "Use the names of the key conn as they are, such as \"k1\"; forget one when its onClientClose comes.".to_owned(),
            ),
        }
    }

    fn has_answers(&self) -> bool {
        self.ledger.all().any(|(_, sent)| sent.answered.is_some())
    }

    /// Answers that are missing or late.
    fn unanswered(&mut self) {
        let cut = self.facts.cut.is_some();
        let of_cut = |sent: &Sent| cut && sent.step == Step::Burst;
        let dead: Vec<Step> = self.facts.deaths.iter().map(|death| death.step).collect();
        let asked: Vec<(u64, &Sent)> =
            self.ledger.all().filter(|(_, sent)| sent.is_asked()).collect();
        let is_missing =
            |sent: &Sent| sent.answered.is_none() && !of_cut(sent) && !dead.contains(&sent.step);
        let missing: Vec<&(u64, &Sent)> =
            asked.iter().filter(|(_, sent)| is_missing(sent)).collect();
        let late: Vec<&(u64, &Sent)> = asked
            .iter()
            .filter(|(_, sent)| sent.timed_out.is_some() && sent.answered.is_some())
            .collect();
        let limit = self.settings.listener_timeout;
        // Those that are missing because their lines are at fault are told of already.
        let explained = self.ledger.misses >= missing.len();
        if let Some(&&(id, sent)) = missing.first().filter(|_| !explained) {
            let (none, total) = (missing.len(), asked.len());
            if none == total && self.facts.unread.is_some() {
                self.error(
                    "does_not_read",
                    "It does not read its stdin, so it answers nothing. The gateway would stop reading from its clients, \
                     and kill it after hang-timeout."
                        .to_owned(),
                    "Read stdin line by line and answer each line. For a listener that only sends, use --hooks none: \
                     then its stdin is /dev/null and the gateway asks it nothing."
                        .to_owned(),
                );
            } else {
                let what = if none == total {
                    format!("It answered none of {total} events")
                } else {
                    format!("It left {none} of {total} events without an answer")
                };
                let event = &sent.line;
                let mut message =
                    format!("{what}, for example {event}. {}", self.when_unanswered(limit));
                if self.ledger.beside > 0 && none < total {
                    message.push_str(
                        " Some of its lines had ids of other events: look whether the right id is copied.",
                    );
                }
                self.error("no_answer", message, mends::answer_each(id));
            }
        }
        if let Some(&&(_, sent)) = late.first() {
            let took = sent.took().unwrap_or_default();
            let message = format!(
                "{} {} came too late, for example after {} to {}. {}",
                late.len(),
                if late.len() == 1 { "answer" } else { "answers" },
                seconds(took),
                sent.line,
                self.when_unanswered(limit)
            );
            let mend = format!("{} Or raise --listener-timeout.", mends::faster(self.program));
            self.error("late", message, mend);
        }
    }

    fn when_unanswered(&self, limit: Duration) -> String {
        let limit = seconds(limit);
        match self.settings.on_timeout {
            OnTimeout::Drop => {
                format!(
                    "The gateway waits {limit} (listener-timeout) and then drops such a message."
                )
            }
            OnTimeout::Broadcast => format!(
                "The gateway waits {limit} (listener-timeout) and then sends such a message on unchanged \
                 (on-timeout)."
            ),
            OnTimeout::Close => format!(
                "The gateway waits {limit} (listener-timeout), drops such a message and closes its sender \
                 (on-timeout)."
            ),
        }
    }

    /// Answers that take long.
    fn slow(&mut self) {
        let measured = self.facts.cut.or(self.facts.burst);
        let rate = measured.map(|(time, answers)| rate(answers, time));
        let few = rate.filter(|_| measured.is_some_and(|(time, answers)| is_slow(answers, time)));
        // The first one may have waited for the start of the program.
        let single = self.ledger.all().filter(|(_, sent)| {
            !matches!(sent.step, Step::Text | Step::Burst | Step::Handshake)
                && sent.timed_out.is_none()
        });
        let longest = single.filter_map(|(_, sent)| sent.took()).max().filter(|took| *took > LONG);
        let what = match (few, longest) {
            (None, None) => return,
            (Some(rate), _) => format!(
                "It answers about {rate:.1} messages a second. If all clients together send more, the \
                 gateway reads them more slowly: everybody waits"
            ),
            (None, Some(took)) => format!("It takes up to {} for an answer", seconds(took)),
        };
        self.warning("slow", format!("{what}."), mends::faster(self.program));
    }

    fn unicode(&mut self) {
        let Some(damaged) = &self.facts.damaged else { return };
        let message = format!(
            "Characters beyond ASCII do not survive it: \"Grüße, 世界 🎉\" came back within {damaged:?}."
        );
        self.error("unicode", message, mends::utf8(self.program));
    }

    /// How it ends.
    fn ends(&mut self) {
        let (lines, empty) = (self.ledger.lines, self.ledger.empty_behind);
        if empty >= 10 && empty * 3 >= lines {
            let message = format!(
                "It writes an empty line behind each line ({empty} of its {lines} lines), and an empty line is a message, too: \
                 clients get two for one."
            );
            self.warning("empty_lines", message, mends::one_newline(self.program));
        }
        let unread = self.facts.unread.is_some() && self.facts.closed_stdin.is_none();
        if self.settings.is_plain() && unread {
            self.warning(
                "does_not_read",
                "It does not read its stdin. Once clients have filled the pipe, the gateway reads nothing from them for \
                 hang-timeout, and drops their messages from then on."
                    .to_owned(),
                "Start it with --hooks none --route none: then clients have nobody to talk to, and its stdin is /dev/null."
                    .to_owned(),
            );
        }
        if self.facts.stayed {
            let message = "It was still there 4 s after its stdin had ended. Each stop, restart and reload of the \
                           gateway takes that much longer, until SIGTERM ends it.";
            self.error("stays_after_eof", message.to_owned(), mends::end_with_stdin(self.program));
        }
        if self.facts.ignored_sigterm {
            let message = "It was still there 2 s after SIGTERM. The gateway would kill it with SIGKILL, and what it \
                           has not saved by then is lost.";
            self.error("ignores_sigterm", message.to_owned(), mends::heed_sigterm(self.program));
        }
        if !self.facts.children.is_empty() {
            let message = format!(
                "It left processes behind when it exited: {}. The gateway ends them with SIGTERM and SIGKILL, and they hold \
                 up each stop.",
                names(&self.facts.children)
            );
            self.error("children_left", message, mends::end_children(self.program));
        }
        if !self.facts.escaped.is_empty() {
            let message = format!(
                "It left processes behind that are not in its process group any more: {}. The gateway cannot end them: each \
                 restart of the listener would leave more. (They still run now.)",
                names(&self.facts.escaped)
            );
            let mend = format!(
                "{} Start them without setsid, daemon or a session of their own.",
                mends::end_children(self.program)
            );
            self.error("children_escaped", message, mend);
        }
    }
}

/// The line of a stderr that tells most: the last one that names an error, else the last.
pub(super) fn last_words(stderr: &[String]) -> Option<&str> {
    let lines = || stderr.iter().rev().map(|line| line.trim()).filter(|line| !line.is_empty());
    let names_error =
        |line: &&str| ["rror", "xception", "panic", "atal"].iter().any(|part| line.contains(part));
    lines().find(names_error).or_else(|| lines().next())
}

fn names(left: &[Left]) -> String {
    let shown = left.iter().take(5).map(|one| format!("{} (pid {})", one.name, one.pid));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if left.len() > 5 {
        text.push_str(&format!(" and {} more", left.len() - 5));
    }
    text
}

/// A time as people write it.
pub(super) fn seconds(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 0.9995 => format!("{} ms", (s * 1000.0).round().max(1.0)),
        s => format!("{} s", (s * 10.0).round() / 10.0),
    }
}
