import { loadLibrary } from "./libraries.ts";
import { maxTurns, type Sdk } from "./sdk.ts";

interface Message {
  readonly text: string;
  readonly tool_calls?: readonly { readonly id: string; readonly name: string; readonly args: unknown }[];
}

interface Chunk extends Message {
  concat(next: Chunk): Chunk;
}

interface ChatModel {
  bindTools(tools: readonly object[]): {
    invoke(messages: readonly object[]): Promise<Message>;
    stream(messages: readonly object[]): Promise<AsyncIterable<Chunk>>;
  };
}

type ChatOpenAI = new (fields: object) => ChatModel;

/** LangChain's ChatOpenAI, over chat as it does by default, and over responses. */
export const langchains: readonly Sdk[] = [langchain("chat"), langchain("responses")];

function langchain(dialect: "chat" | "responses"): Sdk {
  return {
    client: "@langchain/openai",
    dialect,
    async ask({ url, key, model }, toolbox, { stream, libraries }) {
      const { ChatOpenAI } = (await loadLibrary(libraries, "@langchain/openai")) as { ChatOpenAI: ChatOpenAI };
      const chat = new ChatOpenAI({
        model,
        apiKey: key,
        configuration: { baseURL: `${url}/v1` },
        maxRetries: 0,
        useResponsesApi: dialect === "responses",
      }).bindTools(toolbox.tools.map((tool) => ({ type: "function", function: tool })));
      const messages: object[] = [{ role: "user", content: toolbox.prompt }];
      for (let turn = 0; turn < maxTurns; turn++) {
        const message = stream ? await join(await chat.stream(messages)) : await chat.invoke(messages);
        messages.push(message);
        if ((message.tool_calls ?? []).length === 0) return message.text;
        for (const { id, name, args } of message.tool_calls ?? [])
          messages.push({ role: "tool", tool_call_id: id, content: toolbox.use(name, args) });
      }
      throw new Error(`no end after ${maxTurns} answers`);
    },
  };
}

async function join(chunks: AsyncIterable<Chunk>): Promise<Message> {
  let whole: Chunk | undefined;
  for await (const chunk of chunks) whole = whole === undefined ? chunk : whole.concat(chunk);
  if (whole === undefined) throw new Error("an empty stream");
  return whole;
}
