// A real Chromium, without a window.
"use strict";

const assert = require("node:assert/strict");
const { execFileSync, spawn } = require("node:child_process");
const path = require("node:path");
const test = require("node:test");
const puppeteer = require("puppeteer-core");
const { ROOT, WSGW, Serve, Inbox, pageServer, until } = require("./harness.cjs");

const PAGE = path.join(ROOT, "examples/chat/index.html");
// A virtual environment with `websockets`; tests/run.sh makes it.
const PYTHON = process.env.WSGW_PYTHON ?? path.join(ROOT, "target/tests/py/bin/python");

function chromium() {
  const found = execFileSync("sh", ["-c", "command -v chromium || command -v chromium-browser"]);
  return puppeteer.launch({
    executablePath: String(found).trim(),
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
  });
}

async function chatTab(browser, page, serve, nick) {
  const tab = await browser.newPage();
  await tab.goto(`${page.url}?server=${encodeURIComponent(serve.url)}&room=/lobby&nick=${nick}`);
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

test("the chat example, from one tab to the other", async () => {
  const listener = ["python3", path.join(ROOT, "examples/chat/chat.py")];
  const serve = await Serve.start(["--restart-delay-max", "200ms"], listener);
  const page = await pageServer(PAGE);
  const browser = await chromium();
  try {
    const ann = await chatTab(browser, page, serve, "ann");
    const bob = await chatTab(browser, page, serve, "bob");
    await say(ann, "hello <b>bob</b>");
    await sees(bob, "annhello <b>bob</b>");
    await sees(ann, "annhello <b>bob</b>");
    await serve.cli("send", "from the shell");
    await sees(ann, "from the shell");
    // The listener dies; the tabs stay connected and go on.
    const { listener_pid: old } = await serve.status();
    process.kill(old, "SIGKILL");
    await say(bob, "still there");
    await sees(ann, "bobstill there");
    // The gateway goes and comes; the page connects again by itself.
    await serve.cli("restart", "default");
    if (serve.url === (await serve.status()).address) {
      await until(async () => (await serve.status()).connections === 2, "both tabs");
      await say(ann, "back again");
      await sees(bob, "annback again");
    }
  } finally {
    await browser.close();
    page.close();
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
    ws.send("from python")
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

    const everybody = async (text) => {
      await tab.waitForFunction((wanted) => window.got.includes(wanted), { polling: 20 }, text);
      await fromPython.find(text);
      await fromConnect.find(text);
    };
    await serve.cli("send", "push 1");
    await everybody("push 1");
    await tab.evaluate(() => window.socket.send("from the browser"));
    await everybody("from the browser");
    connect.stdin.write("from connect\n");
    await everybody("from connect");

    const { listener_pid: old } = await serve.status();
    process.kill(old, "SIGKILL");
    await serve.cli("send", "push 2");
    await everybody("push 2");
    await tab.evaluate(() => window.socket.send("once more"));
    await everybody("once more");
    const now = await serve.status();
    assert.equal(now.restarts, 1);
    assert.notEqual(now.listener_pid, old);
    assert.equal(now.connections, 3);
    assert.equal(await tab.evaluate(() => window.closes), 0);
    const got = await tab.evaluate(() => window.got);
    assert.equal(new Set(got).size, got.length, "nothing came twice");
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
