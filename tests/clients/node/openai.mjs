// openai-node.
import OpenAI from "openai";
import { MANY, MESSAGES, PROMPT, TOKENS, main } from "./driving.mjs";

const made = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const newer = { model: "default", input: MESSAGES, max_output_tokens: TOKENS, temperature: 0 };
const asked = { model: "default", max_tokens: TOKENS, temperature: 0 };

await main({
  async whole(url) {
    const client = made(url);
    const chat = await client.chat.completions.create({ ...asked, messages: MESSAGES });
    const text = await client.completions.create({ ...asked, prompt: PROMPT });
    const responses = await client.responses.create(newer);
    return {
      chat: chat.choices[0].message.content,
      text: text.choices[0].text,
      responses: responses.output_text,
    };
  },
  async streamed(url) {
    const client = made(url);
    const chunks = await client.completions.create({ ...asked, prompt: PROMPT, stream: true });
    let text = "";
    for await (const chunk of chunks) text += chunk.choices[0].text;
    const helper = client.chat.completions.stream({
      ...asked,
      messages: MESSAGES,
      stream_options: { include_usage: true },
    });
    const final = await helper.finalChatCompletion();
    if (final.usage.completion_tokens !== TOKENS) throw new Error("usage");
    let responses = "";
    for await (const event of await client.responses.create({ ...newer, stream: true })) {
      if (event.type === "response.output_text.delta") responses += event.delta;
    }
    return { responses, chat: final.choices[0].message.content, text };
  },
  async aborted(url) {
    const stream = await made(url).chat.completions.create({
      ...asked,
      messages: MESSAGES,
      max_tokens: MANY,
      ignore_eos: true,
      stream: true,
    });
    for await (const _ of stream) break;
  },
  async refused(url) {
    try {
      await made(url).chat.completions.create({ ...asked, messages: MESSAGES, max_tokens: 0 });
    } catch (error) {
      return `${error.constructor.name} ${error.param}`;
    }
  },
});
