/**
 * Completion as you type: each key ends the request before, and what it saved is counted.
 *
 * It is read over a WebSocket, since credits bound what can have been computed at the moment of
 * leaving; over HTTP, sockets and the browser hold an unknown part of it.
 */

const PAUSE_MS = 180;
const TOKENS = 160;
const SEED = 4;
const CREDITS = 4;
const IN_HANDS = 2;

export class Completion {
  #leave = null;
  #timer = 0;
  #offer = "";
  #lookahead = 1;
  #figures = { saved: 0, asked: 0, aborted: 0, taken: 0 };

  /** `parts`: field, ghost, accept, offer (announced), figures, failed, model, instruments (to show it on). */
  constructor(penstock, parts) {
    this.penstock = penstock;
    this.parts = parts;
    parts.field.addEventListener("input", () => this.#typed());
    parts.accept.addEventListener("click", () => this.accept());
    parts.field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.accept();
      if (event.key === "Escape") this.end();
    });
  }

  /** Offer something for what is there. */
  begin() {
    const { field } = this.parts;
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
    this.#typed();
    this.penstock.flow().then(({ decoder }) => (this.#lookahead = decoder.lookahead), this.parts.failed);
  }

  /** Take what is offered so far, and go on from there. */
  accept() {
    if (!this.#offer) return;
    this.parts.field.value += this.#offer;
    this.#typed();
    this.parts.field.focus();
  }

  /** End the running request, and ask for nothing more until somebody types. */
  end() {
    clearTimeout(this.#timer);
    this.#leave?.abort();
    this.#show("");
  }

  #typed() {
    this.end();
    this.parts.offer.textContent = "";
    if (this.parts.field.value.trim()) this.#timer = setTimeout(() => this.#ask(), PAUSE_MS);
  }

  async #ask() {
    const leave = new AbortController();
    const counted = this.#figures;
    this.#leave = leave;
    counted.asked += 1;
    const shown = this.parts.instruments();
    let read = 0;
    let ended = false;
    shown?.timing.begin();
    try {
      // No end before the limit, so that what an abort saves is a count and not a guess.
      const prompt = this.parts.field.value;
      const model = this.parts.model();
      const body = { model, prompt, max_tokens: TOKENS, temperature: 0.7, seed: SEED, ignore_eos: true };
      const stream = this.penstock.socket(body, { credits: CREDITS, signal: leave.signal });
      for await (const event of stream) {
        if (event.type === "start") {
          shown?.lane.begin(event.id, stream);
          shown?.lanes.watch();
        }
        if (event.type === "end") ended = true;
        if (event.type !== "token" || leave.signal.aborted) continue;
        stream.pull(1);
        read += 1;
        counted.taken += 1;
        shown?.timing.took(event.at, false);
        shown?.lane.took(event.text);
        this.#show(this.#offer + event.text);
      }
    } catch (error) {
      if (!leave.signal.aborted) this.parts.failed(error);
    }
    if (leave.signal.aborted && !ended) {
      counted.aborted += 1;
      counted.saved += Math.max(TOKENS - read - CREDITS - this.#lookahead - IN_HANDS, 0);
    }
    if (this.#leave === leave) {
      this.#leave = null;
      shown?.lane.end();
    }
    if (ended) this.parts.offer.textContent = `Suggestion: ${this.#offer}`;
    this.parts.figures(counted);
  }

  #show(offer) {
    this.#offer = offer;
    const [typed, ghost] = this.parts.ghost.children;
    typed.textContent = this.parts.field.value;
    ghost.textContent = offer;
    this.parts.accept.disabled = !offer;
    this.parts.figures(this.#figures);
  }
}
