import { type ChatResponse, type Message, Ollama } from "ollama";
import { maxTurns, type Sdk } from "./sdk.ts";

/** ollama-js, which joins no pieces of a stream itself: text is added up here, calls come whole. */
export const ollama: Sdk = {
  client: "ollama",
  dialect: "ollama",
  async ask({ url, key, model }, toolbox, { stream }) {
    const client = new Ollama({ host: url, headers: { authorization: `Bearer ${key}` } });
    const tools = toolbox.tools.map((tool) => ({ type: "function", function: tool as never }));
    const messages: Message[] = [{ role: "user", content: toolbox.prompt }];
    for (let turn = 0; turn < maxTurns; turn++) {
      const body = { model, messages, tools };
      const message = stream
        ? await join(await client.chat({ ...body, stream: true }))
        : (await client.chat({ ...body, stream: false })).message;
      messages.push(message);
      const calls = message.tool_calls ?? [];
      if (calls.length === 0) return message.content;
      for (const { function: called } of calls) {
        const content = toolbox.use(called.name, called.arguments);
        messages.push({ role: "tool", tool_name: called.name, content });
      }
    }
    throw new Error(`no end after ${maxTurns} answers`);
  },
};

async function join(parts: AsyncIterable<ChatResponse>): Promise<Message> {
  const message: Message = { role: "assistant", content: "" };
  let done = false;
  for await (const part of parts) {
    message.content += part.message.content;
    if (part.message.tool_calls !== undefined)
      message.tool_calls = [...(message.tool_calls ?? []), ...part.message.tool_calls];
    done ||= part.done;
  }
  if (!done) throw new Error("the stream ended without done: true");
  return message;
}
