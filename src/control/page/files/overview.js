// All gateways at a glance.

import { attribute, bar, h, keyed, pill, setPill, sparkline, text } from "./dom.js";
import { empty, figure, refusedOf, showState, to } from "./figures.js";
import { count, ms, number, rate, since } from "./format.js";
import { KEPT } from "./live.js";
import { logLine } from "./log.js";

const NEWEST = 6;
const HEALTH = { ok: ["good", "Healthy"], degraded: ["warn", "Degraded"], failed: ["bad", "Failed"] };
const COLUMNS = ["Gateway", "Connections", "In /s", "Out /s", "Answer time", "Window", "Refused", "Out, last two minutes"];

export function overview(live) {
  const health = pill("none", "…");
  const words = h("ul", { class: "reasons" });
  const about = h("p", { class: "hint" });
  const figures = {
    connections: figure("Connections"), messages_in: figure("Messages in", "/s"),
    messages_out: figure("Messages out", "/s"), opened: figure("Opened", "/s"),
  };
  const body = h("tbody", { role: "rowgroup" });
  const table = h("table", { class: "gateways", role: "table" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, COLUMNS.map((name, n) =>
      h("th", { scope: "col", role: "columnheader", class: n > 0 && n < 7 ? "right" : null },
        n === 7 ? h("span", { class: "unseen" }, name) : name)))), body);
  const none = empty("This wsgw serves no gateway.",
    "Add a table ", h("code", {}, "[gateways.ID]"), " to its config, and then run ", h("code", {}, "wsgw reload"), ".");
  const nodes = h("ul", { class: "chips" });
  const cluster = h("section", { class: "panel", "aria-labelledby": "nodes-title", hidden: true },
    h("h2", { id: "nodes-title" }, "Nodes"), nodes);
  const log = h("ol", { class: "log short" });
  const quiet = h("p", { class: "hint" }, "The log is empty so far.");
  const root = h("div", { class: "stack" },
    h("div", { class: "title-row" }, h("div", { class: "title" }, h("h1", {}, "Gateways"), health), about),
    words,
    h("div", { class: "figures" }, Object.values(figures).map((one) => one.root)),
    h("section", { class: "panel flush", "aria-label": "All gateways" }, table, none),
    cluster,
    h("section", { class: "panel", "aria-labelledby": "newest-title" },
      h("div", { class: "head" }, h("h2", { id: "newest-title" }, "Newest log lines"), h("a", { href: "#/log" }, "Whole log")),
      log, quiet));

  function update() {
    const { watch } = live;
    root.hidden = !watch;
    if (!watch) return;
    const [tone, word] = HEALTH[watch.health] ?? ["none", watch.health];
    setPill(health, tone, word);
    keyed(words, watch.reasons, (reason) => reason, (reason) => h("li", {}, reason));
    attribute(words, "data-tone", tone);
    words.hidden = watch.reasons.length === 0;
    text(about, `wsgw ${watch.version}, process ${watch.pid}, up for ${since(watch.since, watch.time)}`);
    for (const [key, shown] of Object.entries(figures)) {
      const values = live.line("", key);
      shown.set((key === "connections" ? number : rate)(values.at(-1)), values);
    }
    none.hidden = watch.gateways.length > 0;
    table.hidden = watch.gateways.length === 0;
    keyed(body, watch.gateways, (one) => one.id, makeRow, (row, one) => row.show(one, live));
    cluster.hidden = watch.nodes.length === 0;
    keyed(nodes, watch.nodes, (name) => name, (name) => h("li", {}, name));
    const newest = live.log.slice(-NEWEST);
    const from = live.log.length - newest.length;
    keyed(log, newest.map((line, n) => [from + n, line]), ([n, line]) => `${n} ${line}`, ([, line]) => logLine(line));
    quiet.hidden = newest.length > 0;
  }

  return { root, title: "Gateways", update };
}

/** A cell whose label is shown where the table is too narrow for a head. */
function cell(label, ...content) {
  return h("td", { role: "cell", class: "right" }, h("span", { class: "label", "aria-hidden": "true" }, label), h("span", { class: "data" }, ...content));
}

function makeRow(gateway) {
  const state = pill("none", "");
  const address = h("div", { class: "hint" });
  const wrong = h("div", { class: "wrong" });
  const connections = h("span", {}), incoming = h("span", {}), outgoing = h("span", {}), refused = h("span", {});
  const answers = h("span", {}), slowest = h("span", { class: "hint" });
  const window = h("span", {}), filled = bar();
  const spark = sparkline();
  const row = h("tr", { role: "row" },
    h("th", { scope: "row", role: "rowheader" },
      h("div", { class: "name" }, h("a", { href: to("gateways", gateway.id) }, gateway.id), state), address, wrong),
    cell("Connections", connections), cell("In /s", incoming), cell("Out /s", outgoing),
    cell("Answer time", answers, slowest), cell("Window", window, filled.root), cell("Refused", refused),
    h("td", { role: "cell", class: "chart" }, spark.root));
  row.show = (one, live) => {
    showState(state, one);
    text(address, one.address ?? "not bound");
    address.classList.toggle("mono", Boolean(one.address));
    const error = one.state === "failed" ? one.error : one.last_error?.message;
    // The reason of a failure has lines of stderr below it.
    text(wrong, (error ?? "").replace(/\n\s*(stderr: )?/g, "; "));
    wrong.hidden = !error;
    attribute(wrong, "data-tone", one.state === "failed" ? "bad" : "warn");
    text(connections, number(one.connections));
    text(incoming, rate(one.rates.messages_in));
    text(outgoing, rate(one.rates.messages_out));
    const detail = one.listener_detail;
    text(answers, detail ? ms(detail.p50_ms) : "–");
    text(slowest, detail && detail.p99_ms !== null ? `p99 ${ms(detail.p99_ms)}` : "");
    text(window, detail ? `${number(detail.unanswered)} of ${number(detail.window)}` : "–");
    attribute(filled.root, "hidden", detail ? null : "");
    filled.draw(detail ? detail.unanswered / Math.max(1, detail.window) : 0, one.queued > 0);
    const sum = refusedOf(one);
    text(refused, number(sum));
    attribute(refused, "title", sum ? count(sum, "refusal") : null);
    spark.draw(live.line(one.id, "messages_out"), KEPT);
  };
  return row;
}
