// What is known: the newest event of `/v1/watch`, the last two minutes of it, and the log.

import { Problem, events } from "./api.js";

export const KEPT = 120; // seconds that the lines show
const LOG = 1000;
const SILENCE = 6000; // the stream has an event each second
const PAUSES = [1000, 2000, 4000, 5000];

export class Live {
  constructor() {
    /** `connecting`, `live`, `lost`, `ended` (the session) or `paused`. */
    this.state = "connecting";
    this.watch = null;
    this.past = new Map();
    this.log = [];
    this.lost = 0; // lines of the log that were never shown
    this.listeners = new Set();
    this.running = null;
  }

  /** Calls `listener(kind)` with `state`, or with `watch` for each event. */
  listen(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  tell(kind) {
    for (const listener of [...this.listeners]) listener(kind);
  }

  set(state) {
    if (this.state === state) return;
    this.state = state;
    this.tell("state");
  }

  start() {
    if (this.running) return;
    this.running = new AbortController();
    if (this.state === "paused") this.set("connecting");
    this.run(this.running.signal);
  }

  /** Ends the stream; `serve` then computes nothing for this page. */
  stop(state) {
    this.running?.abort();
    this.running = null;
    if (state) this.set(state);
  }

  async run(signal) {
    for (let tries = 0; !signal.aborted; tries += 1) {
      let first = true;
      try {
        await events("/v1/watch", { signal, patience: SILENCE }, (event) => {
          this.take(event, first);
          first = false;
          tries = 0;
        });
        if (!signal.aborted) this.set("lost");
      } catch (problem) {
        if (!(problem instanceof Problem)) throw problem;
        this.set([401, 403].includes(problem.status) ? "ended" : "lost");
      }
      if (signal.aborted) return;
      await new Promise((resolve) => setTimeout(resolve, PAUSES[Math.min(tries, PAUSES.length - 1)]));
    }
  }

  take(event, first) {
    if (this.watch && (this.watch.pid !== event.pid || this.watch.since !== event.since)) this.past.clear();
    this.gap(event);
    this.watch = event;
    this.keepLog(event, first);
    const sum = { connections: 0, messages_in: 0, messages_out: 0, opened: 0 };
    for (const gateway of event.gateways) {
      const point = { connections: gateway.connections, ...gateway.rates };
      for (const key of Object.keys(sum)) sum[key] += point[key];
      this.keep(gateway.id, point);
    }
    this.keep("", sum);
    for (const id of this.past.keys()) {
      if (id && !event.gateways.some((gateway) => gateway.id === id)) this.past.delete(id);
    }
    this.set("live");
    this.tell("watch");
  }

  /** The seconds in which nobody looked are gaps in the lines. */
  gap(event) {
    if (!this.watch) return;
    const missed = Math.round((Date.parse(event.time) - Date.parse(this.watch.time)) / 1000) - 1;
    for (let n = 0; n < Math.min(missed, KEPT); n += 1) for (const id of this.past.keys()) this.keep(id, null);
  }

  keep(id, point) {
    const points = this.past.get(id) ?? [];
    points.push(point);
    if (points.length > KEPT) points.shift();
    this.past.set(id, points);
  }

  /** The last values of one figure of a gateway; of all of them with an empty id. */
  line(id, key) {
    return (this.past.get(id) ?? []).map((point) => point?.[key] ?? null);
  }

  /** The first event of a stream has the newest lines again: they are joined where they meet. */
  keepLog(event, first) {
    let fresh = event.log;
    if (first && this.log.length) {
      const met = fresh.lastIndexOf(this.log.at(-1));
      if (met >= 0) fresh = fresh.slice(met + 1);
      else if (fresh.length) this.lost += 1;
    }
    this.lost += first ? 0 : event.log_skipped;
    this.log.push(...fresh);
    if (this.log.length > LOG) this.log.splice(0, this.log.length - LOG);
    this.fresh = fresh;
  }

  /** What a request has told of a gateway, ahead of the next event. */
  learn(status) {
    const known = this.gateway(status?.id);
    if (!known) return;
    Object.assign(known, status);
    this.tell("learnt");
  }

  gateway(id) {
    return this.watch?.gateways.find((gateway) => gateway.id === id) ?? null;
  }
}
