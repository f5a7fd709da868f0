// The two WebSocket clients that Node programs use.
"use strict";

const assert = require("node:assert/strict");
const path = require("node:path");
const test = require("node:test");
const { WebSocket: Undici } = require("undici");
const { WebSocket: Ws } = require("ws");
const { ROOT, Serve, Inbox } = require("../harness.cjs");

/** Both have the browser's interface. */
function open(Kind, url, protocols) {
  const socket = new Kind(url, protocols ?? []);
  socket.binaryType = "arraybuffer";
  const inbox = new Inbox();
  socket.addEventListener("message", ({ data }) =>
    inbox.push(typeof data === "string" ? data : Buffer.from(data)),
  );
  const closed = new Promise((resolve) =>
    socket.addEventListener("close", ({ code, reason, wasClean }) =>
      resolve({ code, reason, wasClean }),
    ),
  );
  return new Promise((resolve, reject) => {
    socket.addEventListener("open", () => resolve({ socket, inbox, closed }));
    socket.addEventListener("error", (event) => reject(event.error ?? new Error("refused")));
  });
}

for (const [name, Kind] of [["ws", Ws], ["undici", Undici]]) {
  for (const compression of ["off", "shared"]) test(`${name}: text, binary, sizes, order, compression ${compression}`, async () => {
    const serve = await Serve.start(["--compression", compression], ["cat"]);
    try {
      const [a, b] = [await open(Kind, serve.url), await open(Kind, serve.url)];
      assert.equal(a.socket.extensions.startsWith("permessage-deflate"), compression === "shared");
      await serve.connections(2);
      for (const text of ["hi", "", "ä\u0000\u{1f600}", "x".repeat(125), "y".repeat(70_000), "z".repeat(200_000)]) {
        a.socket.send(text);
        assert.equal(await a.inbox.next(), text);
        assert.equal(await b.inbox.next(), text);
      }
      const binary = Buffer.from([...Array(256).keys()]);
      b.socket.send(binary);
      assert.deepEqual(await a.inbox.next(), binary);
      assert.deepEqual(await b.inbox.next(), binary);
      for (let n = 0; n < 500; n++) a.socket.send(String(n));
      for (let n = 0; n < 500; n++) assert.equal(await b.inbox.next(), String(n));
      a.socket.close();
      b.socket.close();
    } finally {
      await serve.stop();
    }
  });

  test(`${name}: closes from either side`, async () => {
    const serve = await Serve.start([]);
    try {
      const [a, b] = [await open(Kind, serve.url), await open(Kind, serve.url)];
      a.socket.close(4001, "my own");
      const { code, wasClean } = await a.closed;
      assert.deepEqual({ code, wasClean }, { code: 4001, wasClean: true });
      await serve.connections(1);
      const [{ conn }] = JSON.parse(await serve.cli("connections", "default", "--json"));
      await serve.cli("close", "default", conn, "--code", "4002", "--reason", "yours");
      assert.deepEqual(await b.closed, { code: 4002, reason: "yours", wasClean: true });
      const c = await open(Kind, serve.url);
      await serve.cli("stop", "default");
      assert.equal((await c.closed).code, 1001);
    } finally {
      await serve.stop();
    }
  });

  test(`${name}: subprotocols and a refusal`, async () => {
    const serve = await Serve.start(["--path", "/chat", "--protocol", "json"]);
    try {
      const a = await open(Kind, `${serve.url}/chat`, ["xml", "json"]);
      assert.equal(a.socket.protocol, "json");
      a.socket.close();
      await assert.rejects(open(Kind, `${serve.url}/other`));
      // Without a list the first that is offered is taken.
      const free = await Serve.start([]);
      const b = await open(Kind, free.url, ["json", "xml"]);
      assert.equal(b.socket.protocol, "json");
      b.socket.close();
      await free.stop();
    } finally {
      await serve.stop();
    }
  });
}

test("ws: a ping is answered with its payload", async () => {
  const serve = await Serve.start([]);
  try {
    const a = await open(Ws, serve.url);
    const pong = new Promise((resolve) => a.socket.on("pong", (data) => resolve(String(data))));
    a.socket.ping("there?");
    assert.equal(await pong, "there?");
    a.socket.close();
  } finally {
    await serve.stop();
  }
});

test("ws: compression is offered and not agreed to", async () => {
  const serve = await Serve.start([]);
  try {
    const socket = new Ws(serve.url, { perMessageDeflate: true });
    await new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject));
    assert.equal(socket.extensions, "");
    socket.close();
  } finally {
    await serve.stop();
  }
});

test("a listener in Node", async () => {
  const serve = await Serve.start([], ["node", path.join(ROOT, "examples/upper.js")]);
  try {
    const a = await open(Ws, serve.url);
    a.socket.send("loud");
    assert.equal(await a.inbox.next(), "LOUD");
    a.socket.close();
  } finally {
    await serve.stop();
  }
});
