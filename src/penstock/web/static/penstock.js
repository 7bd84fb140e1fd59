/**
 * Streams from a penstock server, for browsers and Node. No dependencies.
 *
 *   const penstock = new Penstock();
 *   for await (const event of penstock.chat({ messages })) show(event.text ?? "");
 *
 * Every stream is an async iterable of
 *   { type: "start", id }                   id names it in flow(), and a job in follow()
 *   { type: "token", seq, text, at }        at: performance.now() of its arrival, in ms
 *   { type: "end", reason, usage, figures } reason: stop, length, or cancelled
 * and throws a PenstockError for any other end. Leaving the loop, or aborting the signal, leaves the
 * server too, which then stops computing. A slow loop slows the server: over HTTP beyond the buffers on
 * the way, over a WebSocket exactly if it has credits or a window, over EventSource exactly if the job has a window.
 */

const SUBPROTOCOL = "penstock.v1";
const RETRY_MS = 1000;
const REQUEST_ID = "x-request-id";

export class PenstockError extends Error {
  /** `code` is the server's, or connection_lost; `retryAfter` is in seconds. */
  constructor(message, { code = "internal_error", status = 0, retryAfter = null } = {}) {
    super(message);
    this.name = "PenstockError";
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }

  static of(told, status = 0) {
    return new PenstockError(told.message, {
      code: told.code ?? told.type,
      status,
      retryAfter: told.retry_after ?? null,
    });
  }
}

export class Penstock {
  /** `base`: where the server is; the one this file came from if not given. */
  constructor({ base = new URL("..", import.meta.url).href, key = "" } = {}) {
    this.base = base;
    this.key = key;
  }

  /** POST /v1/chat/completions, streamed. */
  chat(body, options) {
    return this.#openai("v1/chat/completions", body, options, (choice) => choice.delta?.content);
  }

  /** POST /v1/completions, streamed. */
  complete(body, options) {
    return this.#openai("v1/completions", body, options, (choice) => choice.text);
  }

  /**
   * A generation over a WebSocket. With `credits`, no token comes that was not asked for by `pull`. With
   * `resumable: true` in the body another socket can `resume` it, and with a `window` too, no more events
   * are made than that ahead of `acknowledge`, whichever socket reads.
   */
  socket(body, { credits = null, signal } = {}) {
    return new SocketStream(this.#socketUrl(), this.#protocols(), { type: "start", ...body, credits }, signal);
  }

  /** A job, read over a WebSocket from behind event `after`. */
  resume(jobId, { after = 0, credits = null, signal } = {}) {
    const message = { type: "resume", job_id: jobId, after, credits };
    return new SocketStream(this.#socketUrl(), this.#protocols(), message, signal);
  }

  /** POST /v1/jobs; gives the job's id. The same key and body give the same job. */
  async submit(body, { idempotencyKey, signal } = {}) {
    const headers = idempotencyKey ? { "idempotency-key": idempotencyKey } : {};
    return (await this.#json("POST", "v1/jobs", { body, headers, signal })).job_id;
  }

  /** A job's events from behind `after`, through lost connections: each appears once. */
  follow(jobId, { after = 0, signal } = {}) {
    const native = globalThis.EventSource && !this.key;
    const source = native ? followNatively : followByFetch;
    return source(this, `v1/stream?job_id=${encodeURIComponent(jobId)}`, jobId, after, signal);
  }

  /** Events up to `id` have arrived: a job with a window goes on. */
  acknowledge(jobId, id) {
    return this.#json("POST", `v1/jobs/${encodeURIComponent(jobId)}/ack`, { body: { id } });
  }

  cancel(jobId) {
    return this.#json("POST", `v1/jobs/${encodeURIComponent(jobId)}/cancel`);
  }

  job(jobId) {
    return this.#json("GET", `v1/jobs/${encodeURIComponent(jobId)}`);
  }

  /** How far the streams of these ids are, and what the decoder does. */
  flow(ids = [], { signal } = {}) {
    const query = new URLSearchParams(ids.map((id) => ["id", id]));
    return this.#json("GET", `v1/flow?${query}`, { signal });
  }

  async models() {
    return (await this.#json("GET", "v1/models")).data.map((model) => model.id);
  }

  /** A request with the key; throws what the server refuses. */
  async fetch(method, path, { body, headers = {}, signal } = {}) {
    const told = { ...headers };
    if (body !== undefined) told["content-type"] = "application/json";
    if (this.key) told.authorization = `Bearer ${this.key}`;
    const response = await fetch(new URL(path, this.base), {
      method,
      headers: told,
      signal,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (!response.ok) throw await refusal(response);
    return response;
  }

  async #json(method, path, given) {
    return (await this.fetch(method, path, given)).json();
  }

  async *#openai(path, body, { signal } = {}, textOf) {
    const asked = { ...body, stream: true, stream_options: { include_usage: true } };
    const response = await this.fetch("POST", path, { body: asked, signal });
    yield { type: "start", id: response.headers.get(REQUEST_ID) };
    const end = { type: "end", reason: null, usage: null, figures: null };
    let seq = 0;
    for await (const { data } of eventsOf(response)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw PenstockError.of(chunk.error);
      end.usage = chunk.usage ?? end.usage;
      for (const choice of chunk.choices) {
        const text = textOf(choice);
        if (text) yield { type: "token", seq: ++seq, text, at: performance.now() };
        end.reason = choice.finish_reason ?? end.reason;
      }
    }
    if (end.reason === null) throw lost();
    yield end;
  }

  #socketUrl() {
    return new URL("v1/ws", this.base).href.replace(/^http/, "ws");
  }

  #protocols() {
    return this.key ? [SUBPROTOCOL, `penstock.key.${base64url(this.key)}`] : [SUBPROTOCOL];
  }
}

/** One generation on a socket of its own. Iterate it once. */
class SocketStream {
  #socket;
  #queue = new Queue();
  #done = false;

  constructor(url, protocols, opening, signal) {
    this.received = 0;
    this.#socket = new WebSocket(url, protocols);
    this.#socket.onopen = () => this.#send(opening);
    this.#socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    const fail = ({ code }) => this.#queue.fail(lost(code));
    this.#socket.onclose = fail;
    this.#socket.onerror = fail; // all that Node tells of a socket that never opened
    const abort = () => {
      this.#queue.fail(signal.reason);
      this.close();
    };
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
  }

  /** Allow `count` more tokens. */
  pull(count = 1) {
    this.#send({ type: "pull", n: count });
  }

  /** Events up to `seq` have arrived: a generation with a window goes on. */
  acknowledge(seq) {
    this.#send({ type: "ack", seq });
  }

  /** Ask for the end, which still comes through the loop. */
  cancel() {
    this.#send({ type: "cancel" });
  }

  close() {
    // Browsers complain in the console of a socket that is closed before it has opened.
    if (this.#socket.readyState === 0) this.#socket.onopen = () => this.#socket.close(1000);
    else this.#socket.close(1000);
  }

  async *[Symbol.asyncIterator]() {
    try {
      for await (const event of this.#queue) {
        yield event;
        if (event.type === "end") return;
      }
    } finally {
      this.close();
    }
  }

  #take(message) {
    switch (message.type) {
      case "started":
        return this.#queue.push({ type: "start", id: message.job_id });
      case "token":
        this.received += 1;
        return this.#queue.push({ type: "token", seq: message.seq, text: message.text, at: performance.now() });
      case "complete":
        return this.#end(message.finish_reason, message.usage);
      case "cancelled":
        return this.#end("cancelled", null);
      case "error":
        this.#done = true;
        return this.#queue.fail(PenstockError.of(message.error));
    }
  }

  #end(reason, usage) {
    this.#done = true;
    this.#queue.push({ type: "end", reason, usage, figures: null });
  }

  #send(message) {
    if (!this.#done && this.#socket.readyState === 1) this.#socket.send(JSON.stringify(message));
  }
}

/** The browser's EventSource: it reconnects by itself, with the id of the last event. */
async function* followNatively(penstock, path, jobId, after, signal) {
  const queue = new Queue();
  const url = new URL(after ? `${path}&last_event_id=${after}` : path, penstock.base);
  const source = new EventSource(url);
  for (const name of ["token", "job_complete", "job_cancelled", "job_error"]) {
    source.addEventListener(name, (event) => queue.push(jobEvent(name, event.lastEventId, event.data)));
  }
  source.onerror = () => source.readyState === 2 && queue.fail(lost());
  const abort = () => queue.fail(signal.reason);
  signal?.addEventListener("abort", abort, { once: true });
  try {
    yield { type: "start", id: jobId };
    for await (const event of queue) {
      yield orThrow(event);
      if (event.type === "end") return;
    }
  } finally {
    source.close();
    signal?.removeEventListener("abort", abort);
  }
}

/** The same by hand, for where EventSource is missing or cannot carry a key. */
async function* followByFetch(penstock, path, jobId, after, signal) {
  yield { type: "start", id: jobId };
  for (;;) {
    try {
      const headers = { "last-event-id": String(after) };
      const response = await penstock.fetch("GET", path, { signal, headers });
      if (response.status === 204) throw lost();
      for await (const { name, id, data } of eventsOf(response)) {
        const event = jobEvent(name, id, data);
        after = event.seq;
        yield orThrow(event);
        if (event.type === "end") return;
      }
    } catch (error) {
      if (signal?.aborted || error instanceof PenstockError) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

function jobEvent(name, id, data) {
  const told = JSON.parse(data);
  const seq = Number(id);
  if (name === "token") return { type: "token", seq, text: told.text, at: performance.now() };
  const { figures = null, usage = null, error } = told;
  const reason = name === "job_cancelled" ? "cancelled" : (told.finish_reason ?? "error");
  return { type: "end", seq, reason, usage, figures, error };
}

function orThrow(event) {
  if (event.error) throw PenstockError.of(event.error);
  return event;
}

/** Server-sent events out of text that comes in any pieces. */
export class EventParser {
  #rest = "";
  #name = "";
  #id = "";
  #data = [];

  /** The events that `text` completes. */
  push(text) {
    const whole = this.#rest + text;
    // A CR at the end may be the first half of a CRLF.
    const end = whole.endsWith("\r") ? whole.length - 1 : whole.length;
    const lines = whole.slice(0, end).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() + whole.slice(end);
    return lines.flatMap((line) => this.#take(line));
  }

  #take(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#name = value;
    else if (field === "id") this.#id = value;
    return [];
  }

  #dispatch() {
    const event = { name: this.#name || "message", id: this.#id, data: this.#data.join("\n") };
    const empty = this.#data.length === 0;
    this.#name = "";
    this.#data = [];
    return empty ? [] : [event];
  }
}

/** Leaving this loop closes the response, and with it the generation. */
async function* eventsOf(response) {
  const parser = new EventParser();
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {}); // aborted ones reject here once more
  }
}

/** From callbacks to `for await`. What was pushed before a failure is still given. */
class Queue {
  #values = [];
  #error = null;
  #wake = () => {};

  push(value) {
    this.#values.push(value);
    this.#wake();
  }

  fail(error) {
    this.#error ??= error;
    this.#wake();
  }

  async *[Symbol.asyncIterator]() {
    for (;;) {
      while (this.#values.length) yield this.#values.shift();
      if (this.#error) throw this.#error;
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }
}

async function refusal(response) {
  const after = Number(response.headers.get("retry-after")) || null;
  const told = await response.json().catch(() => ({}));
  const error = told.error?.message ? told.error : { message: `the server said ${response.status}` };
  return PenstockError.of({ retry_after: after, ...error }, response.status);
}

function lost(code) {
  const why = code === 1013 ? "the server gave up on a reader that had stopped" : "the connection was lost";
  return new PenstockError(why, { code: code === 1013 ? "stalled" : "connection_lost" });
}

function base64url(text) {
  const bytes = new TextEncoder().encode(text);
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
