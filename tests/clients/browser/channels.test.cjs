// The pages of the examples that use channels, in a real Chromium.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { pathToFileURL } = require("node:url");
const test = require("node:test");
const { chromium } = require("./chromium.cjs");
const { ROOT, Serve, freePort, pageServer } = require("../harness.cjs");

const ROOMS = ["--channels", "path", "--allow-channels", "*", "--route", "channels",
  "--presence", "*", "--history", "100"];

/** Runs `play` with a gateway, a browser, and the URL of one page of the examples. */
async function scene(file, args, play, port = 0) {
  const serve = await Serve.start(args, [], port);
  const page = await pageServer(path.join(ROOT, "examples", file));
  const browser = await chromium();
  try {
    await play({ serve, browser, page: page.url });
  } finally {
    await browser.close();
    page.close();
    await serve.stop();
  }
}

async function open(browser, url) {
  const tab = await browser.newPage();
  await tab.goto(url);
  return tab;
}

/** Waits until an element of the page has exactly this text. */
const shows = (tab, selector, text) =>
  tab.waitForFunction(
    (where, wanted) => document.querySelector(where).textContent === wanted,
    { timeout: 20_000, polling: 50 },
    selector,
    text,
  );

const said = (tab, ...texts) =>
  tab.waitForFunction(
    (wanted) =>
      JSON.stringify([...document.querySelectorAll("#log .said")].map((li) => li.textContent)) === wanted,
    { timeout: 20_000, polling: 50 },
    JSON.stringify(texts),
  );

const say = async (tab, text) => {
  await tab.bringToFront();
  await tab.type("#text", text);
  await tab.keyboard.press("Enter");
};

/** Closes all clients, which connect again by themselves. The history stays. */
const drop = (serve) => serve.cli("restart", "default");

/** Closes the client of this page, and lets it connect again when `meanwhile` is done. */
async function away(serve, tab, meanwhile) {
  await tab.evaluate(() => {
    const { setTimeout } = window;
    window.back = new Promise((resolve) => {
      window.setTimeout = (connect) => resolve(() => {
        window.setTimeout = setTimeout;
        connect();
      });
    });
  });
  await drop(serve);
  await meanwhile();
  await tab.evaluate(async () => (await window.back)());
}

test("the rooms example: two rooms, presence, newcomers, a restart in which nothing is lost", async () =>
  scene("rooms/index.html", ROOMS, async ({ serve, browser, page }) => {
    const url = (room) => `${page}?server=${encodeURIComponent(serve.url)}#${room}`;
    const ann = await open(browser, url("lobby"));
    await shows(ann, "#state", "connected");
    const eve = await open(browser, url("garden"));
    await shows(eve, "#state", "connected");
    await say(ann, "hello <b>");
    await said(ann, "hello <b>");
    const bob = await open(browser, url("lobby"));
    await said(bob, "hello <b>");
    await ann.waitForFunction(() => /^k\w+ came: 2 here$/.test(
      document.querySelector("#log .info")?.textContent));
    await say(bob, "hi ann");
    for (const tab of [ann, bob]) await said(tab, "hello <b>", "hi ann");
    // Messages that come while the page is away.
    await drop(serve);
    await serve.cli("send", "-q", "--channel", "lobby", "missed");
    await serve.connections(3);
    for (const tab of [ann, bob]) await said(tab, "hello <b>", "hi ann", "missed");
    await said(eve);
    // Another room on the same page.
    await bob.evaluate(() => (location.hash = "garden"));
    await shows(bob, "#state", "connected");
    await say(bob, "hi eve");
    for (const tab of [bob, eve]) await said(tab, "hi eve");
    await said(ann, "hello <b>", "hi ann", "missed");
  }, await freePort()));

test("the resume example has fifteen lines, and misses nothing or says so", async () => {
  const text = fs.readFileSync(path.join(ROOT, "examples/resume.html"), "utf8");
  const script = /<script>\n([^]*)<\/script>/.exec(text)[1];
  assert.ok(script.trimEnd().split("\n").length <= 15);
  const port = await freePort();
  const args = ["--channels", "path", "--allow-channels", "news", "--route", "none", "--history", "2"];
  await scene("resume.html", args, async ({ serve, browser, page }) => {
    const news = (body) => serve.cli("send", "-q", "--channel", "news", body);
    await news("old");
    await news("last");
    const tab = await open(browser, `${page}?url=${encodeURIComponent(`${serve.url}/news`)}`);
    await shows(tab, "#news", "last\n");
    await news("live");
    await shows(tab, "#news", "last\nlive\n");
    await away(serve, tab, async () => {
      await news("missed 1");
      await news("missed 2");
    });
    await shows(tab, "#news", "last\nlive\nmissed 1\nmissed 2\n");
    await away(serve, tab, async () => {
      for (const n of [3, 4, 5]) await news(`missed ${n}`);
    });
    await shows(tab, "#news", "last\nlive\nmissed 1\nmissed 2\n(some messages are missing here)\n");
    await news("live again");
    await shows(tab, "#news",
      "last\nlive\nmissed 1\nmissed 2\n(some messages are missing here)\nlive again\n");
  }, port);
});

test("the dashboard example shows the newest value at once, and then each new one", () =>
  scene("dashboard/index.html",
    ["--config", path.join(ROOT, "examples/dashboard/wsgw.toml")],
    async ({ serve, browser, page }) => {
      const load = (body) => serve.cli("send", "-q", "--channel", "load", body);
      await load("0.1");
      await load("0.2");
      const url = `${page}?url=${encodeURIComponent(`${serve.url}/load`)}`;
      const tab = await open(browser, url);
      await shows(tab, "#load", "0.2");
      await load("0.3");
      await shows(tab, "#load", "0.3");
    }));

test("a page with channels works from a file, where the origin null is allowed", async () => {
  const serve = await Serve.start([...ROOMS, "--allow-origin", "null"]);
  const browser = await chromium();
  try {
    const file = pathToFileURL(path.join(ROOT, "examples/rooms/index.html"));
    const tab = await open(browser, `${file}?server=${encodeURIComponent(serve.url)}`);
    await shows(tab, "#state", "connected");
    await shows(tab, "#room", "lobby");
    await say(tab, "alone");
    await said(tab, "alone");
  } finally {
    await browser.close();
    await serve.stop();
  }
});
