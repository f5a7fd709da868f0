// Requests to the control port that this page came from. The session's cookie goes with them.

/** Why a request was not answered with what was asked for. */
export class Problem extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const SILENT = "wsgw serve does not answer. It may have been stopped.";

async function ask(path, { method = "GET", body, signal } = {}) {
  // No page of another origin can send this header without a permission that the port never gives.
  const headers = method === "GET" ? {} : { "X-Wsgw": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body, signal, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "gone", SILENT);
  }
  if (response.ok) return response;
  let told = {};
  try {
    told = (await response.json()).error ?? {};
  } catch {
    // Not from this API; the status has to do.
  }
  throw new Problem(response.status, told.code ?? "failed", told.message ?? `The answer has HTTP status ${response.status}.`);
}

/** An answer in JSON, and its headers. */
export async function call(path, options) {
  const response = await ask(path, options);
  const answer = await response.text();
  try {
    return { data: JSON.parse(answer), headers: response.headers };
  } catch {
    throw new Problem(response.status, "failed", "The answer is not JSON, so it does not come from wsgw.");
  }
}

/** An answer of JSON lines. */
export async function callLines(path, options) {
  const answer = await (await ask(path, options)).text();
  return answer.split("\n").filter(Boolean).map((line) => JSON.parse(line));
}

/**
 * Reads a stream of server-sent events until it ends, or until nothing has come for `patience`
 * milliseconds (0: for ever). `take` gets what each of them says.
 */
export async function events(path, { signal, patience = 0, opened }, take) {
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  let timer;
  const alive = () => {
    clearTimeout(timer);
    if (patience) timer = setTimeout(() => stop.abort(), patience);
  };
  alive();
  try {
    const response = await ask(path, { signal: both });
    opened?.();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5));
        if (data.length) take(JSON.parse(data.join("\n")));
      }
    }
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Problem) throw error;
    throw new Problem(0, "gone", SILENT);
  } finally {
    clearTimeout(timer);
  }
}

/** The path of a gateway, or below it. */
export const at = (id, ...rest) => ["/v1/gateways", id, ...rest].map((part, n) => (n ? encodeURIComponent(part) : part)).join("/");
