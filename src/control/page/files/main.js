// The page: which view is shown, and what stands above all of them.

import { attribute, h, setPill, text } from "./dom.js";
import { clock } from "./format.js";
import { Live } from "./live.js";
import { overview } from "./overview.js";
import { gateway } from "./gateway.js";
import { log } from "./log.js";

const $ = (id) => document.getElementById(id);
const live = new Live();
let view = null;

/** `#/gateways/ID/PART/NAME?…` in its parts. */
function where() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  let parts = [];
  try {
    parts = path.split("/").map(decodeURIComponent);
  } catch {
    // A link that was cut: the overview.
  }
  return { section: parts[0] || "gateways", id: parts[1] || "", part: parts[2] || "", name: parts[3] || "", query: new URLSearchParams(query) };
}

function make(place) {
  if (place.section === "log") return log(live);
  if (place.section === "gateways" && place.id) return gateway(live, place);
  return overview(live);
}

function show(first) {
  const place = where();
  // A view that can show the new place itself keeps its fields and its focus.
  if (view?.go?.(place)) return;
  view?.leave?.();
  view = make(place);
  $("view").replaceChildren(view.root);
  document.title = `${view.title} · wsgw`;
  for (const link of document.querySelectorAll("[data-section]")) {
    attribute(link, "aria-current", link.dataset.section === place.section ? "page" : null);
  }
  view.update?.();
  if (first) return;
  scrollTo(0, 0);
  const heading = $("view").querySelector("h1");
  heading.tabIndex = -1;
  heading.focus();
}

// ---- how the stream stands

const WORDS = {
  connecting: ["none", "Connecting"], live: ["good", "Live"], lost: ["bad", "Not connected"],
  ended: ["bad", "Signed out"], paused: ["none", "Paused"],
};

function standing() {
  const [tone, words] = WORDS[live.state];
  setPill($("live"), tone, words);
  text($("pause"), live.state === "paused" ? "Resume" : "Pause");
  document.body.classList.toggle("stale", ["lost", "ended"].includes(live.state));
  const seen = live.watch ? ` What you see is from ${clock(live.watch.time)}.` : "";
  if (live.state === "lost") {
    banner("wsgw serve does not answer.", `${seen} This page tries again every few seconds.`);
  } else if (live.state === "ended") {
    banner("This session has ended.", " wsgw serve was restarted, or 12 hours are over. Run ", h("code", {}, "wsgw open"),
      ` and open its link in this browser: this page then goes on.${seen}`);
  } else {
    $("banner").replaceChildren();
  }
}

function banner(title, ...words) {
  $("banner").replaceChildren(h("p", {}, h("b", {}, title), ...words));
}

live.listen((kind) => {
  if (kind === "state") standing();
  view?.update?.(kind);
});
$("pause").addEventListener("click", () => {
  if (live.state === "paused") live.start();
  else live.stop("paused");
});
$("skip").addEventListener("click", () => $("view").focus());
// Nobody looks at a page that is hidden.
document.addEventListener("visibilitychange", () => {
  if (live.state === "paused") return;
  if (document.hidden) live.stop();
  else live.start();
});
addEventListener("hashchange", () => show(false));
text($("host"), location.host);
show(true);
standing();
if (!document.hidden) live.start();
