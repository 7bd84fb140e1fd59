// tabby-agent, as an editor's extension embeds it.
import { createRequire } from "node:module";
import { main } from "./driving.mjs";

const { TabbyAgent } = createRequire(import.meta.url)("tabby-agent");
const TEXT = "def add(a, b):\n    return \n\nprint(add(1, 2))\n";
const CURSOR = {
  filepath: "add.py",
  language: "python",
  text: TEXT,
  position: TEXT.indexOf("return ") + 7,
  manually: true,
};

async function made(url) {
  const agent = new TabbyAgent();
  await agent.initialize({
    config: {
      server: { endpoint: url },
      anonymousUsageTracking: { disable: true },
      // What its filters leave of a small model's code would say nothing of the server.
      postprocess: { limitScope: { experimentalSyntax: false } },
    },
  });
  return agent;
}

await main({
  async ready(url) {
    const agent = await made(url);
    const health = agent.getServerHealthState();
    return { status: agent.getStatus(), model: health.model, issues: agent.getIssues() };
  },
  async whole(url) {
    const agent = await made(url);
    const told = await agent.provideCompletions(CURSOR);
    await agent.postEvent({ type: "view", completion_id: told.id, choice_index: 0 });
    return { id: told.id, status: agent.getStatus() };
  },
  async aborted(url) {
    const agent = await made(url);
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 500);
    try {
      await agent.provideCompletions(CURSOR, { signal: controller.signal });
    } catch (error) {
      return error.name;
    }
  },
});
