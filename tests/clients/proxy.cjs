// A proxy like the bad ones that some users are behind. It can refuse upgrades or leave them without an
// answer, hold answers back, cut connections at random, and be down. It also keeps the heads of what
// it was asked, and the status of the answer.
"use strict";

const http = require("node:http");
const net = require("node:net");

/** Random numbers from 0 to 1 that are the same in each run (mulberry32). */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * What a proxy does to its clients:
 * - `upgrades`: `pass` (default), `refuse` (502 at once) or `swallow` (no answer, ever)
 * - `hold`: an answer is passed on when so many bytes of it are there, or all of it; 0 (default): at once
 * - `cut`: `{ seed, least, most }`: each connection is cut after a random number of bytes to the client
 */
class Proxy {
  static async start(target, { upgrades = "pass", hold = 0, cut } = {}) {
    const proxy = new Proxy();
    Object.assign(proxy, { upgrades, hold, down: false, cuts: 0, asked: [], sockets: new Set() });
    proxy.target = new URL(target.replace(/^ws/, "http"));
    const next = cut && random(cut.seed);
    proxy.budget = () => (cut ? cut.least + Math.floor(next() * (cut.most - cut.least)) : Infinity);
    proxy.server = http.createServer((request, response) => proxy.#pass(request, response));
    proxy.server.on("upgrade", (request, socket, head) => proxy.#tunnel(request, socket, head));
    proxy.server.on("connection", (socket) => proxy.#keep(socket));
    await new Promise((resolve) => proxy.server.listen(0, "127.0.0.1", resolve));
    proxy.port = proxy.server.address().port;
    proxy.url = `ws://127.0.0.1:${proxy.port}`;
    return proxy;
  }

  #keep(socket) {
    if (this.down) return socket.destroy();
    socket.budget = this.budget();
    this.sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.sockets.delete(socket));
  }

  /** Writes to a client as long as its connection may live, and then cuts it. */
  #write(socket, out, data) {
    const most = socket.budget;
    socket.budget -= data.length;
    if (data.length <= most) return out.write(data);
    this.cuts++;
    out.write(data.subarray(0, most), () => socket.destroy());
  }

  #note({ method, url, headers }) {
    this.asked.push({ method, url, headers });
    return this.asked.at(-1);
  }

  #pass(request, response) {
    const asked = this.#note(request);
    const { method, url: path, headers, socket } = request;
    const { hostname: host, port } = this.target;
    const onward = http.request({ host, port, method, path, headers, agent: false }, (answer) => {
      const held = [];
      let size = 0;
      asked.status = answer.statusCode;
      response.writeHead(answer.statusCode, answer.headers);
      if (!this.hold) response.flushHeaders();
      const flush = () => {
        for (const data of held.splice(0)) this.#write(socket, response, data);
        size = 0;
      };
      answer.on("data", (data) => {
        held.push(data);
        size += data.length;
        if (size >= this.hold) flush();
      });
      answer.on("end", () => { flush(); response.end(); });
      answer.on("error", () => socket.destroy());
    });
    onward.on("error", () => socket.destroy());
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  }

  #tunnel(request, socket, head) {
    this.#note(request);
    if (this.upgrades === "swallow") return;
    if (this.upgrades === "refuse")
      return socket.end("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    const onward = net.connect(this.target.port, this.target.hostname, () => {
      const { rawHeaders: raw } = request;
      const lines = raw.flatMap((name, n) => (n % 2 ? [] : [`${name}: ${raw[n + 1]}\r\n`]));
      onward.write(`${request.method} ${request.url} HTTP/1.1\r\n${lines.join("")}\r\n`);
      onward.write(head);
      socket.pipe(onward);
      onward.on("data", (data) => this.#write(socket, socket, data));
      onward.on("end", () => socket.end());
    });
    onward.on("error", () => socket.destroy());
    socket.on("close", () => onward.destroy());
  }

  /** Cuts all connections that there are. */
  cutAll() {
    for (const socket of this.sockets) socket.destroy();
  }

  close() {
    this.cutAll();
    return new Promise((resolve) => this.server.close(resolve));
  }
}

module.exports = { Proxy, random };
