// wsgw.js in Node, behind proxies that do what proxies do.
"use strict";

const assert = require("node:assert/strict");
const { execFile } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { describe, it } = require("node:test");
const { promisify } = require("node:util");
const { WebSocket: Undici } = require("undici");
const { ROOT } = require("../harness.cjs");
const { random } = require("../proxy.cjs");
const { SOURCE, MODULE, BEHIND, Sender, until, brief, scene } = require("../web.cjs");

// Older versions of Node have none of their own.
globalThis.WebSocket ??= Undici;
const run = promisify(execFile);
const KEPT = ["--history", "5000", "--route", "none"];

/** Waits for the client behind this proxy to be connected as it should. */
async function connected({ seen, gateway }, transport) {
  await seen.await("open");
  assert.equal(gateway.transport, transport, brief(seen));
}

describe("wsgw.js", { concurrency: 8 }, () => {
  it("has 200 lines at most and imports nothing", () => {
    const text = fs.readFileSync(SOURCE, "utf8");
    const lines = text.trimEnd().split("\n");
    assert.ok(lines.length <= 200, `${lines.length} lines`);
    for (const line of lines) assert.ok(line.length <= 120, line);
    assert.doesNotMatch(text, /\bimport\b|\brequire\(/);
  });

  it("has types that say what is there", async () => {
    const { Gateway } = await import(MODULE);
    const types = fs.readFileSync(path.join(path.dirname(SOURCE), "wsgw.d.ts"), "utf8");
    const body = /declare class Gateway [^]*?\n}/.exec(types)[0];
    const named = [...body.matchAll(/^  (?:readonly |get )?(\w+)\??[:(]/gm)].map(([, name]) => name);
    const gateway = new Gateway("ws://127.0.0.1:9/");
    gateway.close();
    for (const name of named)
      assert.ok(name === "constructor" || name.startsWith("on") || name in gateway, name);
    for (const name of [...Object.keys(gateway), ...Object.getOwnPropertyNames(Gateway.prototype)])
      assert.ok(named.includes(name), `${name} has no type`);
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), "wsgw-types-"));
    try {
      fs.writeFileSync(path.join(directory, "wsgw.d.ts"), types);
      fs.writeFileSync(path.join(directory, "use.ts"), `
        import Default, { Gateway, type GatewayOptions } from "./wsgw.js";
        const options: GatewayOptions = { since: 20, withCredentials: true, minDelay: 1, maxDelay: 2, timeout: 3 };
        const gateway: Default = new Gateway(new URL("ws://x/"), options);
        gateway.onmessage = (e) => { const body: string | Blob | ArrayBuffer = e.data; console.log(body, e.channel, e.at); };
        gateway.addEventListener("recovered", ({ recovered }) => { const all: boolean = recovered; console.log(all); });
        gateway.addEventListener("error", (e) => { if (e.code === 4001) gateway.close(1000, e.reason); });
        gateway.addEventListener("join", ({ channel, conn, members }) => console.log(channel, conn, members.toFixed()));
        gateway.addEventListener("anything", (e) => console.log(e.type), { once: true });
        if (gateway.canSend && gateway.readyState === Gateway.OPEN) gateway.send(new Uint8Array(3));
        // @ts-expect-error: it cannot be set
        gateway.readyState = 1;
        // @ts-expect-error: numbers are not sent
        gateway.send(7);
      `);
      const tsc = require.resolve("typescript/bin/tsc");
      await run(process.execPath, [tsc, "--noEmit", "--strict", "--target", "es2022", "--module", "nodenext",
        "--lib", "es2022,dom", "use.ts"], { cwd: directory }).catch(({ stdout }) => assert.fail(stdout));
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
  });

  it("refuses URLs that are none", async () => {
    const { default: Gateway } = await import(MODULE);
    assert.throws(() => new Gateway("ftp://x/"), { name: "SyntaxError" });
    assert.throws(() => new Gateway("/relative, and there is no page"), TypeError);
    assert.deepEqual([Gateway.CONNECTING, Gateway.OPEN, Gateway.CLOSING, Gateway.CLOSED], [0, 1, 2, 3]);
  });

  for (const transport of ["websocket", "sse"])
    it(`${transport}: messages of all kinds, both ways, in order`, () =>
      scene({ proxy: BEHIND[transport] }, async ({ serve, seen, gateway, open }) => {
        await connected({ seen, gateway }, transport);
        const other = open(`${serve.url.replace("ws", "http")}/other?a=b%20c#fragment`);
        await other.await("open");
        gateway.binaryType = "arraybuffer";
        const texts = Array.from({ length: 100 }, (_, n) => ["", "a\nb", "\r", "ä\u{1f600} ", `${n}`][n % 5]);
        assert.ok(gateway.canSend);
        for (const text of texts) gateway.send(text);
        gateway.send("x".repeat(100_000));
        const bytes = Uint8Array.from({ length: 256 }, (_, n) => n);
        gateway.send(bytes);
        gateway.send(bytes.buffer);
        gateway.send(new Blob([bytes]));
        bytes.fill(0); // it was sent as it was
        gateway.send("the end");
        for (const { got } of [seen, other]) {
          await until(() => got.at(-1) === "the end", () => brief(seen));
          assert.deepEqual(got.slice(0, 100), texts);
          assert.equal(got[100].length, 100_000);
          assert.equal(got.length, 105);
        }
        for (const data of seen.got.slice(101, 104)) assert.deepEqual([...new Uint8Array(data)], [...Array(256).keys()]);
        for (const data of other.got.slice(101, 104)) assert.equal((await data.arrayBuffer()).byteLength, 256);
        const ats = seen.all("message").map(({ at }) => Number(at.split("-")[1]));
        assert.deepEqual(ats, ats.map((_, n) => ats[0] + n));
        assert.equal(gateway.at, seen.all("message").at(-1).at);
        const rows = JSON.parse(await serve.cli("connections", "default", "--json"));
        const row = rows.find(({ path: where }) => where === "/other");
        assert.equal(row.transport, "websocket");
        assert.equal(rows.find(({ conn }) => conn === gateway.conn).transport, transport);
      }));

  it("poll: it gets, and cannot send", () =>
    scene({ proxy: BEHIND.poll }, async ({ serve, seen, gateway }) => {
      await connected({ seen, gateway }, "poll");
      assert.equal(gateway.canSend, false);
      assert.throws(() => gateway.send("x"), { name: "InvalidStateError" });
      await serve.cli("send", "-q", "one");
      await seen.gets(1);
      await serve.cli("send", "-q", "two");
      await seen.gets(2);
      assert.deepEqual(seen.got, ["one", "two"]);
      assert.deepEqual(await serve.connections(0), true);
    }));

  it("falls back after three seconds where nobody answers an upgrade", async () => {
    const begun = performance.now();
    await scene({ proxy: { upgrades: "swallow" }, timeout: undefined }, async ({ proxy, seen, gateway }) => {
      await seen.await("open");
      assert.ok(performance.now() - begun > 2900);
      assert.notEqual(gateway.transport, "websocket");
      assert.match(proxy.asked[1].url, /stream=sse/);
    });
  });

  it("uses streams where there is no WebSocket", async () => {
    const code = `
      globalThis.WebSocket = undefined;
      const { Gateway } = await import(process.argv[1]);
      const gateway = new Gateway(process.argv[2]);
      gateway.onopen = () => gateway.send("from a child");
      gateway.onmessage = ({ data }) => { console.log(gateway.transport, data); gateway.close(); };`;
    await scene({}, async ({ proxy }) => {
      // It also ends by itself: nothing keeps Node running after close().
      const { stdout } = await run(process.execPath, ["--input-type=module", "-e", code, MODULE, proxy.url], { timeout: 20_000 });
      assert.equal(stdout, "sse from a child\n");
    });
  });

  for (const [transport, transports] of [["websocket", ["websocket", "sse", "poll"]], ["sse", ["sse", "poll"]], ["poll", ["poll"]]])
    it(`everything comes once and in order where connections are cut: ${transports}`, () => {
      const cut = { seed: 10_125, least: 500, most: 6_000 };
      return scene({ args: KEPT, proxy: { ...BEHIND[transport], cut }, timeout: 300 }, async ({ serve, proxy, seen, gateway }) => {
        await seen.await("open");
        const sender = new Sender(serve), chance = random(7);
        let sent = 0;
        while (sent < 1000 || proxy.cuts < 6) {
          const lines = Array.from({ length: 1 + Math.floor(chance() * 40) }, () => `message ${sent++}`);
          sender.send(...lines);
          if (chance() < 0.7) await seen.gets(sent);
        }
        await seen.gets(sent);
        await sender.end();
        assert.deepEqual(seen.got, Array.from({ length: sent }, (_, n) => `message ${n}`));
        for (const one of seen.opened) assert.ok(transports.includes(one), one);
        for (const { recovered } of seen.all("recovered")) assert.equal(recovered, true);
        assert.ok(seen.count("recovered") > 2, brief(seen));
        assert.equal(gateway.recovered, true);
      });
    });

  for (const transport of ["websocket", "sse", "poll"]) {
    it(`${transport}: resumes, and says when it cannot`, () =>
      scene({ args: ["--history", "3", "--route", "none"], proxy: BEHIND[transport] }, async ({ serve, proxy, seen, gateway }) => {
        await connected({ seen, gateway }, transport);
        const away = async (...bodies) => {
          proxy.down = true;
          proxy.cutAll();
          await until(() => gateway.readyState === 0, "the loss");
          assert.throws(() => gateway.send("x"), { name: "InvalidStateError" });
          for (const body of bodies) await serve.cli("send", "-q", body);
          proxy.down = false;
        };
        await serve.cli("send", "-q", "live");
        await seen.gets(1);
        assert.equal(seen.count("recovered"), 0);
        await away("missed 1", "missed 2");
        await seen.gets(3);
        assert.deepEqual([(await seen.await("recovered")).recovered, gateway.recovered], [true, true]);
        await away("lost 1", "lost 2", "lost 3", "lost 4");
        assert.deepEqual([(await seen.await("recovered", 2)).recovered, gateway.recovered], [false, false]);
        await serve.cli("send", "-q", "live again");
        await seen.gets(4);
        assert.deepEqual(seen.got, ["live", "missed 1", "missed 2", "live again"]);
        // What was missed comes after the word that it was recovered, and that after the open.
        const types = seen.events.map(([type]) => type).filter((type) => type !== "error");
        assert.deepEqual(types.slice(0, 6), ["open", "message", "open", "recovered", "message", "message"]);
        assert.equal(seen.count("close"), 0);
      }));

    it(`${transport}: goes on at a position that was saved`, () =>
      scene({ args: KEPT, proxy: BEHIND[transport] }, async ({ serve, proxy, seen, gateway, open }) => {
        await connected({ seen, gateway }, transport);
        const sender = new Sender(serve);
        sender.send("1", "2", "3");
        await seen.gets(3);
        gateway.close();
        assert.deepEqual((await seen.await("close")).code, 1005);
        const { at } = seen.all("message")[0];
        const later = open(undefined, { since: at });
        await later.gets(2);
        assert.deepEqual(later.got, ["2", "3"]);
        assert.equal((await later.await("recovered")).recovered, true);
        const inUrl = open(`${proxy.url}/?since=${at}`);
        await inUrl.gets(2);
        const wrong = open(undefined, { since: "AAAAAAAA-1" });
        assert.equal((await wrong.await("recovered")).recovered, false);
        sender.send("4");
        for (const one of [later, inUrl, wrong]) await until(() => one.got.at(-1) === "4", () => brief(one));
        assert.deepEqual(wrong.got, ["4"]);
        await sender.end();
      }));

    it(`${transport}: the newest messages first, where the client asks for them`, () =>
      scene({ args: KEPT, proxy: BEHIND[transport] }, async ({ serve, seen, open }) => {
        await seen.await("open");
        const sender = new Sender(serve);
        sender.send("1", "2", "3");
        await seen.gets(3);
        for (const [since, bodies] of [["last", ["3"]], [2, ["2", "3"]], ["5m", ["1", "2", "3"]]]) {
          const one = open(undefined, { since });
          await one.gets(bodies.length);
          assert.deepEqual(one.got, bodies);
          assert.equal(one.count("recovered"), 0);
        }
        await sender.end();
      }));
  }

  for (const transport of ["websocket", "sse"]) {
    it(`${transport}: closes by the gateway`, () =>
      scene({ proxy: BEHIND[transport] }, async ({ serve, seen, gateway, open }) => {
        await connected({ seen, gateway }, transport);
        const kick = (...args) => serve.cli("close", "default", gateway.conn, ...args);
        await kick("--code", "4001", "--reason", "kicked");
        const { code, reason } = await seen.await("error");
        assert.deepEqual({ code, reason }, { code: 4001, reason: "kicked" });
        await seen.await("open", 2);
        // The handler of an error can end it.
        const touchy = open();
        touchy.gateway.onerror = () => touchy.gateway.close();
        await touchy.await("open");
        await serve.cli("close", "default", touchy.gateway.conn, "--code", "4002");
        await touchy.await("close");
        assert.equal(touchy.count("open"), 1);
        // A restart of the gateway.
        await kick("--code", "1012");
        await seen.await("open", 3);
        // 1000 is the end.
        await kick("--reason", "done");
        const end = await seen.await("close");
        assert.deepEqual([end.code, end.reason, end.wasClean], [1000, "done", true]);
        assert.equal(gateway.readyState, 3);
        gateway.send("ignored, as by a WebSocket");
        gateway.close();
        assert.deepEqual([seen.count("open"), seen.count("close")], [3, 1]);
      }));

    it(`${transport}: what was sent before close() still goes out`, () =>
      scene({ args: KEPT.slice(0, 2), proxy: BEHIND[transport] }, async ({ serve, seen, gateway, open }) => {
        await connected({ seen, gateway }, transport);
        const other = open(serve.url);
        await other.await("open");
        for (let n = 0; n < 200; n++) gateway.send(n % 9 ? `${n}` : `${n}\n`);
        gateway.close(4005, "enough");
        const { code, reason } = await seen.await("close");
        assert.deepEqual([code, reason], [4005, "enough"]);
        await other.gets(200);
        assert.deepEqual(other.got.map((data) => parseInt(data)), [...Array(200).keys()]);
      }));

    it(`${transport}: channels, joins and presence`, () =>
      scene({
        args: ["--channels", "path", "--allow-channels", "*", "--presence", "*", "--route", "channels", "--history", "10"],
        listener: ["jq", "-c", "--unbuffered", "-f", path.join(ROOT, "examples/rooms.jq")],
        proxy: BEHIND[transport], path: "/lobby",
      }, async ({ seen, gateway, open }) => {
        await connected({ seen, gateway }, transport);
        assert.deepEqual(gateway.channels, ["lobby"]);
        const other = open();
        const { channel, conn, members } = await seen.await("join");
        await other.await("open");
        assert.deepEqual({ channel, conn, members }, { channel: "lobby", conn: other.gateway.conn, members: 2 });
        other.gateway.send("hi");
        assert.equal((await seen.await("message")).channel, "lobby");
        other.gateway.close();
        assert.equal((await seen.await("leave")).members, 1);
        gateway.send("/join garden");
        assert.deepEqual((await seen.await("joined")).channels, ["garden"]);
      }));
  }

  it("without a history it says that it cannot know what was missed", () =>
    scene({ args: [] }, async ({ proxy, seen, gateway }) => {
      await connected({ seen, gateway }, "websocket");
      assert.equal(gateway.at, undefined);
      proxy.cutAll();
      assert.equal((await seen.await("recovered")).recovered, false);
      assert.equal(seen.count("open"), 2);
    }));

  it("a refusal is told, and tried again", () =>
    scene({ args: ["--path", "/chat"] }, async ({ seen, gateway }) => {
      const { code, reason } = await seen.await("error", 2);
      assert.equal(code, 1006);
      assert.match(reason, /^404 /);
      assert.equal(gateway.readyState, 0);
      assert.equal(seen.count("open"), 0);
      gateway.close();
      assert.equal((await seen.await("close")).code, 1005);
    }));

  it("polls are refused where there is onHandshake", () =>
    scene({ args: ["--history", "9", "--hooks", "onHandshake"], listener: ["cat"], proxy: BEHIND.poll },
      async ({ seen, proxy }) => {
        await seen.await("error");
        assert.equal(seen.count("open"), 0);
        assert.deepEqual(proxy.asked.map(({ url }) => /stream=(\w+)/.exec(url)?.[1]).slice(0, 3), [undefined, "sse", "poll"]);
      }));

  it("a POST that is too long ends the connection with 1009", () =>
    scene({ args: ["--max-message", "1000", "--history", "9"], proxy: BEHIND.sse }, async ({ seen, gateway }) => {
      await connected({ seen, gateway }, "sse");
      gateway.send("short");
      gateway.send("x".repeat(2000));
      const { code, reason } = await seen.await("error");
      assert.equal(code, 1009);
      assert.match(reason, /^413 /);
      await seen.await("open", 2);
      gateway.send("short again");
      await until(() => seen.got.at(-1) === "short again", () => brief(seen));
      assert.deepEqual(seen.got, ["short", "short again"]);
    }));
});
