// Starts `wsgw serve` with directories of its own, and ends it.
"use strict";

const { spawn, execFile } = require("node:child_process");
const fs = require("node:fs");
const http = require("node:http");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const { promisify } = require("node:util");

const ROOT = path.resolve(__dirname, "../..");
const WSGW = process.env.WSGW_BIN ?? path.join(ROOT, "target/debug/wsgw");
const PATIENCE = 20_000;

/** The first true value of `check`, polled until the deadline. */
async function until(check, what, patience = PATIENCE) {
  const deadline = Date.now() + patience;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited in vain for ${typeof what === "function" ? what() : what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

class Serve {
  /** With a `port` it comes back at the same place when it is restarted, and so it does with a `control`. */
  static async start(args, listener = [], port = 0, control = "127.0.0.1:0") {
    const serve = new Serve();
    serve.dir = fs.mkdtempSync(path.join(os.tmpdir(), "wsgw-node-"));
    serve.env = {
      ...process.env,
      HOME: serve.dir,
      XDG_STATE_HOME: path.join(serve.dir, "state"),
      XDG_CONFIG_HOME: path.join(serve.dir, "config"),
    };
    for (const name of ["WSGW_CONTROL", "WSGW_TOKEN", "WSGW_GATEWAY", "STATE_DIRECTORY"]) {
      delete serve.env[name];
    }
    const tail = listener.length ? ["--", ...listener] : [];
    const all = ["serve", "--port", port, "--control", control, ...args, ...tail];
    serve.child = spawn(WSGW, all, { env: serve.env, stdio: ["ignore", "pipe", "pipe"] });
    serve.out = "";
    serve.err = "";
    serve.child.stdout.on("data", (data) => (serve.out += data));
    serve.child.stderr.on("data", (data) => (serve.err += data));
    serve.ended = new Promise((resolve) => serve.child.on("exit", resolve));
    await until(() => /control listening on \S+\n/.test(serve.out), () => `serve: ${serve.err}`);
    serve.url = /gateway \S+ listening on (\S+)\n/.exec(serve.out)[1];
    serve.control = /control listening on (\S+)\n/.exec(serve.out)[1];
    return serve;
  }

  /** Runs `wsgw ARGS`; what it prints. */
  async cli(...args) {
    const run = promisify(execFile);
    const { stdout } = await run(WSGW, args, { env: this.env, timeout: PATIENCE });
    return stdout;
  }

  async status() {
    return JSON.parse(await this.cli("status", "default", "--json"));
  }

  async connections(count) {
    return until(async () => (await this.status()).connections === count, `${count} connections`);
  }

  async stop() {
    this.child.kill("SIGTERM");
    const code = await this.ended;
    fs.rmSync(this.dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
    if (code !== 0) throw new Error(`serve ended with ${code}: ${this.err}`);
  }
}

/** A queue of messages that can be waited for. */
class Inbox {
  constructor() {
    this.messages = [];
  }

  push(message) {
    this.messages.push(message);
  }

  async next(patience = PATIENCE) {
    await until(() => this.messages.length, "a message", patience);
    return this.messages.shift();
  }

  /** Waits for this one; what comes before it is thrown away. */
  async find(wanted) {
    for (;;) if ((await this.next()) === wanted) return wanted;
  }
}

/** A port of this machine that nobody has. */
function freePort() {
  return new Promise((resolve) => {
    const probe = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

/** Serves one file over HTTP on a loopback address, for a page has to come from somewhere. */
function pageServer(file) {
  const server = http.createServer((_, response) => {
    response.setHeader("Content-Type", "text/html; charset=utf-8");
    response.end(fs.readFileSync(file));
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () =>
      resolve({ url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() }),
    );
  });
}

module.exports = { ROOT, WSGW, Serve, Inbox, freePort, pageServer, until };
