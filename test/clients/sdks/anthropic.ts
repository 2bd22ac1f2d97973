import Anthropic from "@anthropic-ai/sdk";
import type { MessageParam, Tool, ToolUseBlock } from "@anthropic-ai/sdk/resources/messages";
import { maxTokens, maxTurns, type Sdk } from "./sdk.ts";

/** The library's own accumulation of a stream, and its blocks sent back as they come. */
export const anthropic: Sdk = {
  client: "@anthropic-ai/sdk",
  dialect: "messages",
  async ask({ url, key, model }, toolbox, { stream }) {
    const client = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 });
    const tools: Tool[] = toolbox.tools.map(({ name, description, parameters }) => ({
      name,
      description,
      input_schema: parameters as unknown as Tool.InputSchema,
    }));
    const messages: MessageParam[] = [{ role: "user", content: toolbox.prompt }];
    for (let turn = 0; turn < maxTurns; turn++) {
      const body = { model, messages, tools, max_tokens: maxTokens };
      const { content } = stream
        ? await client.messages.stream(body).finalMessage()
        : await client.messages.create(body);
      messages.push({ role: "assistant", content });
      const calls = content.filter((block): block is ToolUseBlock => block.type === "tool_use");
      if (calls.length === 0) return content.map((block) => (block.type === "text" ? block.text : "")).join("");
      const results = calls.map(({ id, name, input }) => ({
        type: "tool_result" as const,
        tool_use_id: id,
        content: toolbox.use(name, input),
      }));
      messages.push({ role: "user", content: results });
    }
    throw new Error(`no end after ${maxTurns} answers`);
  },
};
