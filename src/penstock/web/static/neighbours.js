/** Streams beside yours, each on a socket of its own, read at a steady pace for as long as they are wanted. */

import { Lane } from "./lanes.js";
import { Valve } from "./valve.js";

export const MOST = 6;
const PACE = 24;
const CREDITS = 4;
const AGAIN_MS = 1000;
const PROMPTS = [
  "Once upon a time, a little girl named Mia",
  "The old fisherman looked at the sea and",
  "One sunny day, a rabbit and a fox",
  "In the forest there was a tall tree that",
  "Tom had a red kite. Every morning",
  "The baker opened the door and saw",
];

export class Neighbours {
  #running = [];

  /** `model` gives the name of the one to ask. */
  constructor(penstock, lanes, list, model) {
    this.penstock = penstock;
    this.lanes = lanes;
    this.list = list;
    this.model = model;
  }

  get count() {
    return this.#running.length;
  }

  more() {
    const number = this.count;
    if (number >= MOST) return;
    const lane = this.lanes.add(new Lane(`Neighbour ${number + 1}`, this.list));
    const leave = new AbortController();
    this.#running.push({ lane, leave });
    this.#live(lane, PROMPTS[number % PROMPTS.length], leave.signal);
  }

  fewer() {
    const gone = this.#running.pop();
    gone?.leave.abort();
    if (gone) this.lanes.delete(gone.lane);
  }

  async #live(lane, prompt, signal) {
    const valve = new Valve(PACE);
    while (!signal.aborted) {
      try {
        await this.#read(lane, prompt, valve, signal);
      } catch (error) {
        if (signal.aborted) return;
        lane.end();
        lane.state = error.message;
        lane.show();
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS * (error.retryAfter ?? 1)));
      }
    }
  }

  async #read(lane, prompt, valve, signal) {
    const body = { model: this.model(), prompt, max_tokens: 300, temperature: 0.7 };
    const stream = this.penstock.socket(body, { credits: CREDITS, signal });
    for await (const event of stream) {
      if (event.type === "start") {
        lane.begin(event.id, stream);
        this.lanes.watch();
      } else if (event.type === "token") {
        await valve.pass(signal);
        lane.took(event.text);
        stream.pull(1);
      }
    }
    lane.end();
  }
}
