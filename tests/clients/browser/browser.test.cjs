// A real Chromium, without a window.
"use strict";

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const path = require("node:path");
const { pathToFileURL } = require("node:url");
const test = require("node:test");
const { chromium } = require("./chromium.cjs");
const { ROOT, WSGW, Serve, Inbox, freePort, pageServer, until } = require("../harness.cjs");

const PAGE = path.join(ROOT, "examples/chat/index.html");
// A virtual environment with `websockets`; tests/run.sh makes it.
const PYTHON = process.env.WSGW_PYTHON ?? path.join(ROOT, "target/tests/py/bin/python");

async function chatTab(browser, url, serve, nick, room = "/lobby") {
  const tab = await browser.newPage();
  await tab.goto(`${url}?server=${encodeURIComponent(serve.url)}&room=${room}&nick=${nick}`);
  await tab.waitForFunction(() => document.getElementById("state").textContent === "connected");
  return tab;
}

const say = async (tab, text) => {
  await tab.bringToFront();
  await tab.type("#text", text);
  await tab.keyboard.press("Enter");
};

const sees = (tab, text) =>
  tab.waitForFunction(
    (wanted) => [...document.querySelectorAll("#log li")].some((li) => li.textContent === wanted),
    { timeout: 20_000, polling: 50 },
    text,
  );

/** Each tab is told that its own client came, so many times by now: the listener knows it then. */
const came = (tab, nick, times) =>
  tab.waitForFunction(
    (wanted, least) =>
      [...document.querySelectorAll("#log li")].filter((li) => li.textContent === wanted).length >= least,
    { timeout: 20_000, polling: 50 },
    `${nick} came`,
    times,
  );

test("the chat example: tabs in two rooms, a push, a listener that dies, a gateway that restarts", async () => {
  const listener = ["python3", path.join(ROOT, "examples/chat/chat.py")];
  const serve = await Serve.start(["--restart-delay-max", "200ms"], listener, await freePort());
  const page = await pageServer(PAGE);
  const browser = await chromium();
  try {
    const ann = await chatTab(browser, page.url, serve, "ann");
    // Clients are not always announced in the order in which they connected.
    await came(ann, "ann", 1);
    const bob = await chatTab(browser, page.url, serve, "bob");
    const eve = await chatTab(browser, page.url, serve, "eve", "/elsewhere");
    await sees(ann, "bob came");
    await say(ann, "hello <b>bob</b>");
    await sees(bob, "annhello <b>bob</b>");
    await sees(ann, "annhello <b>bob</b>");
    await say(bob, "/nick robert");
    await sees(ann, "bob is now robert");
    await serve.cli("send", "from the shell");
    for (const tab of [ann, bob, eve]) await sees(tab, "from the shell");
    // The listener dies; the tabs stay connected and go on, and it knows their rooms again.
    const { listener_pid: old } = await serve.status();
    process.kill(old, "SIGKILL");
    await say(bob, "still there");
    await sees(ann, "bobstill there");
    const heard = await eve.$eval("#log", (log) => log.textContent);
    assert.ok(!heard.includes("still there"), heard);
    await eve.close();
    // The gateway goes and comes; the page connects again by itself.
    await serve.cli("restart", "default");
    await serve.connections(2);
    await Promise.all([came(ann, "ann", 2), came(bob, "bob", 2)]);
    await say(ann, "back again");
    await sees(bob, "annback again");
    await bob.close();
    await until(
      () => ann.$$eval("#log li", (all) => all.some((li) => li.textContent.endsWith(" left"))),
      "the word that somebody left",
    );
  } finally {
    await browser.close();
    page.close();
    await serve.stop();
  }
});

test("a page from a file has the origin null, which can be allowed", async () => {
  const serve = await Serve.start(["--allow-origin", "null"], [
    "python3", path.join(ROOT, "examples/chat/chat.py")]);
  const browser = await chromium();
  try {
    const ann = await chatTab(browser, pathToFileURL(PAGE), serve, "ann");
    await say(ann, "alone");
    await sees(ann, "annalone");
  } finally {
    await browser.close();
    await serve.stop();
  }
});

test("a page of another site is refused", async () => {
  const serve = await Serve.start(["--allow-origin", "https://example.org"]);
  const page = await pageServer(PAGE);
  const browser = await chromium();
  try {
    const tab = await browser.newPage();
    await tab.goto(page.url);
    const opened = await tab.evaluate(
      (url) =>
        new Promise((resolve) => {
          const socket = new WebSocket(url);
          socket.onopen = () => resolve(true);
          socket.onerror = () => resolve(false);
        }),
      serve.url,
    );
    assert.equal(opened, false);
  } finally {
    await browser.close();
    page.close();
    await serve.stop();
  }
});

/** Lines of a program's stdout as an inbox. */
function lines(child) {
  const inbox = new Inbox();
  let rest = "";
  child.stdout.on("data", (data) => {
    const parts = (rest + data).split("\n");
    rest = parts.pop();
    parts.forEach((line) => inbox.push(line));
  });
  return inbox;
}

test("end to end: a browser, Python and wsgw connect, pushes, and a listener killed between", async () => {
  const serve = await Serve.start(["--restart-delay-max", "200ms"], ["cat"]);
  const page = await pageServer(PAGE);
  const browser = await chromium();
  const children = [];
  try {
    const tab = await browser.newPage();
    await tab.goto(page.url);
    await tab.evaluate(
      (url) =>
        new Promise((resolve, reject) => {
          window.got = [];
          window.closes = 0;
          window.socket = new WebSocket(url);
          window.socket.onmessage = ({ data }) => window.got.push(data);
          window.socket.onclose = () => window.closes++;
          window.socket.onopen = resolve;
          window.socket.onerror = reject;
        }),
      serve.url,
    );
    const program = `
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], proxy=None) as ws:
    print("ready", flush=True)
    ws.send(sys.stdin.readline().strip())
    for message in ws:
        print(message, flush=True)
`;
    const python = spawn(PYTHON, ["-c", program, serve.url], { env: serve.env });
    children.push(python);
    const fromPython = lines(python);
    assert.equal(await fromPython.next(), "ready");
    const connect = spawn(WSGW, ["connect", serve.url, "-w", "-1"], { env: serve.env });
    children.push(connect);
    const fromConnect = lines(connect);
    await serve.connections(3);

    const got = () => tab.evaluate(() => window.got);
    const expected = [];
    /** Each of the three has got exactly this, in this order. */
    const everybody = async (text) => {
      expected.push(text);
      await until(async () => (await got()).length >= expected.length, `${text} in the browser`);
      for (const inbox of [fromPython, fromConnect])
        assert.equal(await inbox.next(), text);
      assert.deepEqual(await got(), expected);
    };
    python.stdin.write("from python\n");
    await everybody("from python");
    for (let round = 0; round < 5; round++) {
      await tab.evaluate((text) => window.socket.send(text), `browser ${round}`);
      await everybody(`browser ${round}`);
      connect.stdin.write(`connect ${round}\n`);
      await everybody(`connect ${round}`);
      const { listener_pid: old } = await serve.status();
      process.kill(old, "SIGKILL");
      await serve.cli("send", `push ${round}`);
      await everybody(`push ${round}`);
      const now = await until(async () => {
        const status = await serve.status();
        return status.listener_pid && status.listener_pid !== old && status;
      }, "the next listener");
      assert.equal(now.restarts, round + 1);
      assert.equal(now.connections, 3);
    }
    assert.equal(await tab.evaluate(() => window.closes), 0);
  } finally {
    await browser.close();
    for (const child of children) {
      child.kill();
      await new Promise((resolve) => (child.exitCode ?? child.signalCode) !== null ? resolve() : child.on("exit", resolve));
    }
    page.close();
    await serve.stop();
  }
});
