// Run by bench:dialects in a process of its own: `history.ts DIST PORT`. One line of JSON for each translation of a history of 1 MB.
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type Pair, requestOf, type Turn } from "./pairs.ts";

const [dist = "", port = ""] = process.argv.slice(2);

const load = (path: string): Promise<Record<string, never>> =>
  import(pathToFileURL(join(dist, path)).href) as Promise<Record<string, never>>;

interface Parts {
  readonly createProvider: (name: string, settings: object, tools: object) => { handle(call: unknown): Promise<Reply> };
  readonly Call: new (init: object) => { target: unknown };
  readonly collect: (body: unknown, limit: number, error: () => Error) => Promise<Buffer>;
  readonly silent: object;
}
interface Reply {
  readonly status: number;
  readonly body: unknown;
}

const parts = Object.assign(
  {},
  ...(await Promise.all(["providers/index.js", "core/call.js", "core/bytes.js", "core/log.js"].map(load))),
) as Parts;

/** A conversation as an agent has it: questions, tool calls in words, files. About 1 MB as JSON. */
function history(): Turn[] {
  const file = Array.from(
    { length: 60 },
    (_, line) => `${line}\tconst value${line} = read("src/part-${line}.ts"); // é`,
  );
  const turns: Turn[] = [];
  for (let size = 0; size < 1e6; size += 3400) {
    turns.push({ role: "user", content: `The file:\n${file.join("\n")}` });
    turns.push({ role: "assistant", content: 'I will read the next one: {"path": "src/index.ts"}' });
  }
  turns.push({ role: "user", content: "Go on." });
  return turns;
}

const pair: Pair = { dialect: "messages", kind: "openai" };
const { path, body } = requestOf(pair, { port: 0, headers: {} }, { stream: false, turns: history() });
const bytes = Buffer.from(body);
const settings = {
  kind: "openai",
  urls: [`http://127.0.0.1:${port}`],
  connectTimeout: 5000,
  firstByteTimeout: 0,
  idleTimeout: 0,
};
const provider = parts.createProvider("openai", settings, { log: parts.silent });

async function translateOnce(): Promise<{ milliseconds: number; stretch: number }> {
  const call = new parts.Call({
    id: "bench",
    method: "POST",
    path,
    headers: { "content-type": "application/json" },
    signal: new AbortController().signal,
    body: Buffer.from(bytes),
  });
  call.target = { provider, model: "bench-model", requested: "openai:bench-model" };
  let stretch = 0;
  let last = performance.now();
  let over = false;
  const turn = (): void => {
    const now = performance.now();
    stretch = Math.max(stretch, now - last);
    last = now;
    if (!over) setImmediate(turn);
  };
  setImmediate(turn);
  const began = performance.now();
  const reply = await provider.handle(call);
  const milliseconds = performance.now() - began;
  over = true;
  if (reply.status !== 200) throw new Error(`the answer's status is ${reply.status}`);
  return { milliseconds, stretch };
}

for (let round = 0; round < 25; round++) {
  const seen = await translateOnce();
  await new Promise((resolve) => setTimeout(resolve, 5));
  if (round >= 5) console.log(JSON.stringify(seen));
}
process.exit(0);
