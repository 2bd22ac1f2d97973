import type { Dialect } from "../rows.ts";
import { loadLibrary } from "./libraries.ts";
import { maxTurns, type Sdk, type Toolbox } from "./sdk.ts";

/** What is used of `ai`, whose own types need a newer Node's. */
interface Ai {
  tool(tool: { description: string; inputSchema: unknown; execute: (input: unknown) => string }): unknown;
  jsonSchema(schema: unknown): unknown;
  stepCountIs(count: number): unknown;
  generateText(options: object): Promise<{ readonly text: string }>;
  streamText(options: object): { readonly text: PromiseLike<string>; consumeStream(options: object): Promise<void> };
}

type Create = (options: object) => { (model: string): unknown; responses?(model: string): unknown };

/** Vercel's AI SDK with one of its providers. */
function ai(client: string, dialect: Dialect, create: string, more: object = {}): Sdk {
  return {
    client,
    dialect,
    async ask({ url, key, model }, toolbox, { stream, libraries }) {
      const library = (await loadLibrary(libraries, "ai")) as Ai;
      const provider = ((await loadLibrary(libraries, client)) as Record<string, Create>)[create] as Create;
      const options = {
        model: provider({ name: "local", baseURL: `${url}/v1`, apiKey: key, ...more })(model),
        prompt: toolbox.prompt,
        tools: toTools(library, toolbox),
        stopWhen: library.stepCountIs(maxTurns),
        maxRetries: 0,
      };
      return stream ? streamed(library, options) : (await library.generateText(options)).text;
    },
  };
}

export const aiSdks: readonly Sdk[] = [
  ai("@ai-sdk/openai-compatible", "chat", "createOpenAICompatible", { includeUsage: true }),
  ai("@ai-sdk/openai", "responses", "createOpenAI"),
  ai("@ai-sdk/anthropic", "messages", "createAnthropic"),
];

async function streamed(library: Ai, options: object): Promise<string> {
  const failures: unknown[] = [];
  const onError = ({ error }: { error: unknown }): void => void failures.push(error);
  const result = library.streamText({ ...options, onError });
  await result.consumeStream({});
  if (failures.length > 0) throw failures[0];
  return await result.text;
}

function toTools(library: Ai, toolbox: Toolbox): Record<string, unknown> {
  return Object.fromEntries(
    toolbox.tools.map(({ name, description, parameters }) => [
      name,
      library.tool({
        description,
        inputSchema: library.jsonSchema(parameters),
        execute: (input) => toolbox.use(name, input),
      }),
    ]),
  );
}
