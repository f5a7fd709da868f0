// The newest lines of the log.

import { attribute, h, text } from "./dom.js";
import { empty } from "./figures.js";
import { clock, count } from "./format.js";

const LINE = /^(\S+)\s+(ERROR|WARN|INFO|DEBUG|TRACE)\s+(.*)$/s;

/** A line of the log, with its time and level set apart where it has them. */
export function logLine(line) {
  const [, time, level, rest] = LINE.exec(line) ?? [null, "", "", line];
  return h("li", { class: "entry", "data-level": level || null },
    time && h("time", { datetime: time, title: time }, clock(time)), level && h("span", { class: "level" }, level),
    h("span", { class: "words" }, rest));
}

export function log(live) {
  const list = h("ol", { class: "log" });
  const box = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Lines of the log, the newest last" }, list);
  const nothing = empty("No line of the log matches.");
  const skipped = h("p", { class: "hint" });
  const total = h("p", { class: "hint" });
  const wanted = h("input", { id: "log-filter", type: "search", autocomplete: "off", spellcheck: "false", oninput: sift });
  const level = h("select", { id: "log-level", onchange: sift },
    ["all", "INFO", "WARN", "ERROR"].map((name) => h("option", { value: name }, { all: "all", INFO: "info and worse", WARN: "warnings and errors", ERROR: "errors" }[name])));
  const follow = h("input", { id: "log-follow", type: "checkbox", checked: true, onchange: toEnd });
  const root = h("div", { class: "stack tall" },
    h("div", { class: "title-row" }, h("h1", {}, "Log"), total),
    h("section", { class: "panel", "aria-label": "Log" },
      h("div", { class: "tools" },
        h("div", { class: "field grow" }, h("label", { for: "log-filter" }, "Filter"), wanted),
        h("div", { class: "field" }, h("label", { for: "log-level" }, "Level"), level),
        h("label", { class: "check" }, follow, h("span", {}, "Follow"))),
      skipped, nothing, box));
  const WORSE = { ERROR: 3, WARN: 2, INFO: 1 };

  const fits = (entry) => {
    const least = WORSE[level.value] ?? 0;
    const needle = wanted.value.toLowerCase();
    return (WORSE[entry.dataset.level] ?? (entry.dataset.level ? 0 : 3)) >= least
      && (!needle || entry.textContent.toLowerCase().includes(needle));
  };
  function sift() {
    for (const entry of list.children) entry.hidden = !fits(entry);
    counts();
    toEnd();
  }
  function toEnd() {
    if (follow.checked) box.scrollTop = box.scrollHeight;
  }
  function counts() {
    const shown = [...list.children].filter((entry) => !entry.hidden).length;
    nothing.hidden = shown > 0 || live.log.length === 0;
    box.hidden = shown === 0;
    text(total, shown === live.log.length ? count(shown, "line") : `${shown} of ${count(live.log.length, "line")}`);
    attribute(skipped, "hidden", live.lost ? null : "");
    text(skipped, `${count(live.lost, "line")} or more came too fast to be shown here. The log itself has them.`);
  }
  function add(lines) {
    for (const line of lines) {
      const entry = logLine(line);
      entry.hidden = !fits(entry);
      list.append(entry);
    }
    while (list.children.length > live.log.length) list.firstChild.remove();
    counts();
    toEnd();
  }
  for (const event of ["wheel", "touchmove", "keydown"]) {
    box.addEventListener(event, () => requestAnimationFrame(() => {
      follow.checked = box.scrollHeight - box.scrollTop - box.clientHeight < 8;
    }), { passive: true });
  }
  add(live.log);
  return {
    root,
    title: "Log",
    update(kind) {
      if (kind === "watch") add(live.fresh);
      else toEnd();
    },
  };
}
