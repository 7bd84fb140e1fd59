// The AI SDK, with its provider for servers that speak OpenAI's dialect.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";
import { MANY, QUESTION, TOKENS, main } from "./driving.mjs";

const made = (url) => createOpenAICompatible({ name: "penstock", baseURL: `${url}/v1`, includeUsage: true });
const asked = { maxOutputTokens: TOKENS, temperature: 0, maxRetries: 0 };

await main({
  async whole(url) {
    const provider = made(url);
    const chat = await generateText({ ...asked, model: provider("default"), prompt: QUESTION });
    if (chat.finishReason !== "length" || chat.usage.outputTokens !== TOKENS) throw new Error("end");
    return { chat: chat.text };
  },
  async streamed(url) {
    const result = streamText({ ...asked, model: made(url)("default"), prompt: QUESTION });
    let chat = "";
    for await (const piece of result.textStream) chat += piece;
    if ((await result.finishReason) !== "length") throw new Error("finishReason");
    if ((await result.usage).outputTokens !== TOKENS) throw new Error("usage");
    return { chat };
  },
  async aborted(url) {
    const controller = new AbortController();
    const result = streamText({
      ...asked,
      model: made(url)("default"),
      prompt: QUESTION,
      maxOutputTokens: MANY,
      abortSignal: controller.signal,
    });
    for await (const _ of result.textStream) {
      controller.abort();
      break;
    }
  },
  async refused(url) {
    try {
      await generateText({ ...asked, model: made(url)("default"), prompt: QUESTION, maxOutputTokens: 100_000 });
    } catch (error) {
      return error.name;
    }
  },
});
