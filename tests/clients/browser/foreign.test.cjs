// What pages of other sites can do to a gateway with streams, in a real Chromium: an `<img>` of theirs
// carries the user's cookies and no Origin, and must open nothing.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const http = require("node:http");
const os = require("node:os");
const path = require("node:path");
const { describe, it, before, after } = require("node:test");
const { chromium } = require("./chromium.cjs");
const { Serve, until } = require("../harness.cjs");
const { Proxy } = require("../proxy.cjs");

/** What a page can fetch without an Origin: each resolves when the browser is done with it. */
const WITHOUT_ORIGIN = {
  img: (url) => window.element("img", { src: url }),
  "img without a Referer": (url) => window.element("img", { referrerPolicy: "no-referrer", src: url }),
  script: (url) => window.element("script", { src: url }),
  stylesheet: (url) => window.element("link", { rel: "stylesheet", href: url }),
  video: (url) => window.element("video", { src: url, preload: "auto" }),
  audio: (url) => window.element("audio", { src: url, preload: "auto" }),
  embed: (url) => window.element("embed", { type: "image/png", src: url }),
  iframe: (url) => window.element("iframe", { src: url }),
  "fetch without CORS": (url) => fetch(url, { mode: "no-cors", credentials: "include" }).then(() => {}),
  "a form that gets": (url) => window.submit("get", url),
};

/** What a page does with an Origin. */
const WITH_ORIGIN = {
  EventSource: (url) => new Promise((resolve) => {
    const source = new EventSource(url, { withCredentials: true });
    source.onopen = source.onerror = () => { source.close(); resolve(); };
  }),
  fetch: (url) => fetch(url, { credentials: "include" }).then(() => {}, () => {}),
  "img with CORS": (url) => window.element("img", { crossOrigin: "use-credentials", src: url }),
  WebSocket: (url) => new Promise((resolve) => {
    const socket = new WebSocket(url.replace("http", "ws"));
    socket.onopen = socket.onclose = () => { socket.close(); resolve(); };
  }),
  "a form that posts": (url) => window.submit("post", url),
};

/** A site whose pages have the helpers of the attacks. */
async function site() {
  const script = () => {
    window.element = (name, attributes) => new Promise((resolve) => {
      const element = Object.assign(document.createElement(name), attributes);
      element.onload = element.onerror = element.onloadeddata = () => resolve();
      document.body.append(element);
    });
    window.submit = (method, url) => new Promise((resolve) => {
      const frame = document.createElement("iframe");
      frame.name = `frame${Math.random()}`;
      document.body.append(frame);
      const form = Object.assign(document.createElement("form"), { method, action: url, target: frame.name });
      // A form that gets replaces the query of its action.
      for (const [name, value] of new URL(url).searchParams)
        form.append(Object.assign(document.createElement("input"), { name, value, type: "hidden" }));
      document.body.append(form);
      frame.onload = () => resolve();
      form.submit();
    });
  };
  const server = http.createServer((_, response) => {
    response.setHeader("Content-Type", "text/html");
    response.end(`<!doctype html><title>page</title><body><script>(${script})()</script>`);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { port: server.address().port, close: () => server.close() };
}

describe("pages of other sites", () => {
  let browser, foreign;
  before(async () => {
    browser = await chromium("--host-resolver-rules=MAP *.example 127.0.0.1");
    foreign = await site();
  });
  after(async () => {
    await browser?.close();
    foreign?.close();
  });

  /** A gateway whose opens are recorded, behind a proxy that keeps what comes; and a tab. */
  async function scene(args, play) {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "wsgw-foreign-"));
    const record = path.join(directory, "events");
    const serve = await Serve.start(["--streams", "--history", "9", ...args], ["tee", record]);
    const proxy = await Proxy.start(serve.url);
    const context = await browser.createBrowserContext();
    const tab = await context.newPage();
    const events = () => fs.readFileSync(record, "utf8").split("\n").filter((line) => line).map((line) => JSON.parse(line));
    /** The paths of all connections so far; a last one makes sure that there are no more. */
    const opens = async () => {
      await fetch(`http://127.0.0.1:${proxy.port}/last?stream=raw`).then(({ body }) => body.cancel());
      const list = () => events().filter(({ event }) => event === "onClientOpen").map(({ path: where }) => where);
      await until(() => list().includes("/last"), "the last open");
      return list().filter((where) => where !== "/last");
    };
    try {
      await play({ serve, proxy, tab, opens });
    } finally {
      await context.close();
      await proxy.close();
      await serve.stop();
      fs.rmSync(directory, { recursive: true });
    }
  }

  /** Runs attacks on a page at `host`, each with a path of its own; what the proxy saw of each. */
  async function attack({ tab, proxy }, host, target, attacks) {
    await tab.goto(`http://${host}:${foreign.port}/`);
    const seen = [];
    for (const [name, run] of Object.entries(attacks))
      for (const kind of ["raw", "sse", "lines", "poll"]) {
        const where = `/${host}/${name.replaceAll(" ", "-")}/${kind}`;
        await tab.evaluate(run, `http://${target}:${proxy.port}${where}?stream=${kind}`);
        const asked = proxy.asked.filter(({ url }) => url.startsWith(where));
        assert.ok(asked.length, `${where} did not come`);
        for (const one of asked) seen.push({ where, name, ...one });
      }
    return seen;
  }

  it("nothing without an Origin opens a stream on a loopback address, whatever the cookies", () =>
    scene([], async (stage) => {
      const { tab, opens } = stage;
      // 127.0.0.1 with another port is the same site: cookies come along. localhost is another site.
      await tab.goto(`http://127.0.0.1:${foreign.port}/`);
      await tab.evaluate(() => (document.cookie = "session=1"));
      for (const host of ["127.0.0.1", "localhost", "evil.example"]) {
        const seen = await attack(stage, host, "127.0.0.1", WITHOUT_ORIGIN);
        for (const { where, headers, status } of seen) {
          assert.equal(status, 403, where);
          assert.equal(headers.origin, undefined, where);
          assert.equal(headers["sec-fetch-site"], host === "127.0.0.1" ? "same-site" : "cross-site", where);
        }
        if (host === "127.0.0.1")
          assert.ok(seen.filter(({ name }) => name === "img").every(({ headers }) => headers.cookie === "session=1"));
      }
      assert.deepEqual(await opens(), []);
    }));

  it("nothing with an Origin that allow-origin does not admit opens one", () =>
    scene(["--allow-origin", "https://good.example"], async (stage) => {
      for (const host of ["127.0.0.1", "localhost"]) {
        const seen = await attack(stage, host, "127.0.0.1", { ...WITHOUT_ORIGIN, ...WITH_ORIGIN });
        for (const { where, status, method } of seen)
          if (!where.includes("WebSocket")) assert.ok([403, method === "POST" ? 400 : 403].includes(status), `${where}: ${status}`);
      }
      assert.deepEqual(await stage.opens(), []);
    }));

  it("nor on another host over plain http, where browsers say less", () =>
    scene(["--allow-origin", "http://good.example"], async (stage) => {
      const { "img without a Referer": bare, ...rest } = WITHOUT_ORIGIN;
      for (const { where, status, headers } of await attack(stage, "evil.example", "gateway.example", rest)) {
        assert.equal(headers["sec-fetch-site"], undefined, where);
        assert.match(headers.referer, /^http:\/\/evil\.example/);
        assert.equal(status, 403, where);
      }
      for (const { where, status, headers } of await attack(stage, "evil.example", "gateway.example", { bare })) {
        assert.deepEqual([headers["sec-fetch-site"], headers.referer], [undefined, undefined]);
        assert.match(headers.accept, /^image\//);
        assert.equal(status, 403, where);
      }
      assert.deepEqual(await stage.opens(), []);
    }));

  it("a foreign name that was made to lead to a loopback address opens nothing (DNS rebinding)", () =>
    scene([], async ({ tab, proxy, opens }) => {
      // The page and the gateway are of one origin, for the browser.
      await tab.goto(`http://evil.example:${proxy.port}/none`);
      for (const referrerPolicy of ["no-referrer", "origin"]) {
        const statuses = await tab.evaluate(async (referrerPolicy) => {
          const found = [];
          for (const kind of ["raw", "lines", "sse", "poll"]) {
            const { status, body } = await fetch(`/evil/${kind}?stream=${kind}`, { referrerPolicy });
            await body?.cancel();
            found.push(status);
          }
          return found;
        }, referrerPolicy);
        assert.deepEqual(statuses, [403, 403, 403, 403], referrerPolicy);
      }
      for (const { headers } of proxy.asked.slice(1)) assert.equal(headers["sec-fetch-site"], undefined);
      assert.deepEqual(await opens(), []);
    }));

  it("the address bar, and a page of the gateway's own origin, open streams", () =>
    scene([], async ({ tab, proxy, opens }) => {
      await tab.goto(`http://127.0.0.1:${proxy.port}/none`);
      await tab.evaluate(async () => {
        const source = new EventSource("/own/EventSource?stream=sse");
        await new Promise((resolve, reject) => { source.onopen = resolve; source.onerror = reject; });
        const { ok, body } = await fetch("/own/fetch?stream=raw");
        if (!ok) throw new Error("refused");
        await body.cancel();
      });
      // The page of a stream never ends to load.
      tab.goto(`http://127.0.0.1:${proxy.port}/bar?stream=raw`).catch(() => {});
      await until(() => proxy.asked.some(({ url, status }) => url.startsWith("/bar") && status === 200), "the stream");
      assert.deepEqual((await opens()).sort(), ["/bar", "/own/EventSource", "/own/fetch"]);
    }));
});
