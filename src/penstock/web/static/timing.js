/** When tokens came: the first one, and the gaps between the others, drawn as they come. */

import { prepare } from "./pipes.js";

const WATER = "#63e0d4";
const WARM = "#f2a565";
const GRID = "#1c4b49";
const INK = "#a3c9c3";
const LEAST_MS = 0.5;
const MOST_MS = 3_000;
const MARKS = [1, 10, 100, 1000];
const BAR = 4;
const LEFT = 34;

export class Timing {
  #canvas;
  #gaps = [];
  #last = null;
  #asked = 0;
  #due = false;

  constructor(canvas, figures) {
    this.#canvas = canvas;
    this.figures = figures;
    addEventListener("resize", () => this.#later());
    this.#later();
  }

  /** A request goes out now; `resumed` ones have had their first token elsewhere. */
  begin({ resumed = false } = {}) {
    this.#gaps = [];
    this.#last = null;
    this.#asked = resumed ? null : performance.now();
    this.ttft = null;
    this.#later();
  }

  /** A token came at `at` ms; `held` where the reader itself had kept it waiting. */
  took(at, held) {
    if (this.#last !== null) this.#gaps.push({ ms: at - this.#last, held });
    else if (this.#asked !== null) this.ttft = at - this.#asked;
    this.#last = at;
    this.#later();
  }

  /** Of the gaps that the server is to blame for, in ms; null where there are none. */
  percentile(share) {
    const sorted = this.#gaps.filter((gap) => !gap.held).map((gap) => gap.ms).sort((a, b) => a - b);
    return sorted.length ? sorted[Math.min(Math.floor(share * sorted.length), sorted.length - 1)] : null;
  }

  #later() {
    if (this.#due) return;
    this.#due = true;
    setTimeout(() => {
      this.#due = false;
      this.#draw();
      this.figures(this);
    }, 60);
  }

  #draw() {
    const { context, width, height } = prepare(this.#canvas);
    const room = Math.floor((width - LEFT) / BAR);
    const level = (ms) => {
      const share = Math.log(Math.min(Math.max(ms, LEAST_MS), MOST_MS) / LEAST_MS) / Math.log(MOST_MS / LEAST_MS);
      return Math.round((height - 2) * share);
    };
    context.font = "11px 'Instrument Sans', sans-serif";
    for (const ms of MARKS) {
      const y = height - level(ms) - 0.5;
      context.fillStyle = GRID;
      context.fillRect(LEFT, y, width - LEFT, 1);
      context.fillStyle = INK;
      context.textAlign = "right";
      context.fillText(ms < 1000 ? String(ms) : `${ms / 1000} s`, LEFT - 7, y + 4);
    }
    this.#gaps.slice(-room).forEach((gap, i) => {
      const tall = Math.max(level(gap.ms), 2);
      context.fillStyle = gap.held ? WARM : WATER;
      context.fillRect(LEFT + i * BAR, height - tall, BAR - 1.4, tall);
    });
  }
}
