/** A reader's pace, which can be changed while it reads. */

export class Valve {
  #rate;
  #due = 0;
  #waiters = new Set();

  /** `rate` in tokens a second; 0 is shut, Infinity open. */
  constructor(rate = Infinity) {
    this.#rate = rate;
  }

  get rate() {
    return this.#rate;
  }

  set rate(rate) {
    this.#rate = rate;
    for (const wake of this.#waiters) wake();
  }

  /** Wait until the next token may be read; true where that was the valve's doing. Throws if aborted. */
  async pass(signal) {
    let waited = false;
    for (;;) {
      signal?.throwIfAborted();
      const now = performance.now();
      const left = this.#rate === Infinity ? 0 : this.#rate === 0 ? Infinity : this.#due - now;
      if (left <= 0) break;
      waited = true;
      await this.#wait(Math.min(left, 1000 / this.#rate), signal);
    }
    const period = this.#rate === Infinity ? 0 : 1000 / this.#rate;
    // Timers are late: a reader may make up for one token, not for a pause.
    this.#due = Math.max(this.#due, performance.now() - period) + period;
    return waited;
  }

  #wait(ms, signal) {
    return new Promise((resolve) => {
      const timer = ms === Infinity ? 0 : setTimeout(wake, ms);
      const waiters = this.#waiters;
      function wake() {
        clearTimeout(timer);
        waiters.delete(wake);
        signal?.removeEventListener("abort", wake);
        resolve();
      }
      waiters.add(wake);
      signal?.addEventListener("abort", wake);
    });
  }
}
