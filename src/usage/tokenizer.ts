import { collect, isStream } from "../core/bytes.ts";
import { Call, type Handler, type Reply } from "../core/call.ts";
import { isObject, type Json } from "../core/json.ts";

/** Questions at a time; they must not crowd out those who wait for an answer. */
const mostAtATime = 2;
/** Further ones that may wait: when many clients leave at once, estimates do. */
const mostWaiting = 32;
/** Milliseconds for an answer. */
const patience = 10_000;
/** Bytes of an answer: token ids of 64 KB of text, with their punctuation, are a tenth of it. */
const longestReply = 4 * 1024 * 1024;

/** Asks the handler behind `/tokenize` how many tokens the call's model makes of a text; undefined: nobody can tell now. */
export function tokenizer(handler: Handler): (call: Call, text: string) => Promise<number | undefined> {
  let busy = 0;
  const waiting: (() => void)[] = [];
  return async (call, text) => {
    const model = call.demand?.model ?? "";
    if (model === "" || waiting.length >= mostWaiting) return undefined;
    if (busy >= mostAtATime) await new Promise<void>((resolve) => waiting.push(resolve));
    busy++;
    try {
      return await ask(handler, call, { model, text });
    } finally {
      busy--;
      waiting.shift()?.();
    }
  };
}

async function ask(
  handler: Handler,
  { id, principal }: Call,
  { model, text }: { readonly model: string; readonly text: string },
): Promise<number | undefined> {
  // llama-server reads one of the two names, vLLM the other.
  const body = { model, content: text, prompt: text, add_special: false, add_special_tokens: false };
  const call = new Call({
    id,
    method: "POST",
    path: "/tokenize",
    headers: { "content-type": "application/json" },
    signal: AbortSignal.timeout(patience),
    body: Buffer.from(JSON.stringify(body)),
  });
  call.principal = principal;
  const reply = await handler(call);
  const json = await readJson(reply);
  if (reply.status !== 200 || !isObject(json)) return undefined;
  const { count, tokens } = json;
  return typeof count === "number" && count >= 0 ? count : Array.isArray(tokens) ? tokens.length : undefined;
}

async function readJson({ body, encoding }: Reply): Promise<Json> {
  if (body === null) return null;
  const bytes = isStream(body)
    ? await collect(body, longestReply, () => new Error("the list of tokens is too long"))
    : Buffer.from(body as string, encoding);
  return JSON.parse(bytes.toString("utf8")) as Json;
}
