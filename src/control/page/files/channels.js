// The channels of a gateway: who is in them, and what is kept of them.

import { at, call, callLines } from "./api.js";
import { fact, h, keyed, text } from "./dom.js";
import { empty, to } from "./figures.js";
import { bytes, count, moment, number } from "./format.js";

const PAGE = 25;
const EACH = 5;
const KEPT = 20; // messages of a channel
const SHOWN = 800; // characters of one

export function channels(live, id, place) {
  const list = chooser(id);
  const one = detail(live, id);
  const root = h("div", { class: "split" }, list.root, one.root);
  let ticks = 0;
  function go(next) {
    root.classList.toggle("chosen", Boolean(next.name));
    list.choose(next.name);
    one.show(next.name);
    ticks = 0;
    return true;
  }
  list.load();
  go(place);
  return {
    root,
    go,
    update(kind) {
      if (kind !== "watch") return;
      ticks += 1;
      if (ticks < EACH) return;
      ticks = 0;
      list.load();
      one.load();
    },
    leave() {
      list.leave();
      one.leave();
    },
  };
}

/** Loads one thing at a time: a later question makes the answer to an earlier one worthless. */
function latest() {
  let going = null;
  const run = async (work) => {
    going?.abort();
    const mine = (going = new AbortController());
    try {
      await work(mine.signal);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  };
  run.stop = () => going?.abort();
  return run;
}

/** Pages of a list that is read by "what comes after this one". */
function pager(load) {
  let before = [];
  let next = null;
  const back = h("button", { type: "button", onclick: () => { before.pop(); load(); } }, "Previous");
  const on = h("button", { type: "button", onclick: () => { before.push(next); load(); } }, "Next");
  const words = h("p", { class: "hint" });
  return {
    root: h("div", { class: "pages" }, words, h("div", { class: "actions" }, back, on)),
    after: () => before.at(-1) ?? null,
    page: () => before.length,
    reset: () => { before = []; },
    set(said, last) {
      next = last;
      text(words, said);
      back.disabled = before.length === 0;
      on.disabled = last === null;
      back.parentNode.hidden = back.disabled && on.disabled;
    },
  };
}

function chooser(id) {
  const run = latest();
  let chosen = "";
  const prefix = h("input", { id: "channel-prefix", type: "search", autocomplete: "off", spellcheck: "false" });
  const names = h("ul", { class: "names" });
  const columns = h("p", { class: "columns-of hint", "aria-hidden": "true" }, h("span", {}, "Channel"), h("span", {}, "Members"));
  const nothing = h("div", {});
  const pages = pager(load);
  let typing;
  prefix.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => { pages.reset(); load(); }, 250);
  });

  function load() {
    return run(async (signal) => {
      const query = new URLSearchParams({ limit: PAGE + 1 });
      if (prefix.value.trim()) query.set("prefix", prefix.value.trim());
      if (pages.after()) query.set("after", pages.after());
      let found = [], problem = null;
      try {
        found = (await call(`${at(id, "channels")}?${query}`, { signal })).data;
      } catch (error) {
        if (error.name === "AbortError") throw error;
        problem = error;
      }
      if (signal.aborted) return;
      const shown = found.slice(0, PAGE);
      keyed(names, shown, (one) => one.channel, makeName, (item, one) => item.show(one));
      mark();
      nothing.replaceChildren(...(shown.length ? [] : [
        problem?.code === "not_running" ? empty(`${id} does not run.`, "Start it, and its channels appear here.")
        : problem ? empty("The channels cannot be shown.", problem.message)
        : prefix.value.trim() ? empty(`No channel begins with “${prefix.value.trim()}”.`)
        : empty("There are no channels yet.", "A channel exists while it has members or kept messages.")]));
      const first = pages.page() * PAGE;
      pages.set(shown.length ? `${number(first + 1)} to ${number(first + shown.length)}` : "", found.length > PAGE ? shown.at(-1).channel : null);
      pages.root.hidden = columns.hidden = shown.length === 0;
    });
  }
  function makeName({ channel }) {
    const members = h("span", { class: "hint" });
    const link = h("a", { href: to("gateways", id, "channels", channel), "data-channel": channel }, h("span", { class: "mono" }, channel), members);
    const item = h("li", {}, link);
    item.show = (one) => text(members, number(one.members));
    return item;
  }
  function mark() {
    for (const link of names.querySelectorAll("a")) {
      if (link.dataset.channel === chosen) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }
  return {
    root: h("section", { class: "panel choose", "aria-label": "Channels" },
      h("div", { class: "field" }, h("label", { for: "channel-prefix" }, "Names that begin with"), prefix),
      columns, names, nothing, pages.root),
    load,
    choose(name) {
      chosen = name;
      mark();
    },
    leave() {
      clearTimeout(typing);
      run.stop();
    },
  };
}

function detail(live, id) {
  const run = latest();
  let name = "";
  const title = h("h2", { class: "mono", id: "channel-title" });
  const back = h("a", { class: "back", href: to("gateways", id, "channels") }, "All channels");
  const facts = { count: fact("Members"), messages: fact("Messages kept"), bytes: fact("Size"), oldest: fact("Oldest"), at: fact("Position of the newest") };
  const members = h("ul", { class: "chips" });
  const nobody = h("p", { class: "hint" }, "Nobody is in this channel now.");
  const pages = pager(() => load());
  const kept = h("ol", { class: "kept" });
  const keptTitle = h("h3", {}, "Newest kept messages");
  const nothingKept = h("p", { class: "hint" });
  const known = h("div", { class: "stack small" }, h("dl", { class: "facts" }, Object.values(facts).map((one) => one.root)),
    h("h3", {}, "Members"), members, nobody, pages.root, keptTitle, nothingKept, kept);
  const other = h("div", {});
  const root = h("section", { class: "panel", "aria-label": "Channel" }, back, title, known, other);

  function load() {
    if (!name) return undefined;
    return run(async (signal) => {
      const query = new URLSearchParams({ limit: PAGE + 1 });
      if (pages.after()) query.set("after", pages.after());
      try {
        const { data } = await call(`${at(id, "channels", name)}?${query}`, { signal });
        const messages = data.history ? await newest(signal) : null;
        if (signal.aborted) return;
        other.replaceChildren();
        known.hidden = false;
        draw(data, messages);
      } catch (problem) {
        if (problem.name === "AbortError" || signal.aborted) throw problem;
        known.hidden = true;
        other.replaceChildren(problem.code === "unknown_channel"
          ? empty("This channel has neither members nor kept messages.", "It comes back when somebody joins it.")
          : empty("The channel cannot be shown.", problem.message));
      }
    });
  }
  const newest = (signal) => callLines(`${at(id, "history")}?${new URLSearchParams({ channel: name, since: KEPT })}`, { signal });

  function draw(data, messages) {
    const shown = data.members.slice(0, PAGE);
    keyed(members, shown, (conn) => conn, (conn) => h("li", {}, h("a", { class: "mono", href: `${to("gateways", id, "connections")}?${new URLSearchParams({ filter: conn })}` }, conn)));
    nobody.hidden = data.count > 0;
    members.hidden = shown.length === 0;
    const first = pages.page() * PAGE;
    pages.set(shown.length ? `${number(first + 1)} to ${number(first + shown.length)} of ${number(data.count)}` : "", data.members.length > PAGE ? shown.at(-1) : null);
    pages.root.hidden = data.count <= PAGE && !pages.page();
    facts.count.set(number(data.count));
    const { history } = data;
    for (const key of ["messages", "bytes", "oldest", "at"]) facts[key].root.hidden = !history;
    keptTitle.hidden = false;
    nothingKept.hidden = Boolean(messages?.length);
    text(nothingKept, history ? "No message of it is kept." : "This gateway keeps no history.");
    kept.hidden = !messages?.length;
    if (!history) return;
    facts.messages.set(number(history.messages));
    facts.bytes.set(bytes(history.bytes));
    facts.oldest.set(history.oldest_at ? moment(history.oldest_at) : "–");
    facts.at.set(history.at);
    keyed(kept, [...messages].reverse(), (one) => one.at, makeMessage);
  }
  return {
    root,
    load,
    show(next) {
      const changed = next !== name;
      name = next;
      text(title, name);
      title.hidden = back.hidden = !name;
      if (!name) {
        run.stop();
        known.hidden = true;
        other.replaceChildren(empty("Choose a channel.", "Its members and its kept messages are shown here."));
      } else if (changed) {
        pages.reset();
        known.hidden = true;
        other.replaceChildren();
        load();
      }
    },
    leave: () => run.stop(),
  };
}

function makeMessage(one) {
  const binary = one.base64 !== undefined;
  const size = binary ? Math.floor((one.base64.replace(/=+$/, "").length * 3) / 4) : new Blob([one.message]).size;
  return h("li", {}, h("p", { class: "hint" }, h("span", { class: "mono" }, one.at), `, ${binary ? "binary" : "text"}, ${bytes(size)}`),
    h("pre", {}, cut(binary ? one.base64 : one.message)));
}

const cut = (words) => (words.length > SHOWN ? `${words.slice(0, SHOWN)}… (${count(words.length - SHOWN, "character")} more)` : words);
