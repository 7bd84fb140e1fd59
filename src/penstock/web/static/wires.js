/** The three ways in which an answer can travel, made alike: events, a word after each token, an end. */

/** Tokens that may be on the way to this page: enough to hide the way there, few enough to count. */
const CREDITS = 4;
const WINDOW = 8;

/** Exact: a token costs a credit, and one is given back for each that was read. */
export function overSocket(penstock, body) {
  const leave = new AbortController();
  const events = penstock.socket(body, { credits: CREDITS, signal: leave.signal });
  return { events, read: () => events.pull(1), stop: () => events.cancel(), leave, jobId: null };
}

/** OpenAI's stream. Stopping is leaving. */
export function overSse(penstock, body) {
  const leave = new AbortController();
  const events = penstock.chat(body, { signal: leave.signal });
  return { events, read() {}, stop: () => leave.abort(), leave, jobId: null };
}

/** Exact by acknowledgements: never more than a window of events is made that was not read. */
export async function asJob(penstock, body) {
  const idempotencyKey = String(crypto.getRandomValues(new BigUint64Array(2)));
  const jobId = await penstock.submit({ ...body, window: WINDOW }, { idempotencyKey });
  return followJob(penstock, jobId, 0);
}

/** A job that may have been read up to `after` before this page was loaded. */
export function followJob(penstock, jobId, after) {
  const leave = new AbortController();
  const acknowledge = acknowledger((seq) => penstock.acknowledge(jobId, seq));
  if (after) acknowledge(after);
  const events = penstock.follow(jobId, { after, signal: leave.signal });
  const stop = () => penstock.cancel(jobId).catch(() => leave.abort());
  return { events, read: acknowledge, stop, leave, jobId };
}

/** One request at a time; what is read meanwhile goes with the next. */
function acknowledger(send) {
  let latest = 0;
  let busy = false;
  return async (seq) => {
    latest = seq;
    if (busy) return;
    busy = true;
    for (let sent = 0; sent < latest; ) {
      sent = latest;
      await send(sent).catch(() => {}); // a job that has ended, or been forgotten
    }
    busy = false;
  };
}
