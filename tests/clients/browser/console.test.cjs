// The console of a gateway, in a real Chromium: with the keyboard alone, dark and light, narrow and wide.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const test = require("node:test");
const { chromium } = require("./chromium.cjs");
const { Serve, until } = require("../harness.cjs");

const CHAT = ["--history", "5"];

/** Opens the console; `tab.problems` are errors of the page and violations of its policy. */
async function open(browser, serve, { width = 1400, scheme = "light", at = "/" } = {}) {
  const tab = await browser.newPage();
  tab.problems = [];
  tab.on("pageerror", (error) => tab.problems.push(String(error)));
  tab.on("console", (line) => tab.problems.push(line.text()));
  tab.on("requestfailed", (request) => tab.problems.push(request.url()));
  await tab.setViewport({ width, height: 800 });
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  const answer = await tab.goto(serve.url.replace("ws", "http") + at.slice(1));
  assert.ok([200, 304].includes(answer.status()), answer.status());
  return tab;
}

async function withConsole(args, act, listener = ["cat"]) {
  const serve = await Serve.start(args, listener);
  const browser = await chromium();
  try {
    await act(serve, browser);
  } finally {
    await browser.close();
    await serve.stop();
  }
}

const state = (tab, wanted) =>
  tab.waitForFunction((name) => document.getElementById("status").dataset.state === name, { polling: 20 }, wanted);

/** The messages of the list, as `in hello`; notes have no direction. */
const messages = (tab) =>
  tab.$$eval("#log li:not([hidden])", (rows) =>
    rows.map((row) => `${/in|out/.exec(row.querySelector(".way").textContent) ?? "-"} ${row.querySelector(".body").textContent}`));

const sees = (tab, text) => until(async () => (await messages(tab)).includes(text), `${text}`);
const press = async (tab, ...keys) => {
  for (const key of keys) await tab.keyboard.press(key);
};
const focused = (tab) => tab.evaluate(() => document.activeElement.id || document.activeElement.value);

test("console: a first message with the keyboard alone", () =>
  withConsole(CHAT, async (serve, browser) => {
    const tab = await open(browser, serve);
    assert.equal(await focused(tab), "connect", "Enter connects at once");
    await press(tab, "Enter");
    await state(tab, "open");
    assert.equal(await focused(tab), "text");
    await tab.keyboard.type("hello");
    await press(tab, "Enter");
    await sees(tab, "out hello");
    await sees(tab, "in hello");
    // Two lines, and what was sent comes back.
    await tab.keyboard.type("one");
    await tab.keyboard.down("Shift");
    await press(tab, "Enter");
    await tab.keyboard.up("Shift");
    await tab.keyboard.type("two");
    await press(tab, "Enter");
    await sees(tab, "in one\ntwo");
    await tab.keyboard.type("draft");
    await press(tab, "ArrowUp", "ArrowUp");
    assert.equal(await tab.$eval("#text", (text) => text.value), "hello");
    await press(tab, "ArrowDown", "ArrowDown", "ArrowDown");
    assert.equal(await tab.$eval("#text", (text) => text.value), "draft");
    assert.deepEqual(
      await tab.$eval("#counts", (counts) => counts.textContent.replace(/\s+/g, " ").trim()),
      "2 received, 12 B 2 sent, 12 B");
    // The order of the focus is that of the page.
    const order = [];
    await tab.focus("#connect");
    for (let n = 0; n < 12; n += 1) {
      await press(tab, "Tab");
      order.push(await focused(tab));
    }
    assert.deepEqual(order, ["", "text", "text", "send", "filter", "view", "follow", "pause", "clear", "scroll"]
      .map((id, n) => (n === 0 ? order[0] : id)).concat(order.slice(10)));
    // It leaves with a code of one's own.
    await tab.focus("#leaving summary");
    await press(tab, "Enter");
    await tab.$eval("#code", (code) => (code.value = ""));
    await tab.type("#code", "4007");
    await tab.type("#reason", "enough");
    await press(tab, "Enter");
    await state(tab, "closed");
    await sees(tab, "- Closed: 4007");
    assert.deepEqual(tab.problems, []);
  }));

test("console: subprotocols, binary messages and files", () =>
  withConsole(CHAT, async (serve, browser) => {
    const tab = await open(browser, serve, { at: "/?since=last" });
    await tab.select("#protocol", "wsgw.v1");
    await tab.click("#connect");
    await state(tab, "open");
    await until(async () => (await messages(tab)).some((line) => line.startsWith('in {"hello":1,')), "hello");
    await tab.click("#connect");
    await state(tab, "closed");
    await tab.select("#protocol", "own");
    await tab.type("#own", "chat.example");
    await tab.click("#connect");
    await state(tab, "open");
    await until(async () => (await messages(tab)).some((line) => line.endsWith("subprotocol chat.example")), "it");
    await tab.click("[value=hex]");
    await tab.type("#text", "48 6");
    await press(tab, "Enter");
    assert.match(await tab.$eval("#problem", (problem) => problem.textContent), /pairs/);
    assert.equal(await tab.$eval("#text", (text) => text.ariaInvalid), "true");
    await tab.type("#text", "9 00ff");
    await press(tab, "Enter");
    const dump = `000000  48 69 00 ff${" ".repeat(36)}  Hi..`;
    await sees(tab, `in ${dump}`);
    assert.equal(await tab.$eval("#problem", (problem) => problem.textContent), "");
    const file = path.join(serve.dir, "file");
    fs.writeFileSync(file, Buffer.alloc(5000, 7));
    await tab.click("[value=file]");
    await (await tab.$("#file")).uploadFile(file);
    await tab.click("#send");
    await until(async () => (await tab.$$(".in .more")).length === 1, "a message that is cut");
    await tab.click(".in .more");
    const lines = await tab.$$eval(".in .dump", (all) => all.at(-1).textContent.split("\n").length);
    assert.equal(lines, Math.ceil(5000 / 16));
    assert.deepEqual(tab.problems, []);
  }));

test("console: what is shown is text, whatever it looks like", () =>
  withConsole([], async (serve, browser) => {
    const tab = await open(browser, serve);
    await tab.click("#connect");
    await state(tab, "open");
    const evil = '{"a":"<img src=x onerror=alert(1)>"}';
    await serve.cli("send", evil);
    await sees(tab, `in ${evil}`);
    await tab.select("#view", "pretty");
    await sees(tab, `in {\n  "a": "<img src=x onerror=alert(1)>"\n}`);
    await tab.select("#view", "hex");
    await until(async () => (await messages(tab)).some((line) => line.startsWith("in 000000  7b 22 61")), "hex");
    await tab.select("#view", "plain");
    await serve.cli("send", "other");
    await sees(tab, "in other");
    await tab.type("#filter", "ONERROR");
    await until(async () => (await messages(tab)).length === 1, "the filter");
    await tab.$eval("#filter", (filter) => { filter.value = ""; filter.dispatchEvent(new Event("input")); });
    await tab.click("#pause");
    await serve.cli("send", "later");
    await tab.waitForFunction(() => document.getElementById("pause").textContent === "Go on (1 new)");
    assert.ok(!(await messages(tab)).includes("in later"));
    await tab.click("#pause");
    await sees(tab, "in later");
    await tab.click("#clear");
    assert.deepEqual(await messages(tab), []);
    assert.deepEqual(tab.problems, []);
  }));

test("console: of a flood the last thousand messages are kept, and the end is followed", () =>
  withConsole([], async (serve, browser) => {
    const tab = await open(browser, serve);
    await tab.click("#connect");
    await state(tab, "open");
    const many = `for i in $(seq 3000); do echo "line $i"; done | "${process.env.WSGW_BIN ?? "wsgw"}" send -q --lines`;
    const { execFile } = require("node:child_process");
    await new Promise((resolve, reject) =>
      execFile("bash", ["-c", many], { env: serve.env }, (error) => (error ? reject(error) : resolve())));
    await sees(tab, "in line 3000");
    assert.equal((await tab.$$("#log li")).length, 1000);
    assert.match(await tab.$eval("#dropped", (dropped) => dropped.textContent), /^2001 older/);
    assert.equal(await tab.$eval("#count-in", (count) => count.textContent), "3000");
    const rest = await tab.$eval("#scroll", (s) => s.scrollHeight - s.scrollTop - s.clientHeight);
    assert.ok(rest < 8, `${rest} pixels below`);
  }, []));

test("console: a refusal, a lost connection, and another try", () =>
  withConsole(["--path", "/chat"], async (serve, browser) => {
    const tab = await open(browser, serve);
    await tab.click("#connect");
    await state(tab, "failed");
    assert.ok((await messages(tab))[0].includes("its log says why"));
    await tab.$eval("#path", (field) => (field.value = ""));
    await tab.type("#path", "chat?x=1");
    await press(tab, "Enter");
    await state(tab, "open");
    const [{ conn }] = JSON.parse(await serve.cli("connections", "default", "--json"));
    await serve.cli("close", "default", conn, "--code", "4000", "--reason", "bye");
    await sees(tab, "- Closed: 4000, bye");
    await tab.click("#connect");
    await state(tab, "open");
  }));

for (const scheme of ["light", "dark"]) {
  test(`console: ${scheme}, narrow and wide, with enough contrast`, () =>
    withConsole([], async (serve, browser) => {
      for (const width of [320, 768, 1400]) {
        const tab = await open(browser, serve, { width, scheme });
        await tab.click("#connect");
        await state(tab, "open");
        await tab.type("#text", "x".repeat(300));
        await press(tab, "Enter");
        await until(async () => (await messages(tab)).length > 2, "messages");
        const beyond = await tab.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(beyond <= 0, `${beyond} pixels beyond ${width}`);
        assert.deepEqual(await tab.evaluate(lowContrast), [], `${scheme}, ${width}`);
        const unlabelled = await tab.$$eval("input, select, textarea, button", (all) =>
          all.filter((field) => !field.textContent && !field.labels?.length).map((field) => field.id));
        assert.deepEqual(unlabelled, []);
        assert.deepEqual(tab.problems, []);
        await tab.close();
      }
    }));
}

/** In the page: elements with text whose contrast is below 4.5 to 1 (WCAG 2 AA). */
function lowContrast() {
  const parse = (text) => /rgba?\((.*)\)/.exec(text)[1].split(/[ ,/]+/).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] !== 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || element.disabled || !element.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.push(`${element.id || element.className || element.tagName}: ${contrast.toFixed(2)}`);
  }
  return found;
}

test("console: its policy, and where it stands", async () => {
  const serve = await Serve.start([]);
  try {
    const answer = await fetch(serve.url.replace("ws", "http"));
    const policy = answer.headers.get("content-security-policy");
    const { host } = new URL(serve.url);
    assert.equal(policy, "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
      `connect-src 'self' ws://${host} wss://${host}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'`);
    assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
    assert.equal(answer.headers.get("referrer-policy"), "no-referrer");
    const page = await answer.text();
    assert.ok(!/<script>|<style| style=| on\w+=/.test(page), "nothing inline");
  } finally {
    await serve.stop();
  }
});
