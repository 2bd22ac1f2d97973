import { type Call, jsonReply, type Reply } from "../../src/core/call.ts";
import type { ByteSink, ByteStream } from "../../src/core/bytes.ts";
import { silent } from "../../src/core/log.ts";
import { listen } from "../../src/http/server.ts";
import { openState } from "../../src/open-state.ts";
import { accounting } from "../../src/usage/accounting.ts";
import { Journal } from "../../src/usage/journal.ts";
import { toPrices } from "../../src/usage/prices.ts";

// A program whose server counts what it answers, whole or in pieces: prints its port, then waits to be killed.
const [url = "", folder = ""] = process.argv.slice(2);
const state = await openState(url, { log: silent, replica: `server-${process.pid}` });
const journal = await Journal.open(folder, { state, log: silent });
const counting = accounting({ journal, prices: toPrices({}), capture: false });
const usage = { prompt_tokens: 10, completion_tokens: 3, total_tokens: 13 };

/** Three events, each in a turn of its own. */
function inPieces(): ByteStream {
  const events = [...["a", "b"].map((content) => ({ choices: [{ delta: { content } }] })), { choices: [], usage }];
  let cancelled = false;
  const push = (sink: ByteSink): void => {
    const event = events.shift();
    if (cancelled) return;
    if (event === undefined) return sink.end();
    sink.write(Buffer.from(`data: ${JSON.stringify(event)}\n\n`));
    setImmediate(push, sink);
  };
  return { start: push, resume() {}, cancel: () => (cancelled = true) };
}

let answers = 0;
function answer(): Promise<Reply> {
  if (++answers % 2 === 0) return Promise.resolve(jsonReply(200, { choices: [], usage }));
  return Promise.resolve({ status: 200, headers: { "content-type": "text/event-stream" }, body: inPieces() });
}

const server = await listen({
  host: "127.0.0.1",
  port: 0,
  handler: (call: Call) => counting(call, answer),
  log: silent,
  bodyLimit: 1 << 20,
  headerLimit: 8192,
  headersTimeout: 10_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 5000,
  stallTimeout: 60_000,
});
console.log(server.port);
