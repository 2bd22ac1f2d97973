import OpenAI from "openai";
import type { ChatCompletionMessageParam } from "openai/resources/chat/completions";
import type { ResponseInput } from "openai/resources/responses/responses";
import { maxTurns, type Sdk, type Toolbox } from "./sdk.ts";

/** Over chat: the library's own accumulation of a stream, and the messages sent back as it gives them. */
export const openaiChat: Sdk = {
  client: "openai",
  dialect: "chat",
  async ask({ url, key, model }, toolbox, { stream }) {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
    const tools = toolbox.tools.map((tool) => ({ type: "function" as const, function: { ...tool, strict: true } }));
    const messages: ChatCompletionMessageParam[] = [{ role: "user", content: toolbox.prompt }];
    for (let turn = 0; turn < maxTurns; turn++) {
      const body = { model, messages, tools };
      const { choices } = stream
        ? await client.chat.completions.stream(body).finalChatCompletion()
        : await client.chat.completions.create(body);
      const message = choices[0]?.message;
      if (message === undefined) throw new Error("no choice");
      messages.push(message);
      const calls = (message.tool_calls ?? []).filter((call) => call.type === "function");
      if (calls.length === 0) return message.content ?? "";
      for (const call of calls) {
        const content = toolbox.use(call.function.name, call.function.arguments);
        messages.push({ role: "tool", tool_call_id: call.id, content });
      }
    }
    throw new Error(`no end after ${maxTurns} answers`);
  },
};

/** Over responses: streams go on from the response before, whole answers send everything again. */
export const openaiResponses: Sdk = {
  client: "openai",
  dialect: "responses",
  async ask({ url, key, model }, toolbox, { stream }) {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
    const tools = toolbox.tools.map((tool) => ({ type: "function" as const, strict: true, ...tool }));
    let input: ResponseInput = [{ role: "user", content: toolbox.prompt }];
    let previous: string | undefined;
    for (let turn = 0; turn < maxTurns; turn++) {
      const response = stream
        ? await client.responses
            .stream({ model, input, tools, ...(previous === undefined ? {} : { previous_response_id: previous }) })
            .finalResponse()
        : await client.responses.create({ model, input, tools, store: false });
      const results = useAll(response.output, toolbox);
      if (results.length === 0) return response.output_text;
      input = stream ? results : [...input, ...(response.output as ResponseInput), ...results];
      previous = response.id;
    }
    throw new Error(`no end after ${maxTurns} answers`);
  },
};

function useAll(output: readonly { type: string }[], toolbox: Toolbox): ResponseInput {
  const calls = output as readonly { type: string; name: string; arguments: string; call_id: string }[];
  return calls
    .filter(({ type }) => type === "function_call")
    .map((call) => ({
      type: "function_call_output",
      call_id: call.call_id,
      output: toolbox.use(call.name, call.arguments),
    }));
}
