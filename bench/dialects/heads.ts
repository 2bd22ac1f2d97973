import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import type { Proxy } from "../support/proxy.ts";

/** Milliseconds from a request to the first byte of its answer's body; the answer is read to its end, or left there. */
export async function firstByte(
  proxy: Pick<Proxy, "port" | "headers">,
  body: object,
  { whole }: { readonly whole: boolean },
): Promise<number> {
  const headers = { "content-type": "application/json", ...proxy.headers };
  const asked = request({ port: proxy.port, path: "/v1/chat/completions", method: "POST", headers });
  const began = performance.now();
  asked.end(JSON.stringify(body));
  const [reply] = (await once(asked, "response")) as [IncomingMessage];
  await once(reply, "data");
  const milliseconds = performance.now() - began;
  if (reply.statusCode !== 200) throw new Error(`the answer's status is ${reply.statusCode}`);
  if (whole) {
    reply.resume();
    await once(reply, "end");
  } else asked.destroy();
  return milliseconds;
}
