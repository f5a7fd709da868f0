// wsgw.js in a real Chromium: each transport, bad proxies, and pages of other origins.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const { describe, it, before, after } = require("node:test");
const { chromium } = require("./chromium.cjs");
const { ROOT, Serve } = require("../harness.cjs");
const { Proxy } = require("../proxy.cjs");
const { MODULE, FAST, BEHIND, Sender } = require("../web.cjs");

/** An empty page at an origin of its own. */
async function blank() {
  const server = http.createServer((_, response) => {
    response.setHeader("Content-Type", "text/html");
    response.end("<!doctype html><title>page</title>");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { port: server.address().port, close: () => server.close() };
}

/** Makes a `Gateway` in the page, which keeps what happens to it. */
function follow(tab, module, url, options) {
  return tab.evaluate(async (module, url, options) => {
    const { Gateway } = await import(module);
    const gateway = (window.gateway = new Gateway(url, options));
    const seen = (window.seen = { got: [], log: [] });
    gateway.addEventListener("message", async ({ data }) => seen.got.push(data));
    for (const type of ["open", "error", "close", "recovered"])
      gateway.addEventListener(type, ({ code, recovered }) =>
        seen.log.push(`${type} ${code ?? recovered ?? gateway.transport}`));
  }, module, url, options);
}

const page = (tab, check, ...args) => tab.waitForFunction(check, { timeout: 60_000, polling: 20 }, ...args);
const opened = (tab) => page(tab, () => window.gateway.readyState === 1);
const gets = (tab, count) => page(tab, (count) => window.seen.got.length >= count, count);

describe("wsgw.js in Chromium", { concurrency: 3 }, () => {
  let browser, site;
  before(async () => {
    browser = await chromium();
    site = await blank();
  });
  after(async () => {
    await browser?.close();
    site?.close();
  });

  /** A gateway, a bad proxy before it, and an empty tab at `host`. */
  async function scene({ args = ["--history", "5000"], proxy: bad = {}, host = "127.0.0.1" }, play) {
    const serve = await Serve.start(["--streams", ...args]);
    const proxy = await Proxy.start(serve.url, bad);
    const context = await browser.createBrowserContext();
    const tab = await context.newPage();
    try {
      await tab.goto(`http://${host}:${site.port}/`);
      await play({ serve, proxy, tab });
    } finally {
      await context.close();
      await proxy.close();
      await serve.stop();
    }
  }

  for (const transport of ["websocket", "sse", "poll"])
    it(`${transport}: a page of another origin, both ways`, () =>
      scene({ proxy: BEHIND[transport], host: "localhost" }, async ({ serve, proxy, tab }) => {
        await follow(tab, MODULE, `${proxy.url}/chat?x=1`, { ...FAST, timeout: transport === "poll" ? 1_000 : 20_000 });
        await opened(tab);
        assert.equal(await tab.evaluate(() => window.seen.log.at(-1)), `open ${transport}`);
        if (transport === "poll") {
          const name = await tab.evaluate(() => { try { window.gateway.send("x"); } catch (error) { return error.name; } });
          assert.equal(name, "InvalidStateError");
          const sender = new Sender(serve);
          sender.send("one", "two", "three");
          await gets(tab, 3);
          await sender.end();
          assert.deepEqual(await tab.evaluate(() => window.seen.got), ["one", "two", "three"]);
        } else {
          await tab.evaluate(() => {
            for (const data of ["text", "", "a\nb", "\u{1f600}", new Blob(["binary"]), new Uint8Array([1, 2, 255])]) window.gateway.send(data);
          });
          await gets(tab, 6);
          const got = await tab.evaluate(() => Promise.all(window.seen.got.map(async (data) =>
            typeof data === "string" ? data : [...new Uint8Array(await data.arrayBuffer())])));
          assert.deepEqual(got, ["text", "", "a\nb", "\u{1f600}", [...Buffer.from("binary")], [1, 2, 255]]);
        }
        await tab.evaluate(() => window.gateway.close());
        await page(tab, () => window.seen.log.at(-1) === "close 1005");
        await serve.connections(0);
      }));

  for (const [name, bad, transports] of [
    ["everything", {}, /websocket|sse|poll/],
    ["streams and polls", { upgrades: "refuse" }, /sse|poll/],
    ["polls", { upgrades: "refuse", hold: 65_536 }, /poll/],
  ])
    it(`everything comes once and in order where connections are cut: ${name}`, () => {
      const proxy = { ...bad, cut: { seed: 3, least: 3_000, most: 12_000 } };
      return scene({ args: ["--history", "5000", "--route", "none"], proxy }, async ({ serve, proxy, tab }) => {
        await follow(tab, MODULE, proxy.url, { ...FAST, timeout: 300 });
        await opened(tab);
        const sender = new Sender(serve);
        let sent = 0;
        while (sent < 600 || proxy.cuts < 4) {
          sender.send(...Array.from({ length: 25 }, () => `message ${sent++}`));
          if (sent % 75) await gets(tab, sent);
        }
        await gets(tab, sent);
        await sender.end();
        const { got, log } = await tab.evaluate(() => window.seen);
        assert.deepEqual(got, Array.from({ length: sent }, (_, n) => `message ${n}`));
        assert.ok(log.filter((line) => line === "recovered true").length >= 2, log.join("; "));
        assert.ok(!log.includes("recovered false"), log.join("; "));
        for (const line of log.filter((line) => line.startsWith("open"))) assert.match(line, transports);
      });
    });

  it("a page of the gateway's own origin: /wsgw.js, and relative URLs", () =>
    scene({}, async ({ serve, tab }) => {
      const base = serve.url.replace("ws", "http");
      const { status, headers } = await fetch(`${base}/wsgw.js`);
      assert.equal(status, 200);
      assert.match(headers.get("content-type"), /^text\/javascript/);
      await tab.goto(`${base}/wsgw.js`);
      await follow(tab, "/wsgw.js", "/room", FAST);
      await opened(tab);
      await tab.evaluate(() => window.gateway.send("hello"));
      await gets(tab, 1);
      const [row] = JSON.parse(await serve.cli("connections", "default", "--json"));
      assert.equal(row.path, "/room");
      // And the plain means of the browser.
      const [text, posted] = await tab.evaluate(async () => {
        const source = new EventSource("/room?stream=sse&since=1");
        const hello = await new Promise((resolve) => source.addEventListener("hello", ({ data }) => resolve(JSON.parse(data))));
        const message = await new Promise((resolve) => { source.onmessage = ({ data }) => resolve(JSON.parse(data).message); });
        const { status } = await fetch("/room", { method: "POST", body: "posted", headers: { "X-Wsgw-Post": hello.post } });
        return [message, status];
      });
      assert.deepEqual([text, posted], ["hello", 204]);
      await gets(tab, 2);
    }));

  it("the example is a page of 20 lines at most, and works behind each proxy", async () => {
    const directory = path.join(ROOT, "examples/streams");
    const lines = fs.readFileSync(path.join(directory, "index.html"), "utf8").trimEnd().split("\n");
    assert.ok(lines.length <= 20, `${lines.length} lines`);
    const args = ["--static", directory, "--channels", "path", "--allow-channels", "lobby", "--route", "channels",
      "--history", "100"];
    for (const transport of ["websocket", "sse", "poll"])
      await scene({ args, proxy: BEHIND[transport] }, async ({ serve, proxy, tab }) => {
        await serve.cli("send", "-q", "--channel", "lobby", "from before");
        await tab.goto(`http://127.0.0.1:${proxy.port}/`);
        await page(tab, (state) => document.getElementById("state").textContent === state, `connected by ${transport}`);
        assert.equal(await tab.evaluate(() => document.getElementById("form").hidden), transport === "poll");
        if (transport === "poll") await serve.cli("send", "-q", "--channel", "lobby", "hello");
        else {
          await tab.type("input", "hello");
          await tab.keyboard.press("Enter");
        }
        const shown = (texts) => page(tab, (texts) =>
          [...document.querySelectorAll("li")].map((li) => li.textContent).join() === texts, texts);
        await shown("from before,hello");
        proxy.cutAll();
        await serve.cli("send", "-q", "--channel", "lobby", "again");
        await shown("from before,hello,again");
      });
  });

  it("the module can be imported by a page of an admitted origin, and by no other", () =>
    scene({ args: ["--allow-origin", `http://localhost:${site.port}`], host: "localhost" }, async ({ serve, tab }) => {
      const base = serve.url.replace("ws", "http");
      await follow(tab, `${base}/wsgw.js`, serve.url, FAST);
      await opened(tab);
      await tab.goto(`http://127.0.0.1:${site.port}/`);
      await assert.rejects(follow(tab, `${base}/wsgw.js`, serve.url, FAST), /import|fetch/);
    }));

  it("cookies go to another origin with withCredentials, where allow-origin names the page's", async () => {
    for (const [origin, wanted] of [[`http://localhost:${site.port}`, true], ["*", false]])
      await scene({ args: ["--allow-origin", origin], proxy: BEHIND.sse, host: "localhost" }, async ({ proxy, tab }) => {
        // Cookies do not mind the port: this one goes to the gateway too.
        await tab.evaluate(() => (document.cookie = "session=1"));
        const url = `http://localhost:${proxy.port}/`;
        await follow(tab, MODULE, url, { ...FAST, withCredentials: true });
        await page(tab, () => window.seen.log.length);
        assert.equal(await tab.evaluate(() => window.gateway.readyState === 1), wanted);
        const [{ headers }] = proxy.asked.filter(({ url }) => url.includes("stream=sse"));
        assert.match(headers.cookie, /session=1/);
        await tab.evaluate(() => window.gateway.close());
        await follow(tab, MODULE, url, FAST);
        await opened(tab);
        const later = proxy.asked.filter(({ url }) => url.includes("stream=sse")).at(-1);
        assert.equal(later.headers.cookie, undefined);
      });
  });
});
