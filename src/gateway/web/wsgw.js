// A connection to a wsgw gateway that stays: it reconnects, goes on where it was, and uses plain HTTP where a proxy
// lets no WebSocket through. For browsers and Node, without dependencies. wsgw.d.ts describes what it offers.
const CONNECTING = 0, OPEN = 1, CLOSING = 2, CLOSED = 3;
const SILENCE = 45_000, LONG_POLL = 40_000; // the gateway writes to a stream each 15 s, and answers a poll within 25 s
const SHORT_LIFE = 5_000, MINUTE = 60_000; // a transport that fails, or is cut so soon again, comes last for a while
const broken = (reason, code = 1006) => ({ code, reason, wasClean: false });
// What stands between separators in a body, as soon as it is there.
async function* pieces(body, separator) {
  for (let reader = body.getReader(), decoder = new TextDecoder(), rest = ""; ;) {
    const { done, value } = await reader.read();
    if (done) return;
    const found = (rest + decoder.decode(value, { stream: true })).split(separator);
    rest = found.pop();
    yield* found;
  }
}

export class Gateway extends EventTarget {
  readyState = CONNECTING; binaryType = "blob";
  transport; conn; channels = []; at; recovered; // what the gateway said last
  #since; // what to ask for: at first what the user wants, then the position
  #link; // the connection that there is, or a try, or a pause between tries
  #avoid = {}; #end; #forFetch; // until when a transport comes last; what close() was told; options of fetch

  constructor(url, { since, withCredentials = false, minDelay = 1000, maxDelay = 30_000, timeout = 3000 } = {}) {
    super();
    const full = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
    full.protocol = full.protocol.replace("http", "ws");
    if (!/^wss?:$/.test(full.protocol)) throw new DOMException(`not a ws: or http: URL: ${url}`, "SyntaxError");
    this.url = full.href.replace(/#.*/, "");
    this.#forFetch = { cache: "no-store", credentials: withCredentials ? "include" : "same-origin" };
    this.#since = since?.toString() ?? full.searchParams.get("since");
    this.#run(minDelay, maxDelay, timeout);
  }

  get canSend() { return this.readyState === OPEN && !!this.#link.opened && !!this.#link.send; }
  send(data) {
    if (this.readyState >= CLOSING) return; // as a WebSocket does
    if (!this.canSend) throw new DOMException("there is no connection that can send", "InvalidStateError");
    this.#link.send(data);
  }
  close(code, reason = "") {
    if (this.readyState >= CLOSING) return;
    this.#link.watch(SILENCE);
    this.#link.close(...(code === undefined ? [] : [code, reason])); // a WebSocket throws if the code is not allowed
    this.#end = { code: code ?? 1005, reason, wasClean: true };
    this.readyState = CLOSING;
  }

  // Rounds through the transports, the best first, until close() or a close with 1000.
  async #run(minDelay, maxDelay, timeout) {
    let end = {}, tries = 0;
    while (!this.#end && end.code !== 1000) {
      end = {};
      const avoided = (name) => Math.max(0, this.#avoid[name] - performance.now()) || 0;
      for (const name of ["websocket", "sse", "poll"].sort((a, b) => avoided(a) - avoided(b))) {
        const next = await this.#attempt(name, timeout * 2 ** Math.min(tries, 3));
        const cut = next.code === 1006 && next.lived < SHORT_LIFE && (tries || !next.lived);
        if (next.late || cut) this.#avoid[name] = performance.now() + (next.lived ? MINUTE / 2 : MINUTE);
        if (next.lived || !end.reason) end = next;
        if (next.lived || this.#end) break;
      }
      if (end.again || end.code === 1000 || this.#end) continue;
      if (end.lived > SHORT_LIFE) tries = 0;
      this.readyState = CONNECTING;
      this.#fire("error", { code: end.code, reason: end.reason });
      if (!this.#end) await this.#attempt("pause", Math.min(minDelay * 2 ** tries++, maxDelay) * (0.5 + Math.random()));
    }
    const { code, reason, wasClean } = this.#end ?? end;
    this.readyState = CLOSED;
    this.#fire("close", { code, reason, wasClean });
  }

  // One transport, from the request to the end of the connection; how that ended. Or a pause, which close() ends too.
  async #attempt(transport, patience) {
    const control = new AbortController(), link = this.#link = { transport, signal: control.signal, queue: [] };
    link.stop = (why = broken("")) => { link.end ??= why; control.abort(); };
    link.close = () => link.stop();
    link.watch = (ms) => {
      if (ms && (this.#end || link.end)) return; // close() has set a time, or it is over
      clearTimeout(link.timer);
      if (ms) link.timer = setTimeout(() => { link.late = true; link.stop(broken("nothing came in time")); }, ms);
    };
    link.watch(patience);
    const pause = ({ signal }) => new Promise((resolve) => { signal.onabort = () => resolve({}); });
    const run = { websocket: this.#websocket, sse: this.#sse, poll: this.#poll, pause }[transport];
    const end = await run.call(this, link).catch((error) => link.end ?? broken(error.message));
    link.watch();
    link.stop();
    const lived = link.opened ? performance.now() - link.opened + 1 : 0;
    return { ...end, lived, late: link.late };
  }

  #websocket = (link) => new Promise((resolve) => {
    const socket = new WebSocket(this.#address("ws", { since: this.#since }), "wsgw.v1");
    link.send = (data) => socket.send(data);
    link.close = (...args) => socket.close(...args);
    link.signal.onabort = () => { resolve(link.end); socket.close(); };
    socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean });
    socket.onmessage = ({ data }) => { try { this.#receive(link, data); } catch { link.stop(broken("not wsgw.v1")); } };
  });

  async #sse(link) {
    link.send = (data) => {
      const text = !(data instanceof Blob || data instanceof ArrayBuffer || ArrayBuffer.isView(data));
      const body = new Blob([text ? String(data) : data], { type: text ? "text/plain" : "application/octet-stream" });
      link.queue.push({ body, line: text && /^[^\r\n]+$/.test(data) });
      link.posting ??= this.#post(link).catch((error) => link.stop(broken(error.message, error.code)));
    };
    link.close = async () => { await link.posting; link.stop(); }; // what was sent before close() still goes out
    // `pad` is for filters that hold back the first bytes of an answer.
    const { body } = await this.#fetch(link, { stream: "sse", since: this.#since, pad: 2048 });
    for await (const event of pieces(body, "\n\n")) {
      const data = /^data: ?(.*)$/m.exec(event)?.[1];
      if (/^event: ?close$/m.test(event)) return { wasClean: true, ...JSON.parse(data) };
      if (data) this.#receive(link, data);
      if (link.opened) link.watch(SILENCE);
    }
    return broken("the stream ended");
  }

  async #post(link) { // one POST at a time keeps the order; lines that wait go together
    for (const { queue } = link; queue.length;) {
      let count = 1, size = queue[0].body.size;
      while (queue[0].line && queue[count]?.line && size < 65536) size += queue[count++].body.size;
      const lines = queue.slice(0, count).flatMap(({ body }) => [body, "\n"]);
      const body = count > 1 ? new Blob(lines, { type: "application/x-ndjson" }) : queue[0].body;
      const answer = await this.#fetch(link, {}, { method: "POST", body, headers: { "X-Wsgw-Post": link.token } }, 429);
      queue.splice(0, answer.ok ? count : Number(/taken: (\d+)/.exec(await answer.text())?.[1] ?? 0));
      if (!answer.ok) await new Promise((resolve) => setTimeout(resolve, 1000)); // too many: the rest has to wait
    }
    link.posting = undefined;
  }

  async #poll(link) { // the first answer, a hello, shows that polls work; what was missed is asked for then
    const ask = (since) => this.#fetch(link, { stream: "poll", since }, {}, 410);
    const greet = async () => (await (await ask()).text()).trim().split("\n").map((line) => JSON.parse(line));
    const since = this.#since, [first, ...newest] = await greet();
    this.#receive(link, { ...first, at: since ? undefined : first.at, since });
    for (const frame of since ? [] : newest) this.#receive(link, frame);
    for (let told = link.again || !since?.includes("-"); link.opened + MINUTE > performance.now(); told = true) {
      link.watch(LONG_POLL);
      const answer = await ask(this.#since), gone = answer.status === 410;
      const [{ at }, ...more] = gone ? await greet() : [{}];
      if (gone || !told) this.#receive(link, { at, recovered: !gone });
      for (const frame of more) this.#receive(link, frame);
      if (answer.status === 204) this.#receive(link, { at: answer.headers.get("X-Wsgw-At") });
      if (answer.status === 200) for await (const line of pieces(answer.body, "\n")) this.#receive(link, line);
    }
    return { ...broken("no hello"), again: !!link.opened }; // there may be something better than polls by now
  }

  #address(scheme, query) {
    const url = new URL(this.url);
    url.protocol = url.protocol.replace("ws", scheme);
    const own = url.search.slice(1).split("&").filter((part) => part && !/^(since|stream|pad)=/.test(part));
    const asked = Object.entries(query).filter(([, value]) => value);
    url.search = [...own, ...asked.map(([key, value]) => `${key}=${encodeURIComponent(value)}`)].join("&");
    return url;
  }

  async #fetch({ signal }, query, init, taken) {
    const answer = await fetch(this.#address("http", query), { ...this.#forFetch, signal, ...init });
    if (answer.ok || answer.status === taken) return answer;
    const reason = `${answer.status} ${(await answer.text()).trim().slice(0, 200)}`;
    throw Object.assign(new Error(reason), { code: answer.status === 413 ? 1009 : 1006 });
  }

  // A frame, or its text: what it changes here, and the events that tell of it.
  #receive(link, given) {
    if (link.signal.aborted || this.#end) return;
    const frame = typeof given === "string" ? JSON.parse(given) : given;
    const { hello, message, base64, joined, channel, channels, at, conn, members } = frame;
    if (hello && !this.#since && this.transport) frame.recovered ??= false; // nobody knows what was missed
    if (at || (hello && !frame.since)) this.at = this.#since = at;
    if (hello) {
      link.again = this.readyState === OPEN && this.transport === link.transport; // polls that go on
      Object.assign(link, { opened: performance.now(), token: frame.post });
      Object.assign(this, { readyState: OPEN, transport: link.transport, conn, channels: channels ?? [] });
      link.watch();
      if (!link.again) this.#fire("open");
    }
    if (message !== undefined) this.#fire("message", { data: message, channel, at });
    if (base64 !== undefined) {
      const { buffer } = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
      this.#fire("message", { data: this.binaryType === "blob" ? new Blob([buffer]) : buffer, channel, at });
    }
    if (joined) this.#fire("joined", { channels: joined, at });
    for (const type of ["join", "leave"]) if (frame[type]) this.#fire(type, { channel: frame[type], conn, members });
    if (frame.recovered !== undefined) this.#fire("recovered", { recovered: (this.recovered = frame.recovered) });
  }

  #fire(type, fields) {
    if (this[`on${type}`]) this.addEventListener(type, this[`on${type}`], { once: true });
    this.dispatchEvent(Object.assign(new Event(type), fields));
  }
}

for (const one of [Gateway, Gateway.prototype]) Object.assign(one, { CONNECTING, OPEN, CLOSING, CLOSED });
export default Gateway;
