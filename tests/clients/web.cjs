// What the tests of wsgw.js share: the module itself, a client that keeps what happens to it, a program
// that sends, and a scene of a gateway behind a bad proxy.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");
const { Proxy } = require("./proxy.cjs");
const { ROOT, WSGW, Serve, until: untilSoon } = require("./harness.cjs");

const SOURCE = path.join(ROOT, "src/gateway/web/wsgw.js");
/** The module as a URL that `import()` takes everywhere. */
const MODULE = `data:text/javascript;base64,${fs.readFileSync(SOURCE).toString("base64")}`;
/** As in the harness, but it waits longer: many scenes run side by side. */
const until = (check, what) => untilSoon(check, what, 60_000);
/** Reconnects at once: a test does not wait. */
const FAST = { minDelay: 10, maxDelay: 40 };
const EVENTS = ["open", "message", "error", "close", "recovered", "joined", "join", "leave"];

/** Keeps all events of a `Gateway`: `[type, event]` in `events`, the bodies of messages in `got`. */
function observe(gateway) {
  const seen = { gateway, events: [], got: [], opened: [] };
  for (const type of EVENTS)
    gateway.addEventListener(type, (event) => {
      seen.events.push([type, event]);
      if (type === "message") seen.got.push(event.data);
      if (type === "open") seen.opened.push(gateway.transport);
    });
  seen.count = (type) => seen.events.filter(([one]) => one === type).length;
  seen.all = (type) => seen.events.flatMap(([one, event]) => (one === type ? [event] : []));
  seen.await = (type, count = 1) =>
    until(() => seen.count(type) >= count && seen.all(type)[count - 1], () => `${type} ${count}: ${brief(seen)}`);
  seen.gets = (count) => until(() => seen.got.length >= count, () => `${count} messages: ${brief(seen)}`);
  return seen;
}

/** The last events, for the message of a test that fails. */
function brief({ events }) {
  return events.slice(-12).map(([type, { code, reason, recovered, data }]) =>
    [type, code, reason, recovered, data].filter((part) => part !== undefined).join(" ")).join("; ");
}

/** `wsgw send --lines`, which takes lines as they come. */
class Sender {
  constructor(serve, ...args) {
    this.child = spawn(WSGW, ["send", "--lines", "-q", ...args], { env: serve.env, stdio: ["pipe", "inherit", "inherit"] });
    this.ended = new Promise((resolve) => this.child.on("exit", resolve));
  }

  send(...lines) {
    this.child.stdin.write(lines.map((line) => `${line}\n`).join(""));
  }

  end() {
    this.child.stdin.end();
    return this.ended;
  }
}

/** A gateway with streams, a bad proxy before it, and one client of it; `play` gets all of them. */
async function scene({ args = ["--history", "1000"], listener = [], proxy: bad = {}, path: where = "/", since, ...options }, play) {
  const { Gateway } = await import(MODULE);
  const serve = await Serve.start(["--streams", ...args], listener);
  const proxy = await Proxy.start(serve.url, bad);
  const clients = [];
  // What is held back never comes: that need not be waited for long.
  const timeout = bad.hold ? 1_000 : 20_000;
  const open = (url = proxy.url + where, more = {}) => {
    const seen = observe(new Gateway(url, { ...FAST, timeout, ...options, ...more }));
    clients.push(seen);
    return seen;
  };
  try {
    const seen = open(undefined, { since });
    await play({ serve, proxy, seen, gateway: seen.gateway, open, Gateway });
  } finally {
    for (const { gateway } of clients) gateway.close();
    await until(() => clients.every(({ gateway }) => gateway.readyState === 3), "the ends of the clients");
    await proxy.close();
    await serve.stop();
  }
}

/** The proxies behind which a client ends up with each transport. */
const BEHIND = {
  websocket: {},
  sse: { upgrades: "refuse" },
  poll: { upgrades: "refuse", hold: 65_536 },
};

module.exports = { SOURCE, MODULE, FAST, BEHIND, until, observe, brief, Sender, scene };
