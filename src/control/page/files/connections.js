// The connections of a gateway: a page of them at a time, sorted and filtered by `serve`.

import { at, call } from "./api.js";
import { ask, complain, say } from "./dialog.js";
import { attribute, fact, h, keyed, text } from "./dom.js";
import { empty, to } from "./figures.js";
import { bytes, moment, number, since } from "./format.js";

const PAGE = 50;
const EACH = 5; // seconds between two looks
const CHIPS = 3;
const COLUMNS = [["Connection", null], ["Address", "remote"], ["Path", "path"], ["Channels", null], ["Connected", "opened"], ["Waiting", "queued"], ["", null]];
const SORTS = { opened: "time connected", remote: "address", path: "path", queued: "bytes that wait" };

export function connections(live, id, place) {
  let ordered = read(place);
  let going = null, ticks = 0, total = 0, silent = null, left = false, drawn = [];
  const opened = new Set();

  const filter = h("input", { id: "conn-filter", type: "search", autocomplete: "off", spellcheck: "false", placeholder: "address, path, channel or name" });
  const sorted = h("select", { id: "conn-sort" }, Object.entries(SORTS).map(([key, name]) => h("option", { value: key }, name)));
  const order = h("select", { id: "conn-order" }, h("option", { value: "asc" }, "rising"), h("option", { value: "desc" }, "falling"));
  const shown = h("p", { class: "hint", role: "status", id: "conn-shown" });
  const back = h("button", { type: "button", id: "conn-back", onclick: () => turn(-PAGE) }, "Previous");
  const on = h("button", { type: "button", id: "conn-on", onclick: () => turn(PAGE) }, "Next");
  const heads = COLUMNS.map(([name, key]) => h("th", { scope: "col", role: "columnheader", class: key === "queued" ? "right" : null },
    key ? h("button", { type: "button", class: "sort", "data-sort": key, onclick: () => sortBy(key) }, name) : name || h("span", { class: "unseen" }, "Actions")));
  const body = h("tbody", { role: "rowgroup" });
  const table = h("table", { class: "conns", role: "table", "aria-label": `Connections of ${id}` },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)), body);
  const nothing = h("div", {});
  const pages = h("div", { class: "pages" }, shown, h("div", { class: "actions" }, back, on));
  const root = h("section", { class: "panel", "aria-label": "Connections" },
    h("div", { class: "tools" },
      h("div", { class: "field grow" }, h("label", { for: "conn-filter" }, "Filter"), filter),
      h("div", { class: "field narrow" }, h("label", { for: "conn-sort" }, "Sorted by"), sorted),
      h("div", { class: "field narrow" }, h("label", { for: "conn-order" }, "Order"), order)),
    table, nothing, pages);

  let typing;
  filter.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => go({ filter: filter.value.trim(), offset: 0 }), 250);
  });
  sorted.addEventListener("change", () => go({ sort: sorted.value, offset: 0 }));
  order.addEventListener("change", () => go({ order: order.value, offset: 0 }));

  function sortBy(key) {
    const turned = ordered.sort === key && ordered.order === "asc" ? "desc" : "asc";
    go({ sort: key, order: ordered.sort === key ? turned : key === "queued" ? "desc" : "asc", offset: 0 });
  }
  function turn(by) {
    go({ offset: Math.max(0, ordered.offset + by) });
    root.scrollIntoView({ block: "nearest" });
  }
  /** What is asked for stands in the address, so that it survives a reload and can be passed on. */
  function go(change) {
    ordered = { ...ordered, ...change };
    const query = new URLSearchParams(Object.entries(ordered).filter(([key, value]) => String(value) !== String(read({}) [key])));
    history.replaceState(null, "", `${to("gateways", id, "connections")}${query.size ? `?${query}` : ""}`);
    showOrder();
    load();
  }
  function showOrder() {
    if (document.activeElement !== filter) filter.value = ordered.filter;
    sorted.value = ordered.sort;
    order.value = ordered.order;
    for (const [n, [, key]] of COLUMNS.entries()) {
      if (key) attribute(heads[n], "aria-sort", key !== ordered.sort ? "none" : ordered.order === "asc" ? "ascending" : "descending");
    }
  }

  async function load() {
    going?.abort();
    const mine = (going = new AbortController());
    ticks = 0;
    const query = new URLSearchParams({ sort: ordered.sort, order: ordered.order, offset: ordered.offset, limit: PAGE });
    if (ordered.filter) query.set("filter", ordered.filter);
    try {
      const { data, headers } = await call(`${at(id, "connections")}?${query}`, { signal: mine.signal });
      if (left || mine.signal.aborted) return;
      total = Number(headers.get("wsgw-total") ?? data.length);
      silent = headers.get("wsgw-silent");
      if (!data.length && total && ordered.offset) {
        // The page that was shown has gone: the last one.
        go({ offset: Math.floor((total - 1) / PAGE) * PAGE });
        return;
      }
      show(data);
    } catch (problem) {
      if (left || problem.name === "AbortError") return;
      show([], problem);
    } finally {
      if (going === mine) going = null;
    }
  }

  function show(list, problem) {
    const within = body.contains(document.activeElement);
    drawn = list;
    draw();
    if (within && !body.contains(document.activeElement)) (body.querySelector("button") ?? filter).focus();
    table.hidden = list.length === 0;
    nothing.replaceChildren(...(list.length ? [] : [
      problem?.code === "not_running" ? empty(`${id} does not run.`, "Start it, and its connections appear here.")
      : problem ? empty("The connections cannot be shown.", problem.message)
      : silent ? empty("No connection is known.", `These nodes of the cluster did not answer: ${silent}.`)
      : ordered.filter ? empty(`No connection matches “${ordered.filter}”.`, "The filter looks at names, addresses, paths and channels.")
      : empty("Nobody is connected.", "Clients that connect appear here.")]));
    pages.hidden = list.length === 0;
    text(shown, `${number(ordered.offset + 1)} to ${number(ordered.offset + list.length)} of ${number(total)}${silent ? `; ${silent} did not answer` : ""}`);
    back.disabled = ordered.offset === 0;
    on.disabled = ordered.offset + list.length >= total;
  }

  /** A row for each connection, and below those that are open one with all that is known. */
  function draw() {
    const parts = drawn.flatMap((one) => (opened.has(one.conn) ? [{ one }, { one, more: true }] : [{ one }]));
    keyed(body, parts, ({ one, more }) => `${more ? "more " : ""}${one.conn}`,
      ({ one, more }) => (more ? makeDetails(one, id) : makeRow(one, id, close, toggle)),
      (row, { one }) => row.show(one, live.watch));
  }
  function toggle(conn, open) {
    if (open) opened.add(conn);
    else opened.delete(conn);
    draw();
  }

  async function close(conn) {
    const values = await ask({
      title: `Close ${conn}?`,
      words: "Its client gets this code and this reason. Most clients connect anew.",
      action: "Close connection",
      danger: true,
      fields: [
        { label: "Code", hint: "1000 to 1003, 1007 to 1014, or 3000 to 4999.", control: h("input", { id: "close-code", name: "code", type: "text", inputmode: "numeric", value: "1000", required: true, pattern: "[0-9]{4}", autocomplete: "off" }) },
        { label: "Reason (may be empty)", control: h("input", { id: "close-reason", name: "reason", type: "text", maxlength: 123, autocomplete: "off" }) },
      ],
    });
    if (!values) return;
    try {
      await call(`${at(id, "connections", conn)}?${new URLSearchParams(values)}`, { method: "DELETE" });
      say(`${conn} was closed with ${values.code}.`);
    } catch (problem) {
      complain(`${conn} was not closed: ${problem.message}`);
    }
    load();
  }

  showOrder();
  load();
  return {
    root,
    update(kind) {
      if (kind !== "watch" || going) return;
      ticks += 1;
      if (ticks >= EACH && !document.getElementById("ask").open) load();
    },
    go(next) {
      const wanted = read(next);
      if (JSON.stringify(wanted) !== JSON.stringify(ordered)) go(wanted);
      return true;
    },
    leave() {
      left = true;
      clearTimeout(typing);
      going?.abort();
    },
  };
}

function read({ query }) {
  const one = (key, usual) => query?.get(key) ?? usual;
  return {
    sort: one("sort", "opened") in SORTS ? one("sort", "opened") : "opened",
    order: one("order", "asc") === "desc" ? "desc" : "asc",
    filter: one("filter", ""),
    offset: Math.max(0, Math.floor(Number(one("offset", 0)) / PAGE) * PAGE) || 0,
  };
}

const links = (names, id) => names.map((name) => h("a", { href: to("gateways", id, "channels", name) }, name));

function makeDetails({ conn }, id) {
  const facts = { path: fact("Path"), remote: fact("Address"), opened: fact("Connected at"), transport: fact("Transport"), channels: fact("Channels") };
  const row = h("tr", { role: "row", class: "details", id: `more-${conn}` },
    h("td", { role: "cell", colspan: COLUMNS.length }, h("dl", { class: "facts" }, Object.values(facts).map((one) => one.root))));
  row.show = (one) => {
    facts.path.set(one.path);
    facts.remote.set(one.remote);
    facts.opened.set(moment(one.opened_at));
    facts.transport.set(one.transport);
    const same = one.channels.join(" ");
    if (row.channels === same) return;
    row.channels = same;
    facts.channels.value.replaceChildren(h("span", { class: "chips" }, one.channels.length ? links(one.channels, id) : "none"));
  };
  return row;
}

function makeRow({ conn }, id, close, toggle) {
  const cell = (label, more, ...content) => h("td", { role: "cell", class: more }, h("span", { class: "label", "aria-hidden": "true" }, label), h("span", { class: "data" }, ...content));
  const remote = h("span", { class: "mono" });
  const path = h("span", { class: "mono clip" });
  const channels = h("span", { class: "chips" });
  const opened = h("span", {});
  const queued = h("span", {});
  const more = h("button", { type: "button", class: "quiet mono", "aria-expanded": "false" }, conn);
  more.addEventListener("click", () => {
    const open = more.ariaExpanded !== "true";
    more.ariaExpanded = String(open);
    row.classList.toggle("open", open);
    toggle(conn, open);
  });
  const row = h("tr", { role: "row" },
    h("th", { scope: "row", role: "rowheader" }, more),
    cell("Address", null, remote), cell("Path", null, path), cell("Channels", "chans", channels),
    cell("Connected", "nowrap", opened), cell("Waiting", "right nowrap", queued),
    h("td", { role: "cell", class: "act" }, h("button", { type: "button", class: "quiet close", "aria-label": `Close ${conn}`, onclick: () => close(conn) }, "Close")));
  row.show = (one, watch) => {
    text(remote, one.remote);
    text(path, one.path);
    text(queued, bytes(one.queued_bytes));
    attribute(queued, "data-tone", one.queued_bytes > 65_536 ? "warn" : null);
    text(opened, watch ? since(one.opened_at, watch.time) : moment(one.opened_at));
    const same = one.channels.join(" ");
    if (row.channels === same) return;
    row.channels = same;
    channels.replaceChildren(...links(one.channels.slice(0, CHIPS), id));
    if (one.channels.length > CHIPS) channels.append(h("span", { class: "hint" }, `and ${number(one.channels.length - CHIPS)} more`));
    if (!one.channels.length) channels.append(h("span", { class: "hint" }, "none"));
  };
  return row;
}
