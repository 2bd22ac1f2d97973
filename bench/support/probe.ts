import { chatBody } from "./bodies.ts";
import type { Proxy } from "./proxy.ts";
import type { Upstream } from "./upstream.ts";

interface Answer {
  readonly model?: string;
  readonly choices?: readonly {
    readonly finish_reason?: string | null;
    readonly message?: { readonly content?: string };
  }[];
}

/** Makes sure that a proxy really does its work before it is measured. Throws, saying what is wrong. */
export async function probe(proxy: Proxy, upstream: Upstream): Promise<void> {
  await upstream.setMode("json");
  const reply = await post(proxy, false);
  const answer = (await reply.json()) as Answer;
  expect(proxy, reply.status === 200 && (answer.choices?.[0]?.message?.content?.length ?? 0) > 100, answer);
  expectModel(proxy, answer);
  await upstream.setMode({ events: 5, gapMicroseconds: 0 });
  const text = await (await post(proxy, true)).text();
  const data = text
    .split("\n\n")
    .filter((event) => event.startsWith("data: "))
    .map((event) => event.slice(6));
  expect(proxy, data.length === 9 && data.at(-1) === "[DONE]", text);
  const chunks = data.slice(0, -1).map((line) => JSON.parse(line) as Answer);
  expect(
    proxy,
    chunks.some((chunk) => chunk.choices?.[0]?.finish_reason === "stop"),
    text,
  );
  for (const chunk of chunks) expectModel(proxy, chunk);
  if (proxy.name !== "lair") return;
  const refused = await post({ ...proxy, headers: {} }, false);
  expect(proxy, refused.status === 401, "a request without a key is not refused");
}

function post(proxy: Proxy, stream: boolean): Promise<Response> {
  const headers = { "content-type": "application/json", ...proxy.headers };
  const body = chatBody(proxy.model, "0.6 KB", stream);
  return fetch(`http://127.0.0.1:${proxy.port}/v1/chat/completions`, { method: "POST", headers, body });
}

function expectModel(proxy: Proxy, answer: Answer): void {
  expect(proxy, answer.model === proxy.model, `the reply's model is ${answer.model}, not ${proxy.model}`);
}

function expect(proxy: Proxy, holds: boolean, seen: unknown): void {
  if (holds) return;
  throw new Error(
    `${proxy.name} does not answer as it should: ${typeof seen === "string" ? seen : JSON.stringify(seen)}`,
  );
}
