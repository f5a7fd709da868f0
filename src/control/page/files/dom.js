// Elements and their text. Nothing here, nor anywhere on this page, makes HTML of a string: what
// comes from clients and listeners is always text.

const SVG = "http://www.w3.org/2000/svg";

/** An element. Attributes that are functions are listeners (`onclick`); `false` and null are left out. */
export function h(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Sets the text only where it differs, so that a selection and a screen reader are left in peace. */
export function text(node, value) {
  const wanted = String(value ?? "");
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Sets or removes an attribute, where it differs. */
export function attribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

const rows = new WeakMap();

/**
 * Makes the children of `parent` those of `items`, in their order. A child whose key stays is kept
 * with its focus. `make(item)` makes an element; `update(element, item)` brings it up to date.
 */
export function keyed(parent, items, keyOf, make, update) {
  const old = rows.get(parent) ?? new Map();
  const now = new Map();
  for (const item of items) {
    const key = keyOf(item);
    now.set(key, old.get(key) ?? make(item));
  }
  for (const [key, node] of old) if (!now.has(key)) node.remove();
  let at = parent.firstChild;
  for (const item of items) {
    const node = now.get(keyOf(item));
    update?.(node, item);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  rows.set(parent, now);
}

/** A dot and a word. */
export function pill(tone, word) {
  return h("span", { class: "pill", "data-tone": tone }, word);
}

export function setPill(node, tone, word) {
  attribute(node, "data-tone", tone);
  text(node, word);
}

const WIDTH = 120, HEIGHT = 30;

/** A line without numbers, beside a number that says the same: screen readers pass over it. */
export function sparkline() {
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "line" });
  const root = svg("svg", {
    class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true",
  }, area, line);
  return {
    root,
    /** `values` end now, and null is a gap. `room` of them fit in, so time has one scale everywhere. */
    draw(values, room) {
      const top = Math.max(1, ...values);
      const x = (n) => (WIDTH - (WIDTH / (room - 1)) * (values.length - 1 - n)).toFixed(1);
      const y = (value) => (HEIGHT - 1.5 - (value / top) * (HEIGHT - 3)).toFixed(1);
      let stroke = "", fill = "";
      for (let from = 0; from < values.length; from += 1) {
        let end = from;
        while (end < values.length && values[end] !== null) end += 1;
        if (end - from > 1) {
          const points = values.slice(from, end).map((value, n) => `${x(from + n)},${y(value)}`).join("L");
          stroke += `M${points}`;
          fill += `M${x(from)},${HEIGHT}L${points}L${x(end - 1)},${HEIGHT}Z`;
        }
        from = end;
      }
      line.setAttribute("d", stroke);
      area.setAttribute("d", fill);
    },
  };
}

/** A bar that is filled to a part. The words beside it say the same. */
export function bar() {
  const fill = svg("rect", { class: "fill", x: 0, y: 0, width: 0, height: 6 });
  const root = svg("svg", { class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" }, fill);
  return {
    root,
    /** `short` says that more would be used if there were more. */
    draw(part, short) {
      attribute(fill, "width", Math.round(100 * Math.min(1, Math.max(0, part))));
      attribute(root, "data-tone", short ? "warn" : "none");
    },
  };
}

/** A term and what it is now, for a `<dl>`. */
export function fact(label, content = "") {
  const value = h("dd", {}, content);
  return { root: h("div", {}, h("dt", {}, label), value), value, set: (words) => text(value, words) };
}

/** A panel with its title and, at the right of it, something more. */
export function panel(id, title, more, ...content) {
  const heading = h("h2", { id: `${id}-title` }, title);
  return h("section", { class: "panel", id, "aria-labelledby": `${id}-title` },
    more ? h("div", { class: "head" }, heading, more) : heading, ...content);
}

/** Lines as they were written, in a box that can be scrolled with the keyboard. */
export function lines(label) {
  const root = h("pre", { class: "lines", tabindex: "0", role: "region", "aria-label": label });
  return { root, set: (all) => text(root, all.join("\n")) };
}

/** A field with its label above. */
export function field(label, control, hint) {
  if (hint) {
    hint = h("p", { class: "hint", id: `${control.id}-hint` }, hint);
    control.setAttribute("aria-describedby", hint.id);
  }
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, hint);
}
