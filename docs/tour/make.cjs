// Makes the pictures of the operators' page for docs/tour.md, from a running `wsgw serve` with clients:
//
//   npm install --prefix target/tests/node puppeteer-core ws
//   cargo build && NODE_PATH=target/tests/node/node_modules node docs/tour/make.cjs
//
// It needs Chromium and python3, and the ports 10124 to 10127.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const WebSocket = require("ws");
const { chromium } = require("../../tests/clients/browser/chromium.cjs");
const { config, go, open, says } = require("../../tests/clients/browser/operators.cjs");
const { ROOT, Serve } = require("../../tests/clients/harness.cjs");

const CONFIG = `
[gateways.chat]
listener = ["python3", "-u", "chat.py"]
channels = "path"
allow-channels = ["*"]
max-connections-per-ip = 180
history = { channels = { "*" = 100 } }

[gateways.prices]
port = 10126
hooks = "none"
listener = "while sleep 0.25; do echo \\"{\\\\\\"command\\\\\\":\\\\\\"send\\\\\\",\\\\\\"message\\\\\\":\\\\\\"EURUSD 1.08$RANDOM\\\\\\"}\\"; done"

[gateways.orders]
port = 10127
listener = "echo 'connecting to db.internal:5432' >&2; echo 'orders: the database cannot be reached' >&2; exit 1"
`;
const ROOMS = ["general", "support", "random", "releases", "team/sales", "team/design"];
const NAMES = ["ada", "bo", "cleo", "dan", "eve", "finn", "gil", "hana", "ivo", "jun", "kim", "lea"];
const LINES = ["good morning", "the release is out", "has anybody seen the tests?", "yes, all green",
  "who is on call this week?", "I am", "lunch?", "in ten minutes"];
const MINUTE = 60_000;
const BYTES = 150 << 10;

function connect(url, options) {
  return new Promise((resolve, reject) => {
    const client = new WebSocket(url, options);
    client.on("open", () => resolve(client)).on("error", reject);
  });
}

/** 184 people in six rooms, a dozen of whom talk; eight are too many, and some come from another site. */
async function people(chat) {
  const talkers = [];
  for (let n = 0; n < 188; n += 1) {
    const room = ROOMS[Math.floor(Math.sqrt(n * 7)) % ROOMS.length];
    const client = await connect(`${chat}/${room}?nick=${NAMES[n % NAMES.length]}`).catch(() => null);
    if (client && n % 15 === 0) talkers.push(client);
  }
  for (let n = 0; n < 3; n += 1) await connect(`${chat}/general`, { origin: "https://elsewhere.example" }).catch(() => null);
  let said = 0;
  return setInterval(() => {
    // Some seconds are busier than others.
    const many = 1 + Math.round(2 + 2 * Math.sin(Date.now() / 5000) + Math.random());
    for (let n = 0; n < many; n += 1) talkers[said % talkers.length].send(LINES[said++ % LINES.length]);
  }, 150);
}

async function picture(tab, name) {
  await tab.mouse.move(640, 30);
  const file = path.join(__dirname, `${name}.png`);
  await tab.screenshot({ path: file });
  const { size } = fs.statSync(file);
  console.log(`${name}.png ${Math.ceil(size / 1024)} KiB`);
  if (size > BYTES) throw new Error(`${file} is larger than ${BYTES} bytes`);
}

async function pictures(tab) {
  const size = (width, height) => tab.setViewport({ width, height });
  await size(1280, 800);
  await says(tab, ".gateways tbody", /orders failed/);
  await picture(tab, "page-overview");
  await go(tab, "#/gateways/chat");
  await says(tab, "#refusals", /max.connections.per.ip/);
  await size(1280, 776);
  await picture(tab, "page-gateway");
  await go(tab, "#/gateways/orders");
  await says(tab, ".alert", /cannot be reached/);
  await size(1280, 520);
  await picture(tab, "page-failed");
  await size(1280, 760);
  await go(tab, "#/gateways/chat/connections?sort=path&filter=team");
  await says(tab, "#conn-shown", /^1 to/);
  await tab.click(".conns tbody tr:nth-child(3) th button");
  await picture(tab, "page-connections");
  await go(tab, "#/gateways/chat/channels/general");
  await says(tab, ".split .kept", /on call/);
  await picture(tab, "page-channels");
  await go(tab, "#/gateways/chat/send");
  await tab.type("#send-message", "We restart at 18:00. You stay connected.");
  await tab.click("#send-go");
  await says(tab, ".results", /Delivered/);
  await size(1280, 780);
  await picture(tab, "page-send");
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
  await go(tab, "#/gateways/chat/tail");
  await tab.click("#tail-start");
  await says(tab, "#tail-counts", /\d\d events/);
  await size(1280, 760);
  await picture(tab, "page-tail");
  await tab.click("#tail-start");
  await go(tab, "#/gateways/chat");
  await size(390, 844);
  await picture(tab, "page-phone");
}

async function main() {
  const file = config(CONFIG);
  // A relative path of a listener begins at its config.
  fs.copyFileSync(path.join(ROOT, "examples/chat/chat.py"), path.join(path.dirname(file), "chat.py"));
  const serve = await Serve.start(["--id", "chat", "--config", file], [], 10125, "127.0.0.1:10124");
  const browser = await chromium();
  let talk;
  try {
    const tab = await open(browser, serve);
    talk = await people("ws://127.0.0.1:10125");
    for (let n = 0; n < 40; n += 1) await connect("ws://127.0.0.1:10126/").catch(() => null);
    for (const line of LINES.slice(0, 5)) await serve.cli("send", "-g", "chat", "--channel", "general", "--no-hook", line);
    // The lines of the charts span two minutes.
    await new Promise((resolve) => setTimeout(resolve, 2 * MINUTE));
    await pictures(tab);
  } finally {
    clearInterval(talk);
    await browser.close();
    await serve.stop();
  }
  process.exit(0);
}

main();
