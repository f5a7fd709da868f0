// Questions before something is done that cannot be taken back, and what became of it.

import { h, text } from "./dom.js";

const dialog = document.getElementById("ask");
const region = document.getElementById("said");
let timer;

/**
 * Asks. Resolves to the values of the fields by their names, or to null where the answer is no.
 * The focus begins at "Cancel", unless there are fields, and comes back to where it was.
 */
export function ask({ title, words, action, danger = false, fields = [] }) {
  const before = document.activeElement;
  return new Promise((resolve) => {
    const no = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    const yes = h("button", { class: danger ? "danger" : "main" }, action);
    let answer = null;
    const form = h("form", {
      onsubmit: (event) => {
        event.preventDefault();
        answer = Object.fromEntries(fields.map(({ control }) => [control.name, control.value]));
        dialog.close();
      },
    },
    h("h2", { id: "ask-title" }, title), h("p", {}, words),
    fields.map(({ label, control, hint }) => h("div", { class: "field" },
      h("label", { for: control.id }, label), control, hint && h("p", { class: "hint" }, hint))),
    h("div", { class: "actions" }, no, yes));
    dialog.replaceChildren(form);
    dialog.onclose = () => {
      dialog.replaceChildren();
      if (before?.isConnected) before.focus();
      resolve(answer);
    };
    dialog.showModal();
    (fields[0]?.control ?? no).focus();
    fields[0]?.control.select();
  });
}

/** Says that something was done, for a while. */
export function say(words) {
  show(words, false);
  timer = setTimeout(() => region.replaceChildren(), 7000);
}

/** Says that something failed, until it is put away. */
export function complain(words) {
  show(words, true);
}

function show(words, failed) {
  clearTimeout(timer);
  const message = h("p", {});
  const away = h("button", { type: "button", class: "quiet", onclick: () => region.replaceChildren() }, "Dismiss");
  region.replaceChildren(h("div", { class: failed ? "note bad" : "note" }, message, failed && away));
  // After the region stands, so that it is read out.
  text(message, words);
}
