import { afterEach } from "vitest";
import { toIterable } from "../../src/core/bytes.ts";
import { Call, type Reply } from "../../src/core/call.ts";
import type { Json, JsonObject } from "../../src/core/json.ts";
import { silent } from "../../src/core/log.ts";
import type { Provider } from "../../src/core/provider.ts";
import { createProvider } from "../../src/providers/index.ts";
import type { ProviderKind, ProviderSettings } from "../../src/providers/settings.ts";

/** A provider over these servers, with timeouts that no test waits for. */
export function providerOf(kind: ProviderKind, urls: string[], settings: Partial<ProviderSettings> = {}): Provider {
  return createProvider(
    kind,
    { kind, urls, connectTimeout: 5000, firstByteTimeout: 0, idleTimeout: 0, ...settings },
    { log: silent },
  );
}

let calls = 0;

/** Calls the provider as the pipeline does. The client knows the model under a name with the provider's prefix. */
export function post(
  provider: Provider,
  path: string,
  body: JsonObject,
  signal: AbortSignal = new AbortController().signal,
): Promise<Reply> {
  const call = new Call({
    id: `test-${++calls}`,
    method: "POST",
    path,
    signal,
    body: Buffer.from(JSON.stringify(body)),
  });
  const model = String(body.model);
  call.target = { provider, model, requested: requestedName(provider, model) };
  return provider.handle(call);
}

export function requestedName(provider: Provider, model: string): string {
  return `${provider.name}:${model}`;
}

/** The whole body as text. Throws when it breaks off. */
async function textOf(reply: Reply): Promise<string> {
  let text = "";
  for await (const chunk of chunksOf(reply)) text += chunk;
  return text;
}

export async function jsonOf(reply: Reply): Promise<JsonObject> {
  return JSON.parse(await textOf(reply)) as JsonObject;
}

/** The `data:` of each event, as it comes; `[DONE]` as the string "[DONE]", comments left out. */
export async function* framesOf(reply: Reply): AsyncGenerator<Json> {
  let rest = "";
  for await (const chunk of chunksOf(reply)) {
    rest += chunk;
    for (let end = rest.indexOf("\n\n"); end !== -1; end = rest.indexOf("\n\n")) {
      const frame = rest.slice(0, end);
      rest = rest.slice(end + 2);
      if (!frame.startsWith("data: ")) continue;
      const data = frame.slice(6);
      yield data === "[DONE]" ? data : (JSON.parse(data) as Json);
    }
  }
}

/** What a stream of chat chunks says in all. */
export interface Said {
  text: string;
  reasoning: string;
  calls: { id: string; name: string; arguments: string }[];
  finish: string | undefined;
  usage: JsonObject | undefined;
  error: JsonObject | undefined;
  done: boolean;
  models: Set<string>;
  chunks: JsonObject[];
}

export async function readChat(reply: Reply): Promise<Said> {
  const said: Said = {
    text: "",
    reasoning: "",
    calls: [],
    finish: undefined,
    usage: undefined,
    error: undefined,
    done: false,
    models: new Set(),
    chunks: [],
  };
  for await (const frame of framesOf(reply)) addFrame(said, frame);
  return said;
}

function addFrame(said: Said, frame: Json): void {
  if (frame === "[DONE]") {
    said.done = true;
    return;
  }
  const chunk = frame as JsonObject & {
    choices?: { delta?: JsonObject; finish_reason?: string | null }[];
    error?: JsonObject;
    usage?: JsonObject | null;
  };
  if (chunk.error !== undefined) {
    said.error = chunk.error;
    return;
  }
  said.chunks.push(chunk);
  said.models.add(String(chunk.model));
  said.usage = chunk.usage ?? said.usage;
  const choice = chunk.choices?.[0];
  const delta = choice?.delta ?? {};
  if (typeof delta.content === "string") said.text += delta.content;
  if (typeof delta.reasoning_content === "string") said.reasoning += delta.reasoning_content;
  for (const part of (delta.tool_calls ?? []) as {
    index: number;
    id?: string;
    function: { name?: string; arguments?: string };
  }[]) {
    const call = (said.calls[part.index] ??= { id: "", name: "", arguments: "" });
    call.id ||= part.id ?? "";
    call.name ||= part.function.name ?? "";
    call.arguments += part.function.arguments ?? "";
  }
  said.finish = choice?.finish_reason ?? said.finish;
}

/** The body as it comes. */
export async function* chunksOf(reply: Reply): AsyncGenerator<string> {
  const { body } = reply;
  if (body === null) return;
  if (typeof body === "string" || Buffer.isBuffer(body)) {
    yield body.toString();
    return;
  }
  const decoder = new TextDecoder();
  for await (const chunk of toIterable(body)) yield decoder.decode(chunk, { stream: true });
}

/** What a test opened: whatever is pushed here is closed after it. */
export function closedAfterEach(): (() => Promise<unknown>)[] {
  const open: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    await Promise.all(open.splice(0).map((close) => close()));
  });
  return open;
}
