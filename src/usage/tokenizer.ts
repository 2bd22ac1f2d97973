import { collect, isStream } from "../core/bytes.ts";
import { Call, type Handler, type Reply } from "../core/call.ts";
import { isObject } from "../core/json.ts";
import { parseJson } from "../core/parse-json.ts";

/** Milliseconds that it may take, and bytes of its answer that are read. */
const patience = 5000;
const mostBytes = 16 * 1024 * 1024;

/** Asks the call's own model, by `/tokenize` of `handler`, how many tokens a text is; undefined when it cannot tell. Rejects as the handler does. */
export function tokenizer(handler: Handler): (call: Call, text: string) => Promise<number | undefined> {
  return async ({ id, demand, principal }, text) => {
    // The client may be gone: this is asked for our own sake.
    const question = new Call({
      id,
      method: "POST",
      path: "/tokenize",
      headers: { "content-type": "application/json" },
      signal: AbortSignal.timeout(patience),
      body: Buffer.from(JSON.stringify({ model: demand?.model, content: text })),
    });
    question.principal = principal;
    const reply = await handler(question);
    const answer = reply.status === 200 ? parseJson(await toBytes(reply)) : undefined;
    return isObject(answer) && Array.isArray(answer["tokens"]) ? answer["tokens"].length : undefined;
  };
}

function toBytes({ body, encoding }: Reply): Promise<Buffer> | Buffer {
  if (isStream(body)) return collect(body, mostBytes, () => new Error("the tokenizer's answer is too large"));
  return typeof body === "string" ? Buffer.from(body, encoding) : Buffer.from(body ?? "");
}
