// What wsgw.js does after a long time. The clock of this process can be put forward.
"use strict";

const assert = require("node:assert/strict");
const test = require("node:test");
const { WebSocket: Undici } = require("undici");
const { BEHIND, until, brief, scene } = require("../web.cjs");

globalThis.WebSocket ??= Undici;
const real = { now: performance.now.bind(performance), setTimeout };
let skew = 0;
performance.now = () => real.now() + skew;
/** Long times pass a hundred times as fast. */
const hurry = (yes) => {
  globalThis.setTimeout = yes ? (done, ms, ...more) => real.setTimeout(done, ms >= 40_000 ? ms / 100 : ms, ...more) : real.setTimeout;
};

test("after a minute of polls it tries the better ones again, and misses nothing", () =>
  scene({ proxy: BEHIND.poll }, async ({ serve, proxy, seen, gateway }) => {
    await seen.await("open");
    assert.equal(gateway.transport, "poll");
    // Nothing better yet: the polls go on, and nobody notices.
    skew += 61_000;
    await serve.cli("send", "-q", "1");
    await seen.gets(1);
    await serve.cli("send", "-q", "2");
    await seen.gets(2);
    assert.ok(seen.opened.every((one) => one === "poll"));
    proxy.upgrades = "pass";
    skew += 61_000;
    await serve.cli("send", "-q", "3");
    await until(() => gateway.canSend, () => brief(seen));
    gateway.send("4");
    await seen.gets(4);
    assert.deepEqual(seen.got, ["1", "2", "3", "4"]);
    assert.equal(seen.opened.at(-1), "websocket");
    assert.ok(seen.all("recovered").every(({ recovered }) => recovered));
  }));

test("a stream that falls silent is given up, and nothing is missed", async () => {
  hurry(true);
  try {
    await scene({ proxy: BEHIND.sse }, async ({ serve, proxy, seen, gateway }) => {
      await seen.await("open");
      assert.equal(gateway.transport, "sse");
      proxy.hold = 65_536;
      await serve.cli("send", "-q", "held back");
      await seen.gets(1);
      assert.deepEqual(seen.got, ["held back"]);
      assert.equal(gateway.transport, "poll");
      assert.equal((await seen.await("recovered")).recovered, true);
    });
  } finally {
    hurry(false);
  }
});
