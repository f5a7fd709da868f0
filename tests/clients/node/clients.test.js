// Clients that we did not write: npm `ws`, undici's WebSocket, and a real Chromium; and the whole
// thing at once.
"use strict";
const assert = require("node:assert");
const { spawn, execFileSync } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const readline = require("node:readline");
const { test, after } = require("node:test");
const { pathToFileURL } = require("node:url");
const { WebSocket: Undici } = require("undici");
const Ws = require("ws");

const root = path.resolve(__dirname, "../../..");
const binary = process.env.WSGW_BIN ?? path.join(root, "target/debug/wsgw");
const chat = path.join(root, "examples/chat");

function home() {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "wsgw-"));
  after(() => fs.rmSync(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 }));
  return directory;
}

/** Starts a serve and waits until it says where it is. */
async function serve(...args) {
  const directory = home();
  const env = { ...process.env, HOME: directory, XDG_STATE_HOME: path.join(directory, "state"), XDG_CONFIG_HOME: directory };
  const child = spawn(binary, ["serve", "--port", "0", "--control", "127.0.0.1:0", "-q", ...args], { env, cwd: directory, stdio: ["ignore", "pipe", "inherit"] });
  after(() => child.kill());
  const found = {};
  for await (const line of readline.createInterface({ input: child.stdout })) {
    found.url ??= line.match(/^gateway default listening on (\S+)$/)?.[1];
    if (line.startsWith("control listening on ")) break;
  }
  const run = (...command) => execFileSync(binary, command, { env, encoding: "utf8", input: "" });
  return { ...found, env, run, status: () => JSON.parse(run("status", "default", "--json")) };
}

/** A client of either library with a queue of what it got. */
async function client(Kind, url, protocols) {
  const socket = new Kind(url, protocols);
  const got = [], waiting = [];
  socket.binaryType = "arraybuffer";
  socket.addEventListener("message", ({ data }) => {
    const value = typeof data === "string" ? data : Buffer.from(data).toString("hex");
    waiting.length ? waiting.shift()(value) : got.push(value);
  });
  const closed = new Promise((resolve) => socket.addEventListener("close", (e) => resolve([e.code, e.reason])));
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve);
    socket.addEventListener("error", () => reject(new Error("not opened")));
  });
  return { socket, closed, send: (data) => socket.send(data), next: () => got.length ? got.shift() : new Promise((resolve) => waiting.push(resolve)) };
}

for (const [name, Kind] of [["ws", Ws], ["undici", Undici]]) {
  test(`${name}: text, binary, subprotocol, close`, async () => {
    const gateway = await serve("--", "cat");
    const a = await client(Kind, gateway.url, ["json", "xml"]);
    const b = await client(Kind, gateway.url);
    assert.equal(a.socket.protocol, "json");
    a.send("grüß");
    assert.deepEqual([await a.next(), await b.next()], ["grüß", "grüß"]);
    b.send(new Uint8Array([0, 255]));
    assert.deepEqual([await a.next(), await b.next()], ["00ff", "00ff"]);
    a.send("x".repeat(200_000));
    assert.equal((await b.next()).length, 200_000);
    const [row] = JSON.parse(gateway.run("connections", "default", "--json"));
    gateway.run("close", "default", row.conn, "--code", "4001", "--reason", "kicked");
    assert.deepEqual(await a.closed, [4001, "kicked"]);
    b.socket.close(1000);
    assert.equal((await b.closed)[0], 1000);
  });
}

// Not by animation frames: a tab in the background has none.
const polling = { polling: 20, timeout: 15_000 };

async function browser() {
  const puppeteer = require("puppeteer-core");
  const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(fs.existsSync);
  const running = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"], userDataDir: home() });
  after(() => running.close());
  return running;
}

test("the chat example in a real browser: one tab sends, the other sees it", async () => {
  // A page from a file has the origin "null".
  const gateway = await serve("--allow-origin", "null", "--", "python3", path.join(chat, "chat.py"));
  const chromium = await browser();
  const open = async (nick, room) => {
    const page = await chromium.newPage();
    await page.goto(`${pathToFileURL(path.join(chat, "index.html"))}?server=${gateway.url}&nick=${nick}&room=${room}`);
    await page.waitForFunction(() => document.querySelector("#state").textContent === "connected", polling);
    return page;
  };
  const sees = (page, text) => page.waitForFunction((text) => document.querySelector("#log").textContent.includes(text), polling, text);
  const ann = await open("ann", "/lobby"), bob = await open("bob", "/lobby"), eve = await open("eve", "/elsewhere");
  await sees(ann, "bob came");
  await ann.bringToFront();
  await ann.type("#text", "hello <b>bob</b>\n");
  await sees(bob, "annhello <b>bob</b>");
  await bob.bringToFront();
  await bob.type("#text", "/nick robert\n");
  await sees(ann, "bob is now robert");
  gateway.run("send", "maintenance at noon");
  for (const page of [ann, bob, eve]) await sees(page, "maintenance at noon");
  // The listener dies; nobody is disconnected, and it knows them again.
  process.kill(gateway.status().listener_pid, "SIGKILL");
  await bob.type("#text", "still here?\n");
  await sees(ann, "still here?");
  assert.ok(!(await eve.$eval("#log", (log) => log.textContent)).includes("still here?"));
  await bob.close();
  await sees(ann, "left");
});

test("cat to a browser, Python and `wsgw connect` at once, with pushes and kill -9 in between", async () => {
  const gateway = await serve("--allow-origin", "null", "--restart-delay-max", "100ms", "--", "cat");
  const page = await (await browser()).newPage();
  const file = path.join(home(), "page.html");
  fs.writeFileSync(file, "<!doctype html><title>cat</title>");
  await page.goto(String(pathToFileURL(file)));
  await page.evaluate((url) => new Promise((resolve, reject) => {
    window.got = [];
    window.socket = new WebSocket(url);
    window.socket.onmessage = (e) => window.got.push(e.data);
    window.socket.onopen = () => resolve();
    window.socket.onerror = () => reject(new Error("not opened"));
  }), gateway.url);
  const lines = (child) => {
    const got = [];
    readline.createInterface({ input: child.stdout }).on("line", (line) => got.push(line));
    after(() => child.kill());
    return got;
  };
  const connect = spawn(binary, ["connect", "-w", "-1", gateway.url], { env: gateway.env, stdio: ["pipe", "pipe", "inherit"] });
  const script = "import sys\nfrom websockets.sync.client import connect\nwith connect(sys.argv[1]) as ws:\n  for m in ws: print(m, flush=True)";
  const venv = path.join(root, "target/tests/py/bin/python");
  const python = spawn(fs.existsSync(venv) ? venv : "python3", ["-c", script, gateway.url], { env: gateway.env, stdio: ["ignore", "pipe", "inherit"] });
  const all = [lines(connect), lines(python)];
  const until = async (what) => {
    for (const end = Date.now() + 20_000; !(await what());) {
      if (Date.now() > end) throw new Error(`it did not happen: ${JSON.stringify([await page.evaluate(() => window.got), ...all])}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  await until(() => gateway.status().connections === 3);
  const expected = [];
  for (let round = 0; round < 5; round++) {
    const before = gateway.status().listener_pid;
    await page.evaluate((text) => window.socket.send(text), `browser ${round}`);
    expected.push(`browser ${round}`);
    await until(() => all[0].length === expected.length);
    connect.stdin.write(`connect ${round}\n`);
    expected.push(`connect ${round}`);
    await until(() => all[0].length === expected.length);
    if (before) process.kill(before, "SIGKILL");
    gateway.run("send", `push ${round}`);
    expected.push(`push ${round}`);
    await until(() => gateway.status().listener_pid);
  }
  await until(async () => (await page.evaluate(() => window.got.length)) === expected.length && all.every((got) => got.length === expected.length));
  for (const got of [await page.evaluate(() => window.got), ...all]) assert.deepEqual(got, expected);
});
