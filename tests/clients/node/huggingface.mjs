// @huggingface/inference, with an endpoint of one's own.
import { InferenceClient } from "@huggingface/inference";
import { MANY, MESSAGES, PROMPT, TOKENS, main } from "./driving.mjs";

const made = (url) => new InferenceClient("none").endpoint(url);
const parameters = { max_new_tokens: TOKENS, max_tokens: TOKENS, temperature: 0 };

await main({
  async whole(url) {
    const client = made(url);
    const chat = await client.chatCompletion({ messages: MESSAGES, max_tokens: TOKENS, temperature: 0 });
    const text = await client.textGeneration({ inputs: PROMPT, parameters });
    return { chat: chat.choices[0].message.content, text: text.generated_text };
  },
  async streamed(url) {
    const client = made(url);
    let chat = "";
    const asked = { messages: MESSAGES, max_tokens: TOKENS, temperature: 0 };
    for await (const chunk of client.chatCompletionStream(asked)) {
      chat += chunk.choices[0].delta.content ?? "";
    }
    let text = "";
    for await (const chunk of client.textGenerationStream({ inputs: PROMPT, parameters })) {
      text += chunk.choices[0].text;
    }
    return { chat, text };
  },
  async aborted(url) {
    const asked = { messages: MESSAGES, max_tokens: MANY, ignore_eos: true };
    for await (const _ of made(url).chatCompletionStream(asked)) break;
  },
  async refused(url) {
    try {
      await made(url).chatCompletion({ messages: MESSAGES, max_tokens: 0 });
    } catch (error) {
      return error.name === "ProviderApiError" ? `InferenceClient${error.name}` : error.constructor.name;
    }
  },
});
