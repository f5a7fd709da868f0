// A message of one's own to the clients of a gateway, with what became of it.

import { at, call } from "./api.js";
import { attribute, field, h, panel, text } from "./dom.js";
import { clock, count, ms, number } from "./format.js";

const SENT = 10; // results that stay on the page

/** A few values of which one is chosen. */
function choice(name, legend, options, onchange) {
  return h("fieldset", { class: "field" }, h("legend", {}, legend), h("div", { class: "choice" }, options.map(([value, label], n) =>
    h("label", {}, h("input", { type: "radio", name, value, checked: n === 0, onchange }), h("span", {}, label)))));
}

const names = (words) => words.split(/[\s,]+/).filter(Boolean);

export function send(live, id) {
  const message = h("textarea", { id: "send-message", rows: "6", spellcheck: "false", autocomplete: "off" });
  const who = h("input", { id: "send-who", type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
  const except = h("input", { id: "send-except", type: "text", autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
  const skip = h("input", { id: "send-skip", type: "checkbox" });
  const button = h("button", { class: "main", id: "send-go" }, "Send");
  const problem = h("p", { class: "problem", role: "alert" });
  const whoField = field("Channels", who, "Names, with a space or a comma between them.");
  const kinds = choice("send-kind", "Type", [["message", "Text"], ["base64", "Binary, as base64"]], () => showChoice());
  const targets = choice("send-to", "To", [["", "Listener decides"], ["channel", "Channels"], ["connections", "Connections"]], () => showChoice());
  const skipped = h("label", { class: "check" }, skip, h("span", {}, "Skip the listener"));
  const form = h("form", { id: "send-form", onsubmit: submit },
    kinds, field("Message", message, "Ctrl+Enter sends."), targets, whoField, field("Except (may be empty)", except, "Connections that are left out."),
    skipped, problem, h("div", { class: "actions" }, button));
  const results = h("ol", { class: "results", "aria-live": "polite" });
  const nothing = h("p", { class: "hint" }, "Nothing was sent yet. Here stands how many connections got each message.");
  const root = h("div", { class: "columns" }, panel("sending", "Send a message", null, form), panel("results", "Results", null, nothing, results));

  const chosen = (name) => form.querySelector(`[name=${name}]:checked`).value;
  function showChoice() {
    const target = chosen("send-to");
    whoField.hidden = !target;
    text(whoField.querySelector("label"), target === "channel" ? "Channels" : "Connections");
    const plain = !live.gateway(id)?.listener_detail;
    text(targets.querySelector("span"), plain || skip.checked ? "All connections" : "Listener decides");
    skipped.hidden = plain;
    text(form.querySelector("label[for=send-message]"), chosen("send-kind") === "base64" ? "Bytes in base64" : "Message");
  }
  function wrong(words, control) {
    for (const one of [message, who, except]) attribute(one, "aria-invalid", one === control ? "true" : null);
    text(problem, words);
    control?.focus();
  }
  message.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  skip.addEventListener("change", showChoice);

  async function submit(event) {
    event.preventDefault();
    wrong("");
    const kind = chosen("send-kind"), target = chosen("send-to");
    const push = { [kind]: kind === "base64" ? message.value.replace(/\s/g, "") : message.value };
    if (kind === "base64" && !/^[A-Za-z0-9+/]*={0,2}$/.test(push.base64)) return wrong("Base64 has letters, digits, + and /.", message);
    if (target) push[target] = names(who.value);
    if (target && !push[target].length) return wrong(`Name at least one of the ${target === "channel" ? "channels" : "connections"}.`, who);
    if (names(except.value).length) push.except = names(except.value);
    button.disabled = true;
    const begin = performance.now();
    try {
      const { data } = await call(`${at(id, "messages")}${skip.checked && !skipped.hidden ? "?hook=none" : ""}`, { method: "POST", body: JSON.stringify(push) });
      report(push, data, performance.now() - begin);
    } catch (failure) {
      wrong(failure.message);
    }
    button.disabled = false;
    return undefined;
  }

  function report(push, { matched, delivered, dropped, gone }, took) {
    nothing.hidden = true;
    const to = push.channel ? `to ${push.channel.join(", ")}` : push.connections ? `to ${push.connections.join(", ")}` : "";
    const figure = (n, word, tone) => h("div", { "data-tone": n && tone ? tone : null }, h("dt", {}, word), h("dd", {}, number(n)));
    results.prepend(h("li", {},
      h("p", { class: "head" }, h("b", {}, delivered ? `Delivered to ${count(delivered, "connection")}` : "Nobody got it"), h("span", { class: "hint" }, `${clock(new Date())}, took ${ms(took)}`)),
      h("pre", { class: "clip" }, push.message ?? push.base64), to && h("p", { class: "hint" }, to),
      h("dl", { class: "counts" }, figure(matched, "matched"), figure(delivered, "delivered"), figure(dropped, "dropped", "warn"), figure(gone.length, "gone", "warn")),
      gone.length > 0 && h("p", { class: "hint" }, "Gone: ", h("span", { class: "mono" }, gone.slice(0, 20).join(", ")), gone.length > 20 && ` and ${number(gone.length - 20)} more`)));
    while (results.children.length > SENT) results.lastChild.remove();
  }
  whoField.hidden = true;
  return { root, update: showChoice, go: () => true };
}
