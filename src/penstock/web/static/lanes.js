/** Streams as lanes: what the server says of each, what this page has read, and a row that shows it. */

import { drawPipe } from "./pipes.js";

const LOOK_MS = 200;
const RATE_MS = 1500;
const REST_MS = 450;
const TICKER = 90;

const WORDS = { queued: "waits for a slot", prefill: "reads the prompt", decode: "decoding", evicted: "lent its slot", ended: "ended by the server" };

/** One stream. What it has read are events; some tokens have no text, and so no event. */
export class Lane {
  #reads = [];
  #stream = null;
  #text = "";

  constructor(name, list, { you = false } = {}) {
    this.name = name;
    this.total = 0;
    this.reset();
    this.row = document.createElement("li");
    this.row.className = you ? "lane you" : "lane";
    const title = make("span", "title", make("b", "", name), (this.what = make("span", "what")));
    const pace = make("span", "pace-now", (this.number = make("b")), " tokens/s");
    this.canvas = make("canvas");
    this.canvas.setAttribute("aria-hidden", "true");
    this.row.append(title, this.canvas, pace);
    if (!you) {
      this.ticker = make("bdi");
      const line = make("div", "ticker", this.ticker);
      line.setAttribute("aria-hidden", "true");
      this.row.append(line);
    }
    this.phase = 0;
    this.speed = 0;
    list.append(this.row);
    this.show();
  }

  reset() {
    this.id = null;
    this.state = "idle";
    this.computed = this.delivered = this.ahead = this.events = 0;
    this.#reads = [];
  }

  /** `stream` tells how much of it has arrived, where it can; `events` of it were read before. */
  begin(id, stream = null, events = 0) {
    this.reset();
    this.id = id;
    this.state = "queued";
    this.events = events;
    this.#stream = stream;
  }

  took(text) {
    this.events += 1;
    this.total += 1;
    this.#reads.push(performance.now());
    this.#text = (this.#text + text.replaceAll("\n", " ")).slice(-TICKER);
  }

  /** What the server has just said; null when it knows nothing of this stream any more. */
  saw(sight) {
    if (sight === null) {
      this.state = "ended"; // what has arrived may still be unread
      return;
    }
    const rests = performance.now() - (this.#reads.at(-1) ?? 0) > REST_MS;
    this.state = sight.state === "parked" && !rests ? "decode" : sight.state;
    this.computed = sight.computed;
    this.delivered = sight.delivered;
    // Never below zero: more may have been read while the server's answer was on its way.
    const unread = (this.#stream?.received ?? sight.delivered) - this.events;
    this.ahead = sight.computed - sight.delivered + Math.max(unread, 0);
  }

  /** `tokens`: how many there were, if the end has told. */
  end(tokens = Math.max(this.delivered, this.events)) {
    this.computed = this.delivered = tokens;
    this.ahead = 0;
    this.id = null;
    this.state = "idle";
  }

  get read() {
    return this.computed - this.ahead;
  }

  /** Tokens a second, over the last moments. */
  get rate() {
    const since = performance.now() - RATE_MS;
    while (this.#reads.length && this.#reads[0] < since) this.#reads.shift();
    return (this.#reads.length / RATE_MS) * 1000;
  }

  /** The same, as it is told: what has stopped has no pace. */
  get pace() {
    return this.state === "parked" || this.state === "evicted" ? 0 : Math.round(this.rate);
  }

  get words() {
    if (this.state === "parked") return `parked, ${this.ahead} ahead`;
    return WORDS[this.state] ?? this.state;
  }

  show() {
    const parked = this.state === "parked" || this.state === "evicted";
    this.row.classList.toggle("parked", parked);
    this.row.classList.toggle("calm", this.state === "decode");
    this.row.dataset.state = this.state;
    this.row.dataset.read = String(this.total);
    setText(this.what, this.words);
    setText(this.number, String(this.pace));
    if (this.ticker) setText(this.ticker, this.#text);
  }

  draw(elapsed) {
    const target = this.state === "parked" ? 0 : this.rate;
    this.speed += (target - this.speed) * Math.min(elapsed / 180, 1);
    this.phase += Math.min(this.speed, 90) * (elapsed / 1000) * 7;
    drawPipe(this.canvas, this);
  }

  remove() {
    this.row.remove();
  }
}

/** All lanes: asks the server how far they are, and draws them while something moves. */
export class Lanes {
  #lanes = new Set();
  #still = matchMedia("(prefers-reduced-motion: reduce)");
  #drawn = 0;
  #running = false;

  constructor(penstock, looked) {
    this.penstock = penstock;
    this.looked = looked;
    addEventListener("resize", () => this.#drawAll(0));
  }

  add(lane) {
    this.#lanes.add(lane);
    lane.draw(0);
    return lane;
  }

  delete(lane) {
    this.#lanes.delete(lane);
    lane.remove();
  }

  /** A lane has begun: look until all have ended. */
  async watch() {
    if (this.#running) return;
    this.#running = true;
    requestAnimationFrame((now) => this.#frame(now));
    while (this.#busy()) {
      await this.#look();
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
    this.#running = false;
    this.#showAll();
    this.looked(null);
    this.#drawAll(0);
  }

  #busy() {
    return [...this.#lanes].some((lane) => lane.id !== null || lane.rate > 0);
  }

  async #look() {
    const asked = [...this.#lanes].filter((lane) => lane.id !== null);
    try {
      const told = await this.penstock.flow(asked.map((lane) => lane.id));
      for (const lane of asked) lane.saw(told.streams[lane.id] ?? null);
      this.looked(told.decoder);
    } catch {
      this.looked(null); // the streams themselves tell what is wrong
    }
    this.#showAll();
    if (this.#still.matches) this.#drawAll(0);
  }

  #showAll() {
    for (const lane of this.#lanes) lane.show();
  }

  #drawAll(elapsed) {
    for (const lane of this.#lanes) lane.draw(elapsed);
  }

  #frame(now) {
    const elapsed = Math.min(now - this.#drawn, 100);
    this.#drawn = now;
    if (!this.#still.matches) this.#drawAll(elapsed);
    if (this.#running) requestAnimationFrame((next) => this.#frame(next));
  }
}

function make(tag, name = "", ...children) {
  const element = document.createElement(tag);
  element.className = name;
  element.append(...children);
  return element;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
