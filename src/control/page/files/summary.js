// A gateway at rest: traffic, listener, refusals, errors.

import { attribute, bar, fact, h, keyed, lines, panel, text } from "./dom.js";
import { figure, refusedOf, to } from "./figures.js";
import { bytes, count, moment, ms, number, rate, since } from "./format.js";

export function summary(live, id) {
  const figures = { connections: figure("Connections"), messages_in: figure("Messages in", "/s"), messages_out: figure("Messages out", "/s") };
  const parts = [wrong(), listener(), traffic(id), refusals()];
  const [error, process, totals, refused] = parts;
  const root = h("div", { class: "stack" },
    error.root,
    h("div", { class: "figures three" }, Object.values(figures).map((one) => one.root)),
    h("div", { class: "columns" }, process.root, h("div", { class: "stack" }, totals.root, refused.root)));

  function update() {
    const one = live.gateway(id);
    if (!one) return;
    const { rates } = one;
    figures.connections.set(number(one.connections), live.line(id, "connections"), `${rate(rates.opened)} opened a second`);
    figures.messages_in.set(rate(rates.messages_in), live.line(id, "messages_in"), `${bytes(rates.bytes_in)} a second from clients`);
    figures.messages_out.set(rate(rates.messages_out), live.line(id, "messages_out"), `${bytes(rates.bytes_out)} a second to clients`);
    for (const part of parts) part.show(one, live.watch);
  }
  return { root, update };
}

/** The reason of a gateway that failed, else the last thing that went wrong. */
function wrong() {
  const title = h("h2", {});
  const when = h("p", { class: "hint" });
  const message = h("p", { class: "message" });
  const said = h("p", { class: "hint" }, "The listener's last lines on stderr before it:");
  const stderr = lines("Lines of stderr before the error");
  const root = h("section", { class: "panel alert", "aria-label": "Last error" },
    h("div", { class: "head" }, title, when), message, said, stderr.root);
  return {
    root,
    show(one, watch) {
      const last = one.last_error;
      const failed = one.state === "failed";
      root.hidden = !failed && !last;
      if (root.hidden) return;
      attribute(root, "data-tone", failed ? "bad" : "warn");
      text(title, failed ? "This gateway has failed" : "Last error");
      text(when, last ? `${moment(last.at)}, ${since(last.at, watch.time)} ago` : "");
      const all = last?.stderr ?? [];
      const words = (failed && one.error) || last?.message || "";
      // The reason of a failure has the lines of stderr with it.
      text(message, all.length ? words.split("\n")[0] : words);
      said.hidden = stderr.root.hidden = all.length === 0;
      stderr.set(all);
    },
  };
}

function listener() {
  const state = h("span", { class: "hint" });
  const command = h("pre", { class: "command" });
  const facts = {
    pid: fact("Process"), since: fact("Runs for"), restarts: fact("Restarts"), window: fact("Window"),
    p50: fact("Half of the answers within"), p99: fact("99 of 100 within"), queued: fact("Events that wait"),
    timeouts: fact("Time-outs"), faults: fact("Lines not understood"),
  };
  const filled = bar();
  facts.window.root.append(filled.root);
  const wrote = h("h3", {}, "Last lines on stderr");
  const stderr = lines("Last lines of stderr");
  const silent = h("p", { class: "hint" }, "It has written nothing to stderr.");
  const having = h("div", { class: "stack small" }, command, h("dl", { class: "facts" }, Object.values(facts).map((one) => one.root)), wrote, stderr.root, silent);
  const without = h("p", { class: "hint" }, "This gateway has no listener: it passes messages on by its route.");
  const root = panel("listener", "Listener", state, having, without);
  return {
    root,
    show(one, watch) {
      const detail = one.listener_detail;
      having.hidden = !detail;
      without.hidden = Boolean(detail);
      text(state, !detail ? "" : { up: "up", restarting: "is being restarted", none: "not running" }[one.listener] ?? one.listener);
      attribute(state, "data-tone", one.listener === "restarting" ? "bad" : null);
      if (!detail) return;
      if (command.textContent !== detail.command) command.replaceChildren(...words(detail.command));
      facts.pid.set(one.listener_pid ?? "–");
      facts.since.set(detail.since ? since(detail.since, watch.time) : "–");
      attribute(facts.since.value, "title", detail.since ? `since ${moment(detail.since)}` : null);
      facts.restarts.set(number(one.restarts));
      facts.window.set(`${number(detail.unanswered)} of ${number(detail.window)} unanswered`);
      filled.draw(detail.unanswered / Math.max(1, detail.window), one.queued > 0);
      facts.p50.set(ms(detail.p50_ms));
      facts.p99.set(ms(detail.p99_ms));
      attribute(facts.p99.root, "title", `of ${count(detail.answers, "answer")}`);
      facts.queued.set(number(one.queued));
      facts.timeouts.set(number(detail.timeouts));
      facts.faults.set(number(detail.faults));
      stderr.root.hidden = wrote.hidden = detail.stderr.length === 0;
      silent.hidden = detail.stderr.length > 0;
      stderr.set(detail.stderr);
    },
  };
}

/** A command that breaks between its words, not behind a hyphen. */
function words(command) {
  return command.split(/( +)/).map((word, n) => (n % 2 ? word : h("span", { class: "word" }, word)));
}

function traffic(id) {
  const facts = {
    messages_in: fact("Messages in"), messages_out: fact("Messages out"), dropped: fact("Dropped, queues full"),
    slow_consumers: fact("Closed as slow"), channels: fact("Channels"), history_messages: fact("Messages kept"),
  };
  facts.channels.value.replaceChildren();
  const link = h("a", { href: to("gateways", id, "channels") });
  facts.channels.value.append(link);
  const startup = h("span", { class: "hint" });
  const root = panel("totals", "Since the start", startup, h("dl", { class: "facts" }, Object.values(facts).map((one) => one.root)));
  return {
    root,
    show(one) {
      text(startup, one.startup ? `startup ${one.startup}` : "");
      for (const key of ["messages_in", "messages_out", "dropped", "slow_consumers"]) {
        facts[key].set(number(one[key]));
      }
      for (const key of ["dropped", "slow_consumers"]) attribute(facts[key].value, "data-tone", one[key] ? "warn" : null);
      text(link, number(one.channels));
      facts.history_messages.set(one.history_messages === undefined ? "none: no history" : number(one.history_messages));
    },
  };
}

function refusals() {
  const sum = h("span", { class: "hint" });
  const list = h("ul", { class: "refusals" });
  const none = h("p", { class: "hint" }, "Nothing was refused.");
  const root = panel("refusals", "Refusals", sum, list, none);
  return {
    root,
    show(one) {
      const all = one.refused.filter(({ count: n }) => n > 0);
      none.hidden = all.length > 0;
      list.hidden = all.length === 0;
      text(sum, all.length ? `${number(refusedOf(one))} in all` : "");
      keyed(list, all, ({ reason }) => reason, makeRefusal, (row, refusal) => row.show(refusal));
    },
  };
}

function makeRefusal({ reason }) {
  const times = h("span", { class: "times" });
  const words = h("p", {});
  const key = h("code", {});
  const change = h("p", { class: "hint" }, "To change it: ", key);
  const row = h("li", {}, h("div", { class: "head" }, h("b", {}, reason), times), words, change);
  row.show = (refusal) => {
    text(times, number(refusal.count));
    text(words, refusal.text);
    change.hidden = !refusal.key;
    text(key, refusal.key ?? "");
  };
  return row;
}
