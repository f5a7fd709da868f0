// Parts that several views are made of.

import { h, setPill, sparkline, text } from "./dom.js";
import { KEPT } from "./live.js";

/** A large number, what it counts, and how it went. */
export function figure(label, unit = "") {
  const value = h("span", { class: "value" }, "–");
  const note = h("p", { class: "hint" });
  const spark = sparkline();
  const root = h("div", { class: "panel figure" },
    h("h2", {}, label), h("p", { class: "number" }, value, unit && h("span", { class: "unit" }, unit)), note, spark.root);
  return {
    root,
    set(words, values, more = "") {
      text(value, words);
      text(note, more);
      spark.draw(values, KEPT);
    },
  };
}

const STATES = {
  running: ["good", "running"], starting: ["warn", "starting"], stopping: ["warn", "stopping"],
  stopped: ["none", "stopped"], failed: ["bad", "failed"],
};

/** Shows the state of a gateway. One whose listener is away is not well, though it runs. */
export function showState(node, gateway) {
  const [tone, word] = STATES[gateway.state] ?? ["none", gateway.state];
  if (gateway.state === "running" && gateway.listener === "restarting") setPill(node, "warn", "listener down");
  else setPill(node, tone, word);
}

/** The sum of what was refused. */
export const refusedOf = (gateway) => gateway.refused.reduce((sum, { count }) => sum + count, 0);

/** Where a browser finds a gateway that is bound to this address; null where it cannot. */
export function webAddress(address) {
  if (!/^wss?:\/\//.test(address ?? "")) return null;
  try {
    const url = new URL(address.replace(/^ws/, "http"));
    // Bound to all addresses: the one that this page came from is among them.
    if (["0.0.0.0", "[::]"].includes(url.hostname)) url.hostname = location.hostname;
    return url.href;
  } catch {
    return null;
  }
}

/** A link within this page. */
export const to = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;

/** What stands where there is nothing to show. */
export const empty = (title, ...words) => h("div", { class: "empty" }, h("p", { class: "title" }, title), words.length > 0 && h("p", {}, ...words));
