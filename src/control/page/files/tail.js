// What the listener is asked and what it answers, as it happens. Off until it is asked for.

import { at, events } from "./api.js";
import { attribute, h, pill, text } from "./dom.js";
import { empty } from "./figures.js";
import { clock, count, ms, number } from "./format.js";

const KEPT = 500;
const LONG = 240; // characters of a line that are shown at first
const OUTCOMES = { answered: "good", told: "none", command: "none", timeout: "bad", late: "warn", fault: "bad", lost: "bad" };
const WORDS = { answered: "answered", told: "no answer needed", command: "command", timeout: "timed out", late: "too late", fault: "fault", lost: "lost" };

export function tail(live, id) {
  let going = null, paused = false, drawing = false, skipped = 0, seen = 0;
  let waiting = [];
  const start = h("button", { type: "button", class: "main", id: "tail-start", onclick: () => (going ? stop() : begin()) }, "Start tail");
  const pause = h("button", { type: "button", id: "tail-pause", "aria-pressed": "false", onclick: hold }, "Pause");
  const clear = h("button", { type: "button", id: "tail-clear", onclick: forget }, "Clear");
  const filter = h("input", { id: "tail-filter", type: "search", autocomplete: "off", spellcheck: "false", oninput: sift });
  const follow = h("input", { id: "tail-follow", type: "checkbox", checked: true, onchange: toEnd });
  const status = h("p", { class: "hint", role: "status" });
  const counts = h("p", { class: "hint", id: "tail-counts" });
  const list = h("ol", { class: "events", id: "tail-events" });
  const box = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Events, the newest last", hidden: true }, list);
  const off = empty("The live tail is off.",
    "Start it to see each event that the listener of this gateway is sent, its answer, and the time between. Contents of messages are shown. At most 50 events a second are; the others are counted. The log says that a tail was started and when it ended.");
  const none = h("p", { class: "hint waiting", hidden: true }, "Nothing has happened yet.");
  const root = h("section", { class: "panel tall", "aria-label": "Live tail" },
    h("div", { class: "tools" }, h("div", { class: "actions" }, start, pause, clear),
      h("div", { class: "field grow" }, h("label", { for: "tail-filter" }, "Filter"), filter),
      h("label", { class: "check" }, follow, h("span", {}, "Follow"))),
    h("div", { class: "head" }, status, counts), off, none, box);

  async function begin() {
    const mine = (going = new AbortController());
    off.hidden = true;
    show("Starting…");
    let ended = "The tail ended: wsgw serve closed it.";
    try {
      await events(`${at(id, "tail")}`, { signal: mine.signal, opened: () => show("On, as the log says.") }, take);
    } catch (problem) {
      ended = `The tail is off: ${problem.message}`;
    }
    if (going !== mine) return;
    going = null;
    show(ended);
  }
  function stop() {
    going?.abort();
    going = null;
    show("Off.");
  }
  function show(words) {
    text(status, words);
    text(start, going ? "Stop tail" : "Start tail");
    start.classList.toggle("main", !going);
    pause.disabled = !going;
    clear.disabled = seen === 0;
    box.hidden = list.children.length === 0;
    none.hidden = !going || !box.hidden;
  }
  function hold() {
    paused = !paused;
    pause.ariaPressed = String(paused);
    text(pause, paused ? "Go on" : "Pause");
    if (!paused) draw();
  }
  function forget() {
    list.replaceChildren();
    waiting = [];
    seen = skipped = 0;
    tally();
    show(status.textContent);
  }
  function take(event) {
    if (event.skipped !== undefined) skipped += event.skipped;
    else seen += 1;
    waiting.push(event);
    if (waiting.length > KEPT) waiting.shift();
    if (paused) tally();
    else if (!drawing) {
      drawing = true;
      setTimeout(draw, 60);
    }
  }
  function draw() {
    drawing = false;
    if (paused) return;
    for (const event of waiting) list.append(event.skipped === undefined ? entry(event) : gap(event.skipped));
    waiting = [];
    while (list.children.length > KEPT) list.firstChild.remove();
    if (filter.value) sift();
    box.hidden = list.children.length === 0;
    none.hidden = !box.hidden;
    clear.disabled = false;
    tally();
    toEnd();
  }
  function tally() {
    counts.hidden = seen + skipped === 0;
    text(counts, `${count(seen, "event")}${skipped ? `, ${number(skipped)} not shown` : ""}${paused ? `, ${number(waiting.length)} new` : ""}`);
  }
  function sift() {
    const needle = filter.value.toLowerCase();
    for (const item of list.children) item.hidden = Boolean(needle) && !item.textContent.toLowerCase().includes(needle);
    toEnd();
  }
  function toEnd() {
    if (follow.checked) box.scrollTop = box.scrollHeight;
  }
  for (const event of ["wheel", "touchmove", "keydown"]) {
    box.addEventListener(event, () => requestAnimationFrame(() => {
      follow.checked = box.scrollHeight - box.scrollTop - box.clientHeight < 8;
    }), { passive: true });
  }
  show("");
  tally();
  return {
    root,
    go: () => true,
    update() {
      const one = live.gateway(id);
      if (going || !one) return;
      start.disabled = !one.listener_detail || one.state !== "running";
      attribute(start, "title", start.disabled ? "The gateway has no listener that runs" : null);
    },
    leave: stop,
  };
}

const gap = (n) => h("li", { class: "gap" }, `${count(n, "event")} more, not shown: too many at once`);

function entry(event) {
  const way = (sign, label, words) => {
    const line = h("pre", {}, words.length > LONG ? `${words.slice(0, LONG)}…` : words);
    const row = h("div", { class: "way" }, h("span", { class: "sign", role: "img", "aria-label": label }, sign), line);
    if (words.length > LONG) {
      const more = h("button", { type: "button", class: "quiet", onclick: () => { text(line, words); more.remove(); } }, "Show all");
      row.append(more);
    }
    return row;
  };
  return h("li", { "data-outcome": event.outcome },
    h("p", { class: "meta" }, h("time", { datetime: event.at }, clock(event.at, true)), h("b", {}, event.event),
      h("span", { class: "mono" }, event.conn ?? ""), event.id !== null && h("span", { class: "hint" }, `event ${event.id}`),
      h("span", { class: "took" }, event.ms === null ? "" : ms(event.ms)), pill(OUTCOMES[event.outcome] ?? "none", WORDS[event.outcome] ?? event.outcome)),
    event.line && way("→", "to the listener", event.line), event.answer && way("←", "from the listener", event.answer),
    event.why && h("p", { class: "why" }, event.why));
}
