// eventsource: it comes back after every end, until it is told that nothing follows.
import { EventSource } from "eventsource";
import { LONG, post, whole } from "./job.mjs";
import { main, PROMPT } from "./driving.mjs";
import { ASKED } from "./job.mjs";

const closed = (source) =>
  new Promise((resolve) => {
    source.onerror = () => source.readyState === EventSource.CLOSED && resolve(source);
  });

await main({
  whole,
  async streamed(url) {
    const { stream_url } = await (await post(url, "/v1/jobs", ASKED)).json();
    const source = new EventSource(url + stream_url);
    const numbers = [];
    let text = "";
    let ends = 0;
    source.addEventListener("token", (event) => {
      numbers.push(Number(event.lastEventId));
      text += JSON.parse(event.data).text;
    });
    source.addEventListener("job_complete", () => (ends += 1));
    await closed(source); // by the 204 that its own reconnect was answered with
    if (ends !== 1 || numbers.some((number, index) => number !== index + 1)) throw new Error("events");
    return { text };
  },
  async aborted(url) {
    const asking = { method: "POST", body: JSON.stringify(LONG) };
    const source = new EventSource(`${url}/v1/completions`, {
      fetch: (input, init) => fetch(input, { ...init, ...asking }),
    });
    await new Promise((resolve) => (source.onmessage = resolve));
    source.close();
  },
  async refused(url) {
    const source = new EventSource(`${url}/v1/stream?job_id=${encodeURIComponent(PROMPT)}`);
    let code;
    source.addEventListener("error", (event) => (code = event.code));
    await new Promise((resolve) => source.addEventListener("error", resolve));
    return `${code} ${source.readyState === EventSource.CLOSED}`;
  },
});
