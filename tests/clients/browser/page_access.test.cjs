// Who may use the operators' page, as browsers see it; and what it does when `serve` has gone.
"use strict";

const assert = require("node:assert/strict");
const http = require("node:http");
const test = require("node:test");
const { go, live, open, says, withPage, words } = require("./operators.cjs");
const { Serve, freePort } = require("../harness.cjs");
const { chromium } = require("./chromium.cjs");

/** In a page: asks, and says the status, or that it was not let. */
async function ask(url, method, headers) {
  try {
    return (await fetch(url, { method, headers, credentials: "include" })).status;
  } catch {
    return "refused";
  }
}

test("page: a link is good once, for a session that scripts cannot read", () =>
  withPage([], ["cat"], async (serve, browser) => {
    const link = (await serve.cli("open")).trim();
    const tab = await browser.newPage();
    await tab.goto(link);
    await live(tab);
    assert.equal(tab.url(), `${serve.control}/`, "the code has left the address");
    assert.equal(await tab.evaluate(() => document.cookie), "");
    assert.equal(await tab.evaluate(() => document.referrer), "");
    const [cookie] = await browser.cookies();
    const { port } = new URL(serve.control);
    assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite, cookie.path], [`wsgw-${port}`, true, "Strict", "/"]);
    await tab.reload();
    await live(tab);
    // Another browser comes too late.
    const stranger = await (await browser.createBrowserContext()).newPage();
    for (const url of [link, serve.control]) {
      assert.equal((await stranger.goto(url)).status(), 401);
      await says(stranger, "body", /wsgw open/);
    }
    assert.equal(await stranger.evaluate(ask, "/v1/watch", "GET"), 401);
    assert.equal(await stranger.evaluate(ask, "/v1/gateways", "GET"), 401);
  }));

test("page: what changes something needs the page's header, and no other origin may ask", () =>
  withPage([], ["cat"], async (serve, browser) => {
    const tab = await open(browser, serve);
    const stop = `${serve.control}/v1/gateways/default/stop`;
    assert.equal(await tab.evaluate(ask, "/v1/gateways", "GET"), 200);
    assert.equal(await tab.evaluate(ask, stop, "POST"), 403, "no X-Wsgw");
    assert.equal(await tab.evaluate(ask, stop, "POST", { "X-Wsgw": "2" }), 403);
    assert.equal((await serve.status()).state, "running");
    // A page of another port of the same host: browsers send it the cookie, for it is the same site.
    const server = http.createServer((_, response) => response.end("<title>another page</title>"));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const other = await browser.newPage();
      await other.goto(`http://127.0.0.1:${server.address().port}/`);
      for (const [path, method, headers] of [
        ["/v1/gateways", "GET"], ["/v1/watch", "GET"], ["/v1/gateways/default/stop", "POST"],
        ["/v1/gateways/default/stop", "POST", { "X-Wsgw": "1" }],
      ]) {
        assert.equal(await other.evaluate(ask, serve.control + path, method, headers), "refused", path);
      }
      // Requests without CORS, which go out and whose answer is not read.
      const blind = (url, method) => fetch(url, { method, mode: "no-cors", credentials: "include" }).then(() => 1, () => 0);
      await other.evaluate(blind, stop, "POST");
      await other.evaluate((url) => new Promise((resolve) => {
        const form = Object.assign(document.createElement("form"), { action: url, method: "post", target: "there" });
        const frame = Object.assign(document.createElement("iframe"), { name: "there", onload: resolve });
        document.body.append(frame, form);
        form.submit();
      }), stop);
      assert.equal((await serve.status()).state, "running");
      // The page itself is in no frame.
      const framed = await other.evaluate((url) => new Promise((resolve) => {
        const frame = Object.assign(document.createElement("iframe"), { src: url });
        frame.onload = () => {
          try {
            resolve(frame.contentDocument?.title ?? "foreign");
          } catch {
            resolve("foreign");
          }
        };
        document.body.append(frame);
      }), `${serve.control}/`);
      assert.equal(framed, "foreign");
    } finally {
      server.close();
    }
    assert.equal(await tab.evaluate(ask, stop, "POST", { "X-Wsgw": "1" }), 200);
    assert.equal((await serve.status()).state, "stopped");
  }));

test("page: serve goes and comes back: it is told, and a new link goes on in the same tab", async () => {
  const control = `127.0.0.1:${await freePort()}`;
  let serve = await Serve.start([], ["cat"], 0, control);
  const browser = await chromium();
  try {
    const tab = await open(browser, serve, { at: "#/gateways/default" });
    await says(tab, ".title .pill", "running");
    await serve.stop();
    await says(tab, "#banner", /^wsgw serve does not answer\. What you see is from \d\d:\d\d:\d\d\./);
    await says(tab, "#live", "Not connected");
    assert.equal(await words(tab, ".title .pill"), "running", "what was known stays");
    serve = await Serve.start([], ["cat"], 0, control);
    await says(tab, "#banner", /^This session has ended\. .*wsgw open/);
    await says(tab, "#live", "Signed out");
    const other = await open(browser, serve);
    await other.close();
    await live(tab);
    assert.equal(await words(tab, "#banner"), "");
  } finally {
    await browser.close();
    await serve.stop();
  }
});

test("page: while it is paused or hidden, it asks for nothing", () =>
  withPage([], ["cat"], async (serve, browser) => {
    const tab = await open(browser, serve);
    let asked = 0;
    tab.on("request", (request) => { asked += request.url().includes("/v1/") ? 1 : 0; });
    await tab.click("#pause");
    await says(tab, "#live", "Paused");
    await go(tab, "#/log");
    await says(tab, "h1", "Log");
    assert.equal(asked, 0);
    await tab.click("#pause");
    await live(tab);
    assert.equal(asked, 1);
    await tab.evaluate(() => {
      Object.defineProperty(document, "hidden", { value: true, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await serve.cli("restart", "default", "--listener");
    const { listener_pid: pid } = await serve.status();
    assert.ok(!(await words(tab, ".log")).includes(`pid=${pid}`));
    await tab.evaluate(() => {
      Object.defineProperty(document, "hidden", { value: false, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await says(tab, ".log", new RegExp(`pid=${pid}`));
    assert.equal(asked, 2);
  }));
