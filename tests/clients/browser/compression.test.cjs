// Chromium offers permessage-deflate with every WebSocket.
"use strict";

const assert = require("node:assert/strict");
const path = require("node:path");
const test = require("node:test");
const { chromium } = require("./chromium.cjs");
const { ROOT, Serve, pageServer } = require("../harness.cjs");

for (const compression of ["off", "shared"]) test(`text and binary of all sizes come back, compression ${compression}`, async () => {
  const serve = await Serve.start(["--route", "sender", "--compression", compression]);
  const page = await pageServer(path.join(ROOT, "examples/chat/index.html"));
  const browser = await chromium();
  try {
    const tab = await browser.newPage();
    await tab.goto(page.url);
    const { extensions, wrong, count } = await tab.evaluate(async (url) => {
      const socket = new WebSocket(url);
      socket.binaryType = "arraybuffer";
      await new Promise((open, fail) => Object.assign(socket, { onopen: open, onerror: fail }));
      const echoed = (message) =>
        new Promise((resolve) => {
          socket.onmessage = ({ data }) => resolve(data);
          socket.send(message);
        });
      let [wrong, count] = [[], 0];
      for (const size of [0, 1, 255, 256, 1000, 70_000, 900_000]) {
        const text = "grün {\"n\":1} ".repeat(size / 12).slice(0, size);
        if ((await echoed(text)) !== text) wrong.push(`text of ${size}`);
        const bytes = Uint8Array.from({ length: size }, (_, i) => (i * i) % 251);
        const back = new Uint8Array(await echoed(bytes));
        if (back.length !== size || back.some((byte, i) => byte !== bytes[i])) wrong.push(`binary of ${size}`);
        count += 2;
      }
      return { extensions: socket.extensions, wrong, count };
    }, serve.url);
    assert.equal(extensions.startsWith("permessage-deflate"), compression === "shared");
    assert.deepEqual(wrong, []);
    assert.equal(count, 14);
  } finally {
    await browser.close();
    await page.close();
    await serve.stop();
  }
});
