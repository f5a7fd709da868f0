// The operators' page narrow and wide, light and dark: nothing beyond the edge, and nothing that axe
// (WCAG 2.2 AA and its best practices) finds.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const test = require("node:test");
const WebSocket = require("ws");
const { chromium } = require("./chromium.cjs");
const { config, go, open, says, withPage } = require("./operators.cjs");
const { Serve } = require("../harness.cjs");

const AXE = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const LONG = "a-gateway-whose-name-is-as-long-as-a-name-may-be-which-is-64-let";

/** Gateways of every kind: busy, failed, without a listener, stopped, with a name of full length. */
const GATEWAYS = `
[gateways.default]
channels = "query"
allow-channels = ["*"]
history = { channels = { "*" = 20 } }
max-connections-per-ip = 21
[gateways.broken]
port = 0
listener = "for n in 1 2 3 4 5; do echo \\"a long line of stderr about what is wrong with it, number $n\\" >&2; done; exit 3"
[gateways.plain]
port = 0
[gateways.${LONG}]
port = 0
startup = "manual"
`;

/** What each view is, where it is, and what has to be there before it is looked at. */
const VIEWS = [
  ["#/", ".gateways tbody", /broken/],
  ["#/gateways/default", "#refusals", /max.connections.per.ip/],
  ["#/gateways/broken", ".alert", /failed/],
  ["#/gateways/plain", "#listener", /no listener/],
  [`#/gateways/${LONG}`, "h1", LONG],
  ["#/gateways/default/connections", "#conn-shown", /of 21/],
  ["#/gateways/default/channels", ".names", /room0/],
  ["#/gateways/default/channels/room0", ".kept", /kept/],
  ["#/gateways/default/tail", ".empty", /off/],
  ["#/gateways/default/send", "#sending", /Send/],
  ["#/gateways/plain/connections", ".empty", /Nobody/],
  ["#/log", ".log", /gateway running/],
  ["#/gateways/none", "h1", /no gateway/],
];

async function look(tab, what) {
  const beyond = await tab.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(beyond <= 0, `${what}: ${beyond} pixels beyond the edge`);
  const found = await tab.evaluate((tags) => window.axe.run(document, { runOnly: tags }), RULES);
  assert.deepEqual(found.violations.map(({ id, nodes }) => `${id}: ${nodes[0].html} ${nodes[0].failureSummary}`), [], what);
}

async function fillIn(serve) {
  const clients = [];
  const { address } = await serve.status();
  for (let n = 0; n < 22; n += 1) {
    const path = n === 3 ? `/?channel=${"x".repeat(180)}&${"long=path&".repeat(60)}` : `/?channel=room${n % 4}&channel=all/of/them`;
    const client = new WebSocket(new URL(path, address));
    await new Promise((resolve) => client.on("open", resolve).on("error", resolve));
    clients.push(client);
  }
  await serve.cli("send", "-g", "default", "--channel", "room0", `kept ${"words ".repeat(80)}`);
  clients[0].send("hello");
}

for (const scheme of ["light", "dark"]) {
  test(`page: ${scheme}, at 320, 768 and 1400 pixels`, () =>
    withPage(["--id", "default", "--config", config(GATEWAYS)], ["cat"], async (serve, browser) => {
      await fillIn(serve);
      const tab = await open(browser, serve, { scheme });
      await tab.evaluate(AXE);
      for (const width of [320, 768, 1400]) {
        await tab.setViewport({ width, height: 800 });
        for (const [at, selector, wanted] of VIEWS) {
          await go(tab, at);
          await says(tab, selector, wanted);
          await look(tab, `${scheme}, ${width}, ${at}`);
        }
        await go(tab, "#/gateways/default/connections");
        await says(tab, "#conn-shown", /of 21/);
        await tab.click(".conns tbody th button");
        await tab.click(".conns .close");
        await says(tab, "#ask h2", /Close/);
        await look(tab, `${scheme}, ${width}, a question`);
        await tab.keyboard.press("Escape");
      }
      assert.deepEqual(tab.problems, []);
    }));
}

test("page: what strangers get, and what stays when serve has gone", async () => {
  const serve = await Serve.start([], ["cat"]);
  const browser = await chromium();
  let runs = true;
  try {
    const tab = await open(browser, serve);
    const stranger = await (await browser.createBrowserContext()).newPage();
    await stranger.goto(serve.control);
    await serve.stop();
    runs = false;
    await says(tab, "#live", "Not connected");
    for (const one of [tab, stranger]) {
      await one.evaluate(AXE);
      for (const scheme of ["light", "dark"]) {
        await one.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
        for (const width of [320, 1400]) {
          await one.setViewport({ width, height: 800 });
          await look(one, `${scheme}, ${width}, ${one === tab ? "serve has gone" : "a stranger"}`);
        }
      }
    }
  } finally {
    await browser.close();
    if (runs) await serve.stop();
  }
});

test("page: its whole way by keyboard, in the order in which it is read", () =>
  withPage([], ["cat"], async (serve, browser) => {
    const tab = await open(browser, serve);
    const focused = () => tab.evaluate(() => document.activeElement.innerText.trim());
    const order = [];
    for (let n = 0; n < 7; n += 1) {
      await tab.keyboard.press("Tab");
      order.push((await focused()).replace(/\s+/g, " "));
    }
    assert.deepEqual(order, ["Skip to the content", `wsgw ${new URL(serve.control).host}`, "Gateways", "Log", "Pause", "default", "Whole log"]);
    await tab.keyboard.down("Shift");
    await tab.keyboard.press("Tab");
    await tab.keyboard.up("Shift");
    await tab.keyboard.press("Enter");
    await says(tab, "h1", "default");
    assert.equal(await focused(), "default", "the heading of the new view");
    await tab.keyboard.press("Tab");
    while (!["Connections"].includes(await focused())) await tab.keyboard.press("Tab");
    await tab.keyboard.press("Enter");
    await says(tab, ".empty .title", "Nobody is connected.");
    assert.equal(await focused(), "Connections", "the focus stays at the tab");
    assert.equal(await tab.title(), "Connections, default · wsgw");
    await tab.evaluate(() => document.activeElement.blur());
    await tab.focus("#skip");
    await tab.keyboard.press("Enter");
    assert.equal(await tab.evaluate(() => document.activeElement.id), "view");
    assert.deepEqual(tab.problems, []);
  }));
