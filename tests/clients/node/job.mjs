// What the drivers of clients of server-sent events ask.
import { MANY, PROMPT, TOKENS } from "./driving.mjs";

export const ASKED = { prompt: PROMPT, max_tokens: TOKENS, temperature: 0 };
export const LONG = { prompt: PROMPT, max_tokens: MANY, ignore_eos: true, stream: true };
const headers = { "content-type": "application/json" };

export const post = (url, path, body) =>
  fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });

export async function whole(url) {
  const told = await (await post(url, "/v1/completions", ASKED)).json();
  return { text: told.choices[0].text };
}
