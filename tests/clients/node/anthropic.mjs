// Anthropic's own, for Node.
import Anthropic from "@anthropic-ai/sdk";
import { MANY, MESSAGES, TOKENS, main } from "./driving.mjs";

const made = (url) => new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0 });
const asked = { model: "default", messages: MESSAGES, max_tokens: TOKENS, temperature: 0 };
const schema = {
  type: "object",
  properties: { a: { enum: [1, 2] } },
  required: ["a"],
  additionalProperties: false,
};
const called = {
  ...asked,
  max_tokens: 200,
  tools: [{ name: "add", input_schema: schema }],
  tool_choice: { type: "any", disable_parallel_tool_use: true },
};

await main({
  async whole(url) {
    const client = made(url);
    const message = await client.messages.create(asked);
    const { content, stop_reason } = await client.messages.create(called);
    if (stop_reason !== "tool_use" || ![1, 2].includes(content[0].input.a)) throw new Error("tool");
    const said = { type: "tool_result", tool_use_id: content[0].id, content: "3" };
    const messages = [...MESSAGES, { role: "assistant", content }, { role: "user", content: [said] }];
    const answered = await client.messages.create({ ...asked, messages });
    if (answered.role !== "assistant") throw new Error("role");
    return { chat: message.content[0].text };
  },
  async streamed(url) {
    const client = made(url);
    const stream = client.messages.stream(asked);
    let chat = "";
    stream.on("text", (piece) => (chat += piece));
    const final = await stream.finalMessage();
    if (final.usage.output_tokens !== TOKENS || !(final.usage.input_tokens > 0)) throw new Error("usage");
    const tool = await client.messages.stream(called).finalMessage();
    if (![1, 2].includes(tool.content[0].input.a)) throw new Error("tool");
    return { chat };
  },
  async aborted(url) {
    const stream = await made(url).messages.create({ ...asked, max_tokens: MANY, ignore_eos: true, stream: true });
    for await (const event of stream) if (event.type === "content_block_delta") break;
  },
  async refused(url) {
    try {
      await made(url).messages.create({ ...asked, max_tokens: 5000 });
    } catch (error) {
      return `${error.constructor.name} ${error.error.error.type}`;
    }
  },
});
