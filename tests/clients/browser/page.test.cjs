// The operators' page in a real Chromium: everything that can be done on it.
"use strict";

const assert = require("node:assert/strict");
const test = require("node:test");
const WebSocket = require("ws");
const { config, go, open, says, withPage, words } = require("./operators.cjs");
const { until } = require("../harness.cjs");

/** Opens clients of a gateway; `client.closed` is how each of them ended. */
async function connect(serve, count, path = "/") {
  const clients = [];
  for (let n = 0; n < count; n += 1) {
    const client = new WebSocket(new URL(path.replaceAll("N", n), serve.url));
    client.got = [];
    client.on("message", (data) => client.got.push(String(data)));
    client.closed = new Promise((resolve) => client.on("close", (code, reason) => resolve(`${code} ${reason}`)));
    client.on("error", () => {});
    await new Promise((resolve, reject) => client.on("open", resolve).on("error", reject));
    clients.push(client);
  }
  return clients;
}

const press = async (tab, ...keys) => {
  for (const key of keys) await tab.keyboard.press(key);
};
const fill = async (tab, selector, value) => {
  await tab.$eval(selector, (field) => { field.value = ""; });
  await tab.type(selector, value);
};
const click = async (tab, selector) => {
  await tab.waitForFunction((wanted) => {
    const found = document.querySelector(wanted);
    return found?.checkVisibility() && !found.disabled;
  }, { polling: 20 }, selector);
  await tab.$eval(selector, (found) => found.click());
};

test("page: everything at a glance, and a gateway that failed with its reason", () => {
  const file = config(`
[gateways.default]
[gateways.broken]
port = 0
listener = "echo 'no such module: rooms' >&2; exit 3"
[gateways.later]
port = 0
startup = "manual"
`);
  return withPage(["--id", "default", "--config", file], ["cat"], async (serve, browser) => {
    const clients = await connect(serve, 3);
    const tab = await open(browser, serve);
    await says(tab, ".gateways tbody th .name", "default running | broken failed | later stopped");
    await says(tab, ".gateways tbody tr:first-child td:nth-child(2)", "3");
    await says(tab, "h1", "Gateways");
    await says(tab, ".reasons", /broken/);
    clients[0].send("hello");
    await says(tab, ".gateways tbody tr:first-child td:nth-child(5)", /ms p99 [\d.]+ ms/);
    await tab.click(".gateways tbody tr:nth-child(2) a");
    await says(tab, "h1", "broken");
    await says(tab, ".alert", /This gateway has failed.*no such module: rooms/);
    await says(tab, ".actions[role=group]", "Start");
    // What failed goes on failing, and says so.
    await click(tab, "#verb-start");
    await says(tab, "#said", /^Start: .*broken.* Dismiss$/);
    await click(tab, "#said button");
    assert.equal(await words(tab, "#said"), "");
    await go(tab, "#/gateways/nobody");
    await says(tab, "h1", "There is no gateway named nobody");
    await go(tab, "#/gateways/later");
    await click(tab, "#verb-start");
    await says(tab, "#said", "later runs.");
    await says(tab, ".title .pill", "running");
    assert.deepEqual(tab.problems, []);
  });
});

test("page: stop, start and restarts, each with the keyboard and after a question", () =>
  withPage([], ["cat"], async (serve, browser) => {
    const [client] = await connect(serve, 1);
    const tab = await open(browser, serve, { at: "#/gateways/default" });
    const focused = () => tab.evaluate(() => document.activeElement.id || document.activeElement.textContent);
    await says(tab, ".figure:first-child .value", "1");
    await tab.focus("#verb-stop");
    await press(tab, "Enter");
    await says(tab, "#ask", /^Stop default\? 1 connection will be closed, and nobody can connect/);
    assert.equal(await focused(), "Cancel", "what does no harm comes first");
    await press(tab, "Escape");
    assert.equal(await focused(), "verb-stop");
    assert.equal((await serve.status()).state, "running");
    // The listener: the connection stays.
    const before = (await serve.status()).listener_pid;
    await tab.focus("#verb-listener");
    await press(tab, "Enter");
    await says(tab, "#ask h2", "Restart the listener of default?");
    await press(tab, "Tab", "Enter");
    await says(tab, "#said", "default has a new listener.");
    assert.notEqual((await serve.status()).listener_pid, before);
    assert.equal((await serve.status()).connections, 1);
    await tab.focus("#verb-restart");
    await press(tab, "Enter", "Tab", "Enter");
    await says(tab, "#said", "default was restarted.");
    assert.match(await client.closed, /^1001/);
    await tab.focus("#verb-stop");
    await press(tab, "Enter", "Tab", "Enter");
    await says(tab, "#said", "default was stopped.");
    await says(tab, ".title .pill", "stopped");
    assert.equal((await serve.status()).state, "stopped");
    await until(async () => (await focused()) === "verb-start", "the focus");
    await press(tab, "Enter");
    await says(tab, "#said", "default runs.");
    assert.equal((await serve.status()).state, "running");
    assert.deepEqual(tab.problems, []);
  }));

test("page: connections are paged, sorted and filtered by serve, and closed", () =>
  withPage(["--channels", "query", "--allow-channels", "*"], ["cat"], async (serve, browser) => {
    const clients = await connect(serve, 60, "/r/N?channel=room-N");
    const tab = await open(browser, serve, { at: "#/gateways/default/connections" });
    await says(tab, "#conn-shown", "1 to 50 of 60");
    const paths = () => tab.$$eval(".conns tbody tr:not(.details) td:nth-child(3) .data", (all) => all.map((one) => one.textContent));
    await click(tab, "#conn-on");
    await says(tab, "#conn-shown", "51 to 60 of 60");
    assert.equal((await paths()).length, 10);
    await click(tab, "[data-sort=path]");
    await says(tab, "#conn-shown", "1 to 50 of 60");
    assert.deepEqual(await paths(), (await paths()).toSorted());
    await click(tab, "[data-sort=path]");
    await until(async () => (await paths())[0] === "/r/9", "the other order");
    assert.equal(await tab.$eval("thead th:nth-child(3)", (head) => head.getAttribute("aria-sort")), "descending");
    await tab.type("#conn-filter", "ROOM-42");
    await says(tab, "#conn-shown", "1 to 1 of 1");
    // The address has it all: a reload shows the same.
    assert.match(await tab.evaluate(() => location.hash), /sort=path&order=desc&filter=ROOM-42/);
    await tab.reload();
    await says(tab, "#conn-shown", "1 to 1 of 1");
    await click(tab, ".conns tbody th button");
    await says(tab, ".details", /Path \/r\/42 .*Transport websocket Channels room-42/);
    await click(tab, ".conns .close");
    await says(tab, "#ask h2", /^Close k\w+\?$/);
    await fill(tab, "#close-code", "4007");
    await tab.type("#close-reason", "enough");
    await press(tab, "Enter");
    assert.equal(await clients[42].closed, "4007 enough");
    await says(tab, "#said", /was closed with 4007/);
    await says(tab, ".conns ~ div .empty", /No connection matches “ROOM-42”/);
    // A code that no gateway may send is told, and nothing is closed.
    await fill(tab, "#conn-filter", "room-7");
    await click(tab, ".conns .close");
    await fill(tab, "#close-code", "1005");
    await press(tab, "Enter");
    await says(tab, "#said", /was not closed: .*1005/);
    assert.equal((await serve.status()).connections, 59);
    assert.deepEqual(tab.problems, []);
  }));

test("page: channels with their members and kept messages", () =>
  withPage(["--channels", "path", "--allow-channels", "*", "--route", "channels", "--history", "5"], [], async (serve, browser) => {
    const tab = await open(browser, serve, { at: "#/gateways/default/channels" });
    await says(tab, ".choose .empty .title", "There are no channels yet.");
    await connect(serve, 2, "/lobby");
    await connect(serve, 1, "/rooms/a");
    await serve.cli("send", "--channel", "lobby", "<img src=x onerror=alert(1)>");
    await says(tab, ".names", "lobby 2 rooms/a 1");
    await tab.type("#channel-prefix", "ro");
    await says(tab, ".names", "rooms/a 1");
    await click(tab, ".names a");
    await says(tab, "#channel-title", "rooms/a");
    await go(tab, "#/gateways/default/channels/lobby");
    await says(tab, ".kept pre", "<img src=x onerror=alert(1)>");
    await says(tab, ".split dl dd", /^2 \| 1 \|/);
    const members = await tab.$$eval(".split .chips a", (all) => all.map((one) => one.textContent));
    assert.equal(members.length, 2);
    await click(tab, ".split .chips a");
    await says(tab, "#conn-shown", "1 to 1 of 1");
    assert.equal(await words(tab, ".conns tbody th"), members[0]);
    await go(tab, "#/gateways/default/channels/nobody");
    await says(tab, ".split .empty .title", /neither members nor kept messages/);
    assert.deepEqual(tab.problems, []);
  }));

test("page: the tail is off until it is asked for, pairs events with answers, and is in the log", () =>
  withPage([], ["cat"], async (serve, browser) => {
    const [client] = await connect(serve, 1);
    const tab = await open(browser, serve, { at: "#/gateways/default/tail" });
    await says(tab, ".empty .title", "The live tail is off.");
    client.send("before");
    await until(() => client.got.length === 1, "an answer");
    assert.ok(!serve.err.includes("tail"), serve.err);
    await click(tab, "#tail-start");
    await says(tab, "[aria-label='Live tail'] [role=status]", "On, as the log says.");
    await until(() => /tail/.test(serve.err), "the log");
    client.send('<b onclick="x">1</b>');
    const first = await says(tab, "#tail-events li:first-child", /onMessage/);
    assert.match(first, /onMessage k\w+ event \d+ [\d.]+ ms answered/);
    assert.match(first, /→ \{.*<b onclick=.*← \{.*<b onclick=/);
    assert.ok(!(await tab.$("#tail-events b[onclick]")));
    await click(tab, "#tail-pause");
    client.send("two");
    await says(tab, "#tail-counts", "2 events, 1 new");
    await click(tab, "#tail-pause");
    await until(async () => (await tab.$$("#tail-events li")).length === 2, "two events");
    await tab.type("#tail-filter", "TWO");
    assert.equal((await tab.$$("#tail-events li:not([hidden])")).length, 1);
    // A flood is counted, not shown.
    for (let n = 0; n < 400; n += 1) client.send(`flood ${n}`);
    await says(tab, "#tail-counts", /\d+ not shown/);
    const lines = serve.err.match(/tail/g).length;
    await click(tab, "#tail-start");
    await says(tab, "[aria-label='Live tail'] [role=status]", "Off.");
    await until(() => serve.err.match(/tail/g).length > lines, "the log");
    // Who leaves the view leaves the tail.
    await click(tab, "#tail-start");
    await says(tab, "[aria-label='Live tail'] [role=status]", "On, as the log says.");
    const again = serve.err.match(/tail/g).length;
    await go(tab, "#/log");
    await until(() => serve.err.match(/tail/g).length > again, "the log");
    assert.deepEqual(tab.problems, []);
  }));

test("page: a message is sent, with the counts of what became of it", () =>
  withPage(["--channels", "path", "--allow-channels", "*"], ["cat"], async (serve, browser) => {
    const [client] = await connect(serve, 2, "/lobby");
    const tab = await open(browser, serve, { at: "#/gateways/default/send" });
    const result = (wanted) => says(tab, ".results li:first-child", wanted);
    await tab.type("#send-message", "hello");
    await tab.keyboard.down("Control");
    await press(tab, "Enter");
    await tab.keyboard.up("Control");
    await result(/^Delivered to 2 connections .* hello matched 2 delivered 2 dropped 0 gone 0$/);
    await until(() => client.got.includes("hello"), "the message");
    await click(tab, "[value=channel]");
    await click(tab, "#send-go");
    await says(tab, ".problem", "Name at least one of the channels.");
    await tab.type("#send-who", "nobody, none");
    await click(tab, "#send-skip");
    await click(tab, "#send-go");
    await result(/^Nobody got it .* to nobody, none matched 0/);
    const [{ conn }] = JSON.parse(await serve.cli("connections", "default", "--json"));
    await click(tab, "[value=connections]");
    await fill(tab, "#send-who", `${conn} k999`);
    await click(tab, "#send-go");
    await result(/^Delivered to 1 connection .* gone 1 Gone: k999$/);
    await click(tab, "[value=base64]");
    await fill(tab, "#send-message", "x!");
    await click(tab, "#send-go");
    await says(tab, ".problem", /^Base64 has/);
    await fill(tab, "#send-message", "aGk=");
    await click(tab, "[name=send-to]");
    await click(tab, "#send-go");
    await result(/^Delivered to 2 connections/);
    await until(() => client.got.includes("hi"), "the bytes");
    await fill(tab, "#send-message", "aGk");
    await click(tab, "#send-go");
    await says(tab, ".problem", /base64/i);
    assert.deepEqual(tab.problems, []);
  }));

test("page: the log, live, sifted by words and level", () =>
  withPage([], ["cat"], async (serve, browser) => {
    const tab = await open(browser, serve);
    await says(tab, ".log.short", /gateway running/);
    await tab.click("#sections [data-section=log]");
    await says(tab, "h1", "Log");
    await serve.cli("restart", "default", "--listener");
    const pid = (await serve.status()).listener_pid;
    // Times are those of the reader's clock, as everywhere on the page.
    await tab.emulateTimezone("Asia/Kathmandu");
    await tab.reload();
    await says(tab, ".log", new RegExp(`listener started pid=${pid}`));
    await tab.type("#log-filter", `PID=${pid}`);
    await says(tab, ".log", new RegExp(`^\\S+ INFO default listener started pid=${pid}$`));
    const [shown, written] = await tab.$eval(".log .entry:not([hidden]) time", (time) => [time.textContent, time.dateTime]);
    const minutes = (text) => Number(text.slice(0, 2)) * 60 + Number(text.slice(3, 5));
    assert.equal((minutes(shown) - minutes(written.slice(11)) + 1440) % 1440, 345);
    await tab.select("#log-level", "ERROR");
    await says(tab, ".empty .title", "No line of the log matches.");
    assert.deepEqual(tab.problems, []);
  }));
