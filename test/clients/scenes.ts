import { mkdirSync } from "node:fs";
import path from "node:path";
import { isObject, type JsonObject } from "../../src/core/json.ts";
import { startFakeLmDeploy } from "../support/fake-lmdeploy.ts";
import { startFakeMnn } from "../support/fake-mnn.ts";
import { startFakeOllama } from "../support/fake-ollama.ts";
import { startFakeOpenAi } from "../support/fake-openai.ts";
import type { FakeServer, Step } from "../support/fake-server.ts";
import { startFakeVllm } from "../support/fake-vllm.ts";
import { toolCall, writePlay } from "../support/opencode-model.ts";

export interface ToolCall {
  readonly name: string;
  readonly arguments: JsonObject;
}

/** What a model says to finish the task: one call, another, and the last words; and a title where no tools are offered. */
export interface Part {
  readonly first: ToolCall;
  readonly second: ToolCall;
  readonly last: string;
}

/** A server that plays a part, as the runtime is told of it. */
export interface Scene {
  /** As the runtime names it. */
  readonly model: string;
  /** Variables that configure the runtime. */
  readonly env: Readonly<Record<string, string>>;
  /** The chats that the server was asked for. */
  asked(): JsonObject[];
  close(): Promise<void>;
}

export const kinds = ["ollama", "lmdeploy", "mnn", "vllm", "openai"] as const;
export type Kind = (typeof kinds)[number];

/** Room for the largest client's prompt with one token for each of its bytes. */
const contextLength = 131_072;
const title = "Copying a token";
const remark = "I will read the file.";

type Reply = (body: JsonObject) => Step[];

/** Starts a server of this kind that plays the part, or says what `reply` has for it. */
export async function openScene(kind: Kind, part: Part, reply: Reply = (body) => play(part, body)): Promise<Scene> {
  const { server, path: asked, ...scene } = await starters[kind](reply);
  return { ...scene, asked: () => server.to(asked).map(({ body }) => body), close: () => server.close() };
}

/** A folder with a GGUF that plays the part, for the embedded engine. */
export function openEmbeddedScene(part: Part, home: string): Scene {
  const folder = path.join(home, "models");
  mkdirSync(folder);
  writePlay(path.join(folder, "copyist.gguf"), {
    title,
    turns: [`${remark}\n${write(part.first)}`, write(part.second), part.last],
  });
  // So small a model gains nothing by a GPU, and a second thread where cores are scarce costs it more than it gives.
  const env = {
    LLAMA_CPP_MODEL: folder,
    LLAMA_CPP_CACHE_DIR: path.join(home, "prompts"),
    LLAMA_CPP_CACHE_BYTES: "0",
    LLAMA_CPP_N_CTX: "65536",
    LLAMA_CPP_N_GPU_LAYERS: "0",
    LLAMA_CPP_N_THREADS: "1",
  };
  return { model: "llama_cpp:copyist", env, asked: () => [], close: () => Promise.resolve() };
}

interface Started extends Pick<Scene, "model" | "env"> {
  readonly server: FakeServer;
  /** Where it is asked for chats. */
  readonly path: string;
}

const starters: Readonly<Record<Kind, (reply: Reply) => Promise<Started>>> = {
  async ollama(reply) {
    const server = await startFakeOllama({ models: [{ name: "qwen3:8b", trained: contextLength }], reply });
    return { server, path: "/api/chat", model: "ollama:qwen3:8b", env: { OLLAMA_HOST: server.url } };
  },
  async lmdeploy(reply) {
    const server = await startFakeLmDeploy({ contextLength, reply });
    const env = { LMDEPLOY_HOST: server.url };
    return { server, path: "/v1/chat/completions", model: "lmdeploy:internlm/internlm3-8b", env };
  },
  async mnn(reply) {
    const server = await startFakeMnn({ reply });
    return { server, path: "/v1/chat/completions", model: "mnn:default", env: { MNN_HOST: server.url } };
  },
  async vllm(reply) {
    const server = await startFakeVllm({ contextLength, reply });
    return { server, path: "/v1/chat/completions", model: "vllm:Qwen/Qwen3-8B", env: { VLLM_HOST: server.url } };
  },
  async openai(reply) {
    const server = await startFakeOpenAi({ contextLength, reply });
    const env = { LAIR_PROVIDERS_OPENAI_KIND: "openai", LAIR_PROVIDERS_OPENAI_URLS: server.url };
    return { server, path: "/v1/chat/completions", model: "openai:gemma-3-4b", env };
  },
};

/** What the model says next, which the number of results in the conversation tells. */
export function play(part: Part, body: JsonObject): Step[] {
  const native = body.tools !== undefined;
  if (!native && !JSON.stringify(body.messages).includes("<tool_call>")) return [{ text: title }, { finish: "stop" }];
  const done = resultsIn(body);
  if (done > 1) return [{ text: part.last }, { finish: "stop", prompt: 7301, completion: 9 }];
  const call = done === 0 ? part.first : part.second;
  return [
    ...(done === 0 ? [{ text: remark }] : []),
    native ? { call: { ...call, id: `call_${done + 1}` } } : { text: `\n${write(call)}` },
    { finish: "stop", prompt: 7001 + 100 * done, completion: 31 },
  ];
}

/** Results of tools, also those that are told to a server that knows no tools. */
export function resultsIn(body: JsonObject): number {
  const messages = Array.isArray(body.messages) ? body.messages.filter(isObject) : [];
  return messages.filter(({ role, content }) => role === "tool" || String(content).startsWith("<tool_response>"))
    .length;
}

function write({ name, arguments: parameters }: ToolCall): string {
  return toolCall(name, parameters);
}
