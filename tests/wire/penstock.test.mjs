// penstock.js against a real server, whose address is in PENSTOCK_URL.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import test from "node:test";

const { EventParser, Penstock, PenstockError } = await import(process.env.PENSTOCK_JS);
const { EventSource } = createRequire(process.env.PENSTOCK_TOOLS)("eventsource");
const base = process.env.PENSTOCK_URL;
const penstock = new Penstock({ base });
const keyed = new Penstock({ base, key: "sk-penstock-nobody-asks" });
const ASK = { prompt: "Once upon a time", max_tokens: 40, temperature: 0, ignore_eos: true };
const LONG = { ...ASK, max_tokens: 600 };

async function gather(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

const textOf = (events) => events.map((event) => event.text ?? "").join("");

async function until(condition) {
  for (let tries = 0; !(await condition()); tries += 1) {
    assert.ok(tries < 1000, "it never came about");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const idle = () => until(async () => (await penstock.flow()).decoder.active === 0);

test("a parser gives the same events, however its text is cut", () => {
  const text = 'event: a\r\nid: 1\r\ndata: x\r\n\r\n: rest\n\ndata: y\ndata:z\n\nid: 2\rdata\r\rdata: "🙂"\n\ndata: cut';
  const whole = new EventParser().push(text);
  assert.deepEqual(whole, [
    { name: "a", id: "1", data: "x" },
    { name: "message", id: "1", data: "y\nz" },
    { name: "message", id: "2", data: "" },
    { name: "message", id: "2", data: '"🙂"' },
  ]);
  for (let first = 0; first <= text.length; first += 1) {
    for (let second = first; second <= text.length; second += 1) {
      const parser = new EventParser();
      const pieces = [text.slice(0, first), text.slice(first, second), text.slice(second)];
      assert.deepEqual(pieces.flatMap((piece) => parser.push(piece)), whole);
    }
  }
});

test("every way of reading gives the same text, numbered from one, and one end", async () => {
  globalThis.EventSource = EventSource;
  const jobId = await penstock.submit(ASK);
  const ways = [penstock.complete(ASK), penstock.socket(ASK), penstock.follow(jobId), keyed.follow(jobId), penstock.resume(jobId)];
  const read = await Promise.all(ways.map(gather));
  const texts = read.map(textOf);
  assert.ok(texts[0].length > 50);
  for (const [i, events] of read.entries()) {
    assert.equal(texts[i], texts[0]);
    assert.equal(events[0].type, "start");
    const tokens = events.slice(1, -1);
    assert.deepEqual(tokens.map((token) => token.seq), tokens.map((_, n) => n + 1));
    const { type, reason, usage } = events.at(-1);
    assert.deepEqual([type, reason, usage.completion_tokens], ["end", "length", 40]);
  }
});

test("a job is followed from the middle, by EventSource and by fetch", async () => {
  const jobId = await penstock.submit(ASK, { idempotencyKey: "once" });
  assert.equal(await penstock.submit(ASK, { idempotencyKey: "once" }), jobId);
  const whole = await gather(penstock.follow(jobId));
  for (const client of [penstock, keyed]) {
    const rest = await gather(client.follow(jobId, { after: 7 }));
    assert.equal(textOf(rest), textOf(whole.filter((event) => event.seq > 7)));
  }
});

test("no token comes that was not asked for, and the decoder rests", async () => {
  const stream = penstock.socket(LONG, { credits: 3 });
  let id;
  let read = 0;
  for await (const event of stream) {
    id ??= event.id;
    if (event.type !== "token") continue;
    read += 1;
    if (read === 3) {
      await until(async () => (await penstock.flow([id])).streams[id].state === "parked");
      const { computed, delivered } = (await penstock.flow([id])).streams[id];
      assert.equal(stream.received, 3);
      assert.ok(delivered >= 3 && computed <= delivered + 3, `${computed} of ${delivered}`);
      stream.pull(2);
    }
    if (read === 5) stream.cancel();
  }
  assert.equal(stream.received, 5);
  await idle();
});

test("leaving the loop leaves the server, over either wire", async () => {
  for (const start of [() => penstock.complete(LONG), () => penstock.socket(LONG)]) {
    for await (const event of start()) if (event.type === "token") break;
    await idle();
  }
});

test("an aborted signal leaves as well, and throws its reason", async () => {
  const open = [
    (options) => penstock.chat({ ...LONG, prompt: undefined, messages: [{ role: "user", content: "Hi" }] }, options),
    (options) => penstock.socket(LONG, options),
  ];
  for (const start of open) {
    const leave = new AbortController();
    const reading = gather(
      (async function* () {
        for await (const event of start({ signal: leave.signal })) {
          yield event;
          if (event.type === "token") leave.abort();
        }
      })(),
    );
    await assert.rejects(reading, { name: "AbortError" });
    await idle();
  }
});

test("a socket that is left before it has opened asks for nothing", async () => {
  const leave = new AbortController();
  const reading = gather(penstock.socket(LONG, { signal: leave.signal }));
  leave.abort();
  await assert.rejects(reading, { name: "AbortError" });
  await assert.rejects(gather(penstock.socket(LONG, { signal: leave.signal })), { name: "AbortError" });
});

test("what is refused is an error with the server's code, over every wire", async () => {
  const bad = { prompt: "x", max_tokens: -1 };
  const ways = [() => gather(penstock.complete(bad)), () => gather(penstock.socket(bad)), () => penstock.submit(bad)];
  for (const way of ways) {
    await assert.rejects(way, (error) => error instanceof PenstockError && error.code === "invalid_value");
  }
  await assert.rejects(gather(keyed.follow("job_0")), { code: "job_not_found", status: 404 });
  const nowhere = new Penstock({ base: "http://127.0.0.1:9/" });
  await assert.rejects(gather(nowhere.socket(ASK)), { code: "connection_lost" });
});

test("a window stands still until it is acknowledged", async () => {
  const jobId = await penstock.submit({ ...ASK, window: 4 });
  const seen = [];
  for await (const event of penstock.follow(jobId)) {
    if (event.type !== "token") continue;
    seen.push(event.seq);
    if (event.seq % 4) continue;
    assert.equal((await penstock.job(jobId)).last_event_id, event.seq);
    await penstock.acknowledge(jobId, event.seq);
  }
  assert.deepEqual(seen, seen.map((_, n) => n + 1));
});

test("a resumable socket with a window is exact, and so is the one that goes on with it", async () => {
  let id;
  let seen = 0;
  const take = async (stream, count) => {
    for await (const event of stream) {
      if (event.type === "start") id = event.id;
      if (event.type !== "token") continue;
      assert.equal(event.seq, (seen += 1));
      if (seen % 3 === 0) {
        assert.equal((await penstock.job(id)).last_event_id, seen);
        stream.acknowledge(seen);
      }
      if (seen === count) return;
    }
  };
  await take(penstock.socket({ ...LONG, resumable: true, window: 3 }), 8);
  await take(penstock.resume(id, { after: 8 }), 20);
  await penstock.cancel(id);
  await idle();
});
