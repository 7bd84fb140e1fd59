/** The conversation: what was said, one answer at a time, kept for a reload. */

import { asJob, followJob, overSocket, overSse } from "./wires.js";

const KEPT = "penstock.chat";
const ENDS = { stop: "", length: "cut at the token limit", cancelled: "stopped" };

export class Chat {
  #running = null;
  #messages = [];

  /** `parts`: log, hello, lane, lanes, timing, valve, told, changed. */
  constructor(penstock, parts) {
    this.penstock = penstock;
    this.parts = parts;
    addEventListener("pagehide", () => this.#keep());
  }

  get running() {
    return this.#running !== null;
  }

  /** Ask for the next answer. `wire` is socket, sse or job. */
  async say(text, sampling, wire) {
    this.#add({ role: "user", content: text });
    const messages = this.#messages.map(({ role, content }) => ({ role, content }));
    const body = { ...sampling, messages };
    await this.#answer({ open: () => this.#open(wire, body), resumed: false, content: "", after: 0 });
  }

  stop() {
    this.#running?.stop();
  }

  clear() {
    this.#running?.stop(); // a reader behind a shut valve hears of nothing else
    this.#running?.leave.abort();
    this.#messages = [];
    for (const turn of this.parts.log.querySelectorAll(".turn")) turn.remove();
    this.parts.hello.hidden = false;
    this.#keep();
  }

  /** Show what was kept, and go on with the job that was being read. */
  async restore() {
    const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
    if (kept === null) return;
    for (const message of kept.messages) this.#add(message);
    if (!kept.running) return;
    const { jobId, seq, content } = kept.running;
    const open = () => followJob(this.penstock, jobId, seq);
    await this.#answer({ open, resumed: true, content, after: seq });
  }

  #open(wire, body) {
    if (wire === "job") return asJob(this.penstock, body);
    return wire === "sse" ? overSse(this.penstock, body) : overSocket(this.penstock, body);
  }

  async #answer({ open, resumed, content, after }) {
    const { lanes, lane, timing, valve, log } = this.parts;
    const turn = showTurn(log, "assistant", content);
    const stopping = new AbortController();
    const run = { stop: () => stopping.abort(), leave: new AbortController(), jobId: null, seq: after, content };
    this.#running = run;
    this.#mark(turn, true);
    timing.begin({ resumed });
    let note = "";
    let tokens;
    try {
      const wire = await open();
      Object.assign(run, { leave: wire.leave, jobId: wire.jobId });
      let begun = false;
      run.stop = () => {
        stopping.abort();
        if (begun) wire.stop();
        else wire.leave.abort();
      };
      if (stopping.signal.aborted) run.stop();
      let held = false;
      for await (const event of wire.events) {
        if (event.type === "start") {
          begun = true;
          lane.begin(event.id, wire.events, after);
          lanes.watch();
        } else if (event.type === "end") {
          tokens = event.usage?.completion_tokens;
          note = stopping.signal.aborted ? this.#stopped() : this.#figures(event);
        } else if (!stopping.signal.aborted) {
          timing.took(event.at, held);
          held = await valve.pass(stopping.signal).catch(() => false);
          if (stopping.signal.aborted) continue;
          this.#read(run, turn, event);
          wire.read(event.seq);
        }
      }
    } catch (error) {
      note = this.#explain(error, stopping.signal.aborted || run.leave.signal.aborted, turn);
    }
    lane.end(tokens);
    this.#running = null;
    turn.footer.textContent = note;
    this.#mark(turn, false);
    if (turn.element.isConnected) this.#messages.push({ role: "assistant", content: run.content, note });
    this.#keep();
  }

  #read(run, turn, event) {
    const { log, lane } = this.parts;
    const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    turn.text.appendData(event.text);
    run.content += event.text;
    run.seq = event.seq;
    lane.took(event.text);
    if (follows) log.scrollTop = log.scrollHeight;
  }

  #figures({ reason, usage }) {
    const { ttft } = this.parts.timing;
    const first = ttft === null ? "" : `first after ${Math.round(ttft)} ms`;
    return [`${usage?.completion_tokens ?? this.parts.lane.events} tokens`, first, ENDS[reason] ?? reason].filter(Boolean).join(" · ");
  }

  /** What had arrived behind the last token that was read has been dropped, its end included. */
  #stopped() {
    return `${this.parts.lane.events} tokens · stopped`;
  }

  #explain(error, wanted, turn) {
    if (wanted) return this.#stopped();
    turn.element.classList.add("failed");
    const again = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
    this.parts.told(error);
    return `${error.message}.${again}`;
  }

  #mark(turn, live) {
    turn.element.classList.toggle("live", live);
    // So that a screen reader says an answer once and whole, not in hundreds of pieces.
    this.parts.log.setAttribute("aria-busy", String(live));
    this.parts.changed(live);
  }

  #add(message) {
    this.parts.hello.hidden = true;
    this.#messages.push(message);
    const turn = showTurn(this.parts.log, message.role, message.content);
    turn.footer.textContent = message.note ?? "";
    this.parts.log.scrollTop = this.parts.log.scrollHeight;
  }

  #keep() {
    const run = this.#running;
    const { jobId, seq, content } = run ?? {};
    const messages = [...this.#messages];
    if (run && !jobId) messages.push({ role: "assistant", content, note: "the page was left: its slot is free" });
    const running = jobId ? { jobId, seq, content } : null;
    try {
      sessionStorage.setItem(KEPT, JSON.stringify({ messages, running }));
    } catch {
      // Full or off: a reload then starts afresh.
    }
  }
}

function showTurn(log, role, content) {
  const element = document.createElement("article");
  element.className = `turn ${role}`;
  element.setAttribute("aria-label", role === "user" ? "You" : "Answer");
  const paragraph = document.createElement("p");
  const text = document.createTextNode(content);
  const footer = document.createElement("footer");
  paragraph.append(text);
  element.append(paragraph, footer);
  log.append(element);
  log.scrollTop = log.scrollHeight;
  return { element, text, footer };
}
