// One gateway: its head with what can be done to it, and its parts.

import { at, call } from "./api.js";
import { channels } from "./channels.js";
import { connections } from "./connections.js";
import { ask, complain, say } from "./dialog.js";
import { attribute, h, pill, text } from "./dom.js";
import { showState, to, webAddress } from "./figures.js";
import { count } from "./format.js";
import { send } from "./send.js";
import { summary } from "./summary.js";
import { tail } from "./tail.js";

const PARTS = { "": ["Summary", summary], connections: ["Connections", connections], channels: ["Channels", channels], tail: ["Live tail", tail], send: ["Send", send] };

/** What each verb is called, and what it does to the people who are connected. */
const VERBS = {
  start: { label: "Start", busy: "Starting", done: "runs" },
  stop: {
    label: "Stop", busy: "Stopping", done: "was stopped", danger: true,
    words: ({ connections: n }) => `${n ? `${count(n, "connection")} will be closed, and nobody` : "Nobody"} can connect until it is started again.`,
  },
  restart: {
    label: "Restart", busy: "Restarting", done: "was restarted", danger: true,
    words: ({ connections: n }) => `${n ? `${count(n, "connection")} will be closed. ` : ""}Its port is closed for a moment, and its listener is started anew.`,
  },
  listener: {
    label: "Restart listener", busy: "Restarting listener", done: "has a new listener", path: "restart?listener=true",
    words: () => "Connections stay open. Its process is ended, and a new one is started. What it holds in memory is lost.",
  },
};

export function gateway(live, place) {
  const { id } = place;
  const state = pill("none", "");
  const address = h("span", {});
  const site = h("a", { target: "_blank", rel: "noopener noreferrer" }, "Console");
  const buttons = Object.fromEntries(Object.entries(VERBS).map(([verb, { label }]) =>
    [verb, h("button", { type: "button", id: `verb-${verb}`, onclick: () => act(verb) }, label)]));
  const links = Object.entries(PARTS).map(([part, [name]]) =>
    h("a", { href: part ? to("gateways", id, part) : to("gateways", id), "data-part": part }, name));
  const content = h("div", { id: "part" });
  const gone = h("div", { class: "empty" }, h("h1", {}, `There is no gateway named ${id}`), h("p", {}, h("a", { href: "#/" }, "All gateways")));
  const head = h("div", { class: "title-row" },
    h("div", {}, h("div", { class: "title" }, h("h1", {}, id), state), h("p", { class: "where" }, address, site)),
    h("div", { class: "actions", role: "group", "aria-label": "Actions" }, Object.values(buttons)));
  const tabs = h("nav", { class: "tabs", "aria-label": `Parts of ${id}` }, links);
  const root = h("div", { class: "stack" }, head, tabs, content, gone);
  const view = { root, title: id };
  let part = null, shown = null, busy = null;

  async function act(verb) {
    const { label, words, danger, done, path } = VERBS[verb];
    const now = live.gateway(id);
    if (words && !(await ask({ title: verb === "listener" ? `Restart the listener of ${id}?` : `${label} ${id}?`, words: words(now ?? {}), action: label, danger }))) return;
    busy = verb;
    showVerbs();
    try {
      const { data } = await call(`${at(id)}/${path ?? verb}`, { method: "POST" });
      live.learn(data);
      say(`${id} ${done}.`);
    } catch (problem) {
      complain(`${label}: ${problem.message}`);
    }
    const had = document.activeElement === document.body || document.activeElement === buttons[verb];
    busy = null;
    showVerbs();
    // The button that was pressed may have gone.
    const there = (one) => !one.hidden && !one.disabled;
    if (had) [buttons[verb], ...Object.values(buttons)].find(there)?.focus();
  }

  function showVerbs() {
    const one = live.gateway(id);
    if (!one) return;
    const up = ["running", "starting"].includes(one.state);
    const offered = { start: !up && one.state !== "stopping", stop: up || one.state === "stopping", restart: up, listener: up && Boolean(one.listener_detail) };
    for (const [verb, button] of Object.entries(buttons)) {
      button.hidden = busy ? busy !== verb : !offered[verb];
      button.disabled = Boolean(busy) || one.state === "stopping";
      text(button, busy === verb ? `${VERBS[verb].busy}…` : VERBS[verb].label);
      button.classList.toggle("main", verb === "start");
    }
  }

  function showPart(name) {
    const known = PARTS[name.part] ? name.part : "";
    if (shown === known && part?.go?.(name)) return;
    part?.leave?.();
    shown = known;
    part = PARTS[known][1](live, id, name);
    content.replaceChildren(part.root);
    for (const link of links) attribute(link, "aria-current", link.dataset.part === known ? "page" : null);
    view.title = known ? `${PARTS[known][0]}, ${id}` : id;
    document.title = `${view.title} · wsgw`;
    part.update?.();
  }

  view.go = (next) => {
    if (next.section !== "gateways" || next.id !== id) return false;
    showPart(next);
    return true;
  };
  view.leave = () => part?.leave?.();
  view.update = (kind) => {
    const one = live.gateway(id);
    for (const node of [head, tabs, content]) node.hidden = !one;
    gone.hidden = Boolean(one) || !live.watch;
    if (!one) return;
    showState(state, one);
    text(address, one.address ?? "not bound");
    address.classList.toggle("mono", Boolean(one.address));
    const url = one.console && one.state === "running" ? webAddress(one.address) : null;
    attribute(site, "href", url);
    site.hidden = !url;
    showVerbs();
    part?.update?.(kind);
  };
  showPart(place);
  return view;
}
