// The console: a WebSocket, two forms and a list of messages.

const LINES = 1000; // messages that the page keeps
const BYTES = 32 << 20; // and bytes of them
const SHOWN = 4096; // characters (or bytes, in hex) of a message before "Show all"
const HISTORY = 100;

const $ = (id) => document.getElementById(id);
const log = $("log"), scroll = $("scroll"), text = $("text"), status = $("status");
const base = new URL(".", location.href);
base.protocol = base.protocol === "https:" ? "wss:" : "ws:";
$("server").textContent = base.origin === "null" ? `${base.protocol}//${base.host}` : base.origin;
$("path").value = base.pathname;

let socket = null;
let kept = []; // messages of the list, the oldest first: { way, data, time, size, row }
let waiting = []; // those that are not drawn yet
let keptBytes = 0, dropped = 0, paused = false, drawing = false;
const total = { in: [0, 0], out: [0, 0] };
const sent = [];
let recalled = 0, draft = "";

// ---- how things are written

const bytesOf = (data) => new Uint8Array(data);
const size = (n) => n < 1024 ? `${n} B` : n < 1 << 20 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / 1048576).toFixed(1)} MiB`;
const clock = (date) =>
  [date.getHours(), date.getMinutes(), date.getSeconds()].map((n) => String(n).padStart(2, "0")).join(":") +
  `.${String(date.getMilliseconds()).padStart(3, "0")}`;

function hexDump(bytes) {
  const lines = [], width = scroll.clientWidth < 620 ? 8 : 16;
  for (let at = 0; at < bytes.length; at += width) {
    const part = [...bytes.subarray(at, at + width)];
    const hex = part.map((b) => b.toString(16).padStart(2, "0")).join(" ").padEnd(3 * width - 1);
    const plain = part.map((b) => (b > 31 && b < 127 ? String.fromCharCode(b) : ".")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hex}  ${plain}`);
  }
  return lines.join("\n");
}

/** What is shown of a message, and whether that is all. */
function written(data, whole) {
  const view = $("view").value;
  if (typeof data === "string" && view !== "hex") {
    let out = data;
    if (view === "pretty") {
      try {
        out = JSON.stringify(JSON.parse(data), null, 2);
      } catch {
        // Not JSON: as it came.
      }
    }
    return whole || out.length <= SHOWN ? [out, true] : [out.slice(0, SHOWN), false];
  }
  // Of a long text only the beginning is encoded.
  const all = typeof data !== "string" ? bytesOf(data)
    : new TextEncoder().encode(whole ? data : data.slice(0, SHOWN + 1));
  return whole || all.length <= SHOWN ? [hexDump(all), true] : [hexDump(all.subarray(0, SHOWN)), false];
}

// ---- the list

function element(name, className, content) {
  const made = document.createElement(name);
  made.className = className;
  if (content !== undefined) made.textContent = content;
  return made;
}

function fill(entry, whole = false) {
  const { data, row } = entry;
  const [out, all] = entry.note ? [data, true] : written(data, whole);
  const body = row.querySelector(".body");
  body.textContent = out;
  body.classList.toggle("dump", !entry.note && (typeof data !== "string" || $("view").value === "hex"));
  row.querySelector(".more")?.remove();
  if (!all) {
    const more = element("button", "more", `Show all ${size(entry.size)}`);
    more.type = "button";
    more.onclick = () => fill(entry, true);
    row.append(more);
  }
}

function makeRow(entry) {
  const { way, note, failed, data } = entry;
  const row = element("li", note ? `row note${failed ? " failed" : ""}` : `row ${way}`);
  const meta = element("span", "meta");
  const time = element("time", "", clock(entry.time));
  time.dateTime = entry.time.toISOString();
  const kind = note ? "" : `${typeof data === "string" ? "text" : "binary"}, ${size(entry.size)}`;
  meta.append(time, element("span", "way", note ? "" : way === "in" ? "↓ in" : "↑ out"), element("span", "size", kind));
  row.append(meta, element("pre", "body"));
  entry.row = row;
  fill(entry);
  row.hidden = !fits(entry);
  return row;
}

/** What the filter looks in. */
function fits(entry) {
  const wanted = $("filter").value.toLowerCase();
  if (!wanted) return true;
  if (typeof entry.data === "string" && entry.data.toLowerCase().includes(wanted)) return true;
  return entry.row.querySelector(".body").textContent.toLowerCase().includes(wanted);
}

function add(entry) {
  entry.time = new Date();
  waiting.push(entry);
  keptBytes += entry.size;
  bound();
  if (!drawing && !paused) {
    drawing = true;
    requestAnimationFrame(draw);
  }
  if (paused) showPaused();
}

/** Forgets the oldest messages where there are too many. */
function bound() {
  while (kept.length + waiting.length > LINES || (keptBytes > BYTES && kept.length + waiting.length > 1)) {
    const oldest = kept.length ? kept.shift() : waiting.shift();
    oldest.row?.remove();
    keptBytes -= oldest.size;
    dropped += 1;
  }
}

function draw() {
  drawing = false;
  if (paused) return;
  const rows = document.createDocumentFragment();
  for (const entry of waiting) rows.append(makeRow(entry));
  // A screen reader cannot follow a flood.
  log.ariaLive = waiting.length > 3 ? "off" : "polite";
  log.append(rows);
  kept = kept.concat(waiting);
  waiting = [];
  $("empty").hidden = kept.length > 0;
  $("dropped").hidden = dropped === 0;
  $("dropped").textContent = `${dropped} older messages are not kept.`;
  counts();
  if ($("follow").checked) scroll.scrollTop = scroll.scrollHeight;
}

function counts() {
  for (const way of ["in", "out"]) {
    $(`count-${way}`).textContent = total[way][0];
    $(`bytes-${way}`).textContent = size(total[way][1]);
  }
}

function message(way, data) {
  const bytes = typeof data === "string" ? new Blob([data]).size : data.byteLength;
  total[way][0] += 1;
  total[way][1] += bytes;
  add({ way, data, size: bytes });
}

const note = (data, failed = false) => add({ note: true, data, failed, size: 0 });

function showPaused() {
  $("pause").textContent = paused ? `Go on (${waiting.length} new)` : "Pause";
  counts();
}

$("pause").onclick = () => {
  paused = !paused;
  $("pause").ariaPressed = String(paused);
  showPaused();
  if (!paused) draw();
};
$("clear").onclick = () => {
  kept = [];
  waiting = [];
  keptBytes = dropped = 0;
  total.in = [0, 0];
  total.out = [0, 0];
  log.replaceChildren();
  if (paused) showPaused();
  $("dropped").hidden = true;
  $("empty").hidden = false;
  counts();
};
$("view").onchange = () => kept.forEach((entry) => { fill(entry); entry.row.hidden = !fits(entry); });
$("filter").oninput = () => kept.forEach((entry) => { entry.row.hidden = !fits(entry); });
$("follow").onchange = () => { if ($("follow").checked) scroll.scrollTop = scroll.scrollHeight; };
// Who scrolls up wants to read; who comes back to the end follows again.
for (const event of ["wheel", "touchmove", "keydown"]) {
  scroll.addEventListener(event, () => requestAnimationFrame(() => {
    $("follow").checked = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 8;
  }), { passive: true });
}

// ---- the connection

function show(state, words) {
  status.dataset.state = state;
  status.textContent = words;
  const busy = socket !== null;
  $("connect").textContent = busy ? (state === "open" ? "Disconnect" : "Cancel") : "Connect";
  $("connect").classList.toggle("plain", busy);
  $("send").disabled = state !== "open";
  for (const id of ["path", "protocol", "own"]) $(id).disabled = busy;
}

/** Says what is wrong with a field, and where. */
function problem(words, field) {
  for (const marked of document.querySelectorAll("[aria-invalid]")) marked.ariaInvalid = null;
  $("problem").textContent = words;
  if (field) {
    field.ariaInvalid = "true";
    field.focus();
  }
}

function open() {
  problem("");
  let path = $("path").value.trim();
  if (!path.startsWith("/")) path = `/${path}`;
  const url = `${base.protocol}//${base.host}${path.replace(/#.*/s, "")}`;
  const choice = $("protocol").value;
  const name = choice === "own" ? $("own").value.trim() : choice;
  if (choice === "own" && !name) return problem("A subprotocol needs a name.", $("own"));
  let mine;
  try {
    mine = name ? new WebSocket(url, name) : new WebSocket(url);
  } catch (error) {
    return problem(error.message, choice === "own" ? $("own") : $("path"));
  }
  socket = mine;
  mine.binaryType = "arraybuffer";
  let was = false;
  mine.onopen = () => {
    was = true;
    show("open", "Connected");
    note(`Connected to ${url}${mine.protocol ? `, subprotocol ${mine.protocol}` : ""}`);
    text.focus();
  };
  mine.onmessage = ({ data }) => message("in", data);
  mine.onclose = ({ code, reason, wasClean }) => {
    if (socket === mine) socket = null;
    const why = `${code}${reason ? `, ${reason}` : ""}`;
    if (was) {
      show(wasClean ? "closed" : "failed", wasClean ? `Closed (${why})` : `Connection lost (${why})`);
      note(wasClean ? `Closed: ${why}` : `Connection lost: ${why}`, !wasClean);
    } else {
      show("failed", "Not connected");
      note("The connection was not opened. The gateway may be down, or it refused: its log says why.", true);
    }
    if ([$("send"), document.body].includes(document.activeElement)) $("connect").focus();
  };
  show("connecting", "Connecting");
  return undefined;
}

function close() {
  problem("");
  const code = Number($("code").value);
  if (code !== 1000 && !(code >= 3000 && code <= 4999)) {
    $("leaving").open = true;
    return problem("A page may close with 1000, or with 3000 to 4999.", $("code"));
  }
  try {
    socket.close(code, $("reason").value);
  } catch (error) {
    $("leaving").open = true;
    return problem(error.message, $("reason"));
  }
  show("closing", "Closing");
  return undefined;
}

$("connection").onsubmit = (event) => {
  event.preventDefault();
  if (socket) close();
  else open();
};
$("protocol").onchange = () => {
  $("own-field").hidden = $("protocol").value !== "own";
  if (!$("own-field").hidden) $("own").focus();
};
for (const id of ["code", "reason"]) {
  // Enter in these fields submits the form, which would connect.
  $(id).onkeydown = (event) => { if (event.key === "Enter" && !socket) event.preventDefault(); };
}

// ---- sending

const kind = () => document.querySelector("[name=kind]:checked").value;

function parseHex(words) {
  const digits = words.replace(/0x|[\s,:]/gi, "");
  if (!/^([0-9a-f]{2})*$/i.test(digits)) return null;
  return new Uint8Array((digits.match(/../g) ?? []).map((pair) => parseInt(pair, 16)));
}

function transmit(data) {
  if (socket?.readyState !== WebSocket.OPEN) return problem("Not connected.");
  socket.send(data);
  message("out", typeof data === "string" ? data : data.buffer ?? data);
  return problem("");
}

async function sendFile() {
  const [file] = $("file").files;
  if (!file) return problem("Choose a file first.", $("file"));
  try {
    return transmit(await file.arrayBuffer());
  } catch (error) {
    return problem(`The file cannot be read: ${error.message}`, $("file"));
  }
}

function sendTyped() {
  if (socket?.readyState !== WebSocket.OPEN) return problem("Not connected.");
  const typed = text.value;
  const data = kind() === "hex" ? parseHex(typed) : typed;
  if (data === null) return problem("Hex is pairs of the digits 0 to 9 and a to f.", text);
  transmit(data);
  if (typed && sent.at(-1) !== typed) sent.push(typed);
  if (sent.length > HISTORY) sent.shift();
  recalled = sent.length;
  draft = text.value = "";
  return text.focus();
}

$("sending").onsubmit = (event) => {
  event.preventDefault();
  if (kind() === "file") sendFile();
  else sendTyped();
};
for (const choice of document.querySelectorAll("[name=kind]")) {
  choice.onchange = () => {
    problem("");
    $("file-field").hidden = kind() !== "file";
    $("text-field").hidden = $("send-hint").hidden = kind() === "file";
    $("text-label").textContent = kind() === "hex" ? "Bytes in hex, for example 48 69" : "Message";
  };
}

/** Brings back what was sent before (-1) or after (1) what stands there. */
function recall(step) {
  const to = recalled + step;
  if (to < 0 || to > sent.length) return false;
  if (recalled === sent.length) draft = text.value;
  recalled = to;
  text.value = to === sent.length ? draft : sent[to];
  const caret = step < 0 ? 0 : text.value.length;
  text.setSelectionRange(caret, caret);
  return true;
}

text.onkeydown = (event) => {
  if (event.isComposing || event.ctrlKey || event.altKey || event.metaKey) return;
  const { selectionStart: at, selectionEnd: end, value } = text;
  const first = at === end && !value.slice(0, at).includes("\n");
  const last = at === end && !value.slice(at).includes("\n");
  const handled =
    event.key === "Enter" && !event.shiftKey ? (sendTyped(), true)
    : event.key === "ArrowUp" && !event.shiftKey && first ? recall(-1)
    : event.key === "ArrowDown" && !event.shiftKey && last ? recall(1)
    : false;
  if (handled) event.preventDefault();
};

show("closed", "Not connected");
counts();
