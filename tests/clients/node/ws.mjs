// ws: with credits and without.
import WebSocket from "ws";
import { MANY, PROMPT, TOKENS, main } from "./driving.mjs";

const START = { type: "start", prompt: PROMPT, max_tokens: TOKENS, temperature: 0 };
const opened = (url) =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(`${url.replace("http", "ws")}/v1/ws`, ["penstock.v1"]);
    socket.on("open", () => resolve(socket)).on("error", reject);
  });

async function tell(url, credits) {
  const socket = await opened(url);
  let text = "";
  let number = 0;
  return new Promise((resolve, reject) => {
    socket.on("message", (data) => {
      const told = JSON.parse(data);
      if (told.type === "token") {
        if (told.seq !== ++number) reject(new Error("seq"));
        text += told.text;
        if (credits) socket.send(JSON.stringify({ type: "pull", n: 1 }));
      }
      if (told.type === "complete") resolve({ text });
    });
    socket.send(JSON.stringify({ ...START, ...(credits && { credits }) }));
  });
}

await main({
  whole: (url) => tell(url),
  streamed: (url) => tell(url, 1),
  async aborted(url) {
    const socket = await opened(url);
    const token = new Promise((resolve) => {
      socket.on("message", (data) => JSON.parse(data).type === "token" && resolve());
    });
    socket.send(JSON.stringify({ ...START, max_tokens: MANY, ignore_eos: true }));
    await token;
    socket.terminate();
  },
  async refused(url) {
    const socket = await opened(url);
    const answer = new Promise((resolve) => socket.on("message", (data) => resolve(JSON.parse(data))));
    socket.send(JSON.stringify({ ...START, max_tokens: 0 }));
    const told = await answer;
    return `${told.type} ${told.error.param}`;
  },
});
