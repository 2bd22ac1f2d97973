import type { Socket } from "node:net";
import { type Answer, ask, type Exchange, open, openStalled } from "./tunnel-caller.ts";
import { makeCertificate } from "./tunnel-certificate.ts";
import { asCaller, type Chain, startChain } from "./tunnel-chain.ts";
import { waitUntil } from "./tunnel-log.ts";
import { type CutLine, startCutLine } from "./tunnel-lines.ts";
import { type Asked, beginStream, busyManner, chatEvent, SteeredRuntime } from "./tunnel-runtime.ts";

/**
 * What other tunnels over HTTP/2 have fallen into (measured with node's own: agents found dead after 9 s, broken
 * answers passed for whole ones, an aborted process, a storm of exceptions, a tunnel lost to its callers' leaving).
 */
export interface Trap {
  readonly name: string;
  /** How often `npm run test:traps` tries it, and `npm test`. */
  readonly repetitions: number;
  readonly few: number;
  /** Tries it that many times; gives what went wrong, one sentence each. */
  readonly run: (repetitions: number) => Promise<string[]>;
}

export const traps: readonly Trap[] = [
  { name: "a half-open connection is noticed at once", repetitions: 20, few: 3, run: halfOpen },
  { name: "a broken answer is never taken for a whole one", repetitions: 50, few: 8, run: truncation },
  { name: "attaching while the 101 is written, over TLS", repetitions: 24, few: 4, run: attaching },
  { name: "the socket below a WebSocket dies", repetitions: 30, few: 4, run: innerDeath },
  { name: "2,000 callers leave at once", repetitions: 1, few: 1, run: (times) => departure(times, 2000) },
];

const chat = { body: { model: "demo", messages: [], stream: true }, headers: asCaller };

interface Parts {
  readonly chain: Chain;
  readonly runtime: SteeredRuntime;
  readonly line: CutLine;
  readonly where: string;
  /** Which repetition this is, from 0. */
  readonly round: number;
}

/** Tries it so many times, each with a chain of its own: agents come back the later the more often they were cut. */
async function repeat(
  times: number,
  work: (parts: Parts) => Promise<string[]>,
  env: Record<string, string> = {},
): Promise<string[]> {
  const wrong: string[] = [];
  for (let round = 0; round < times; round++) {
    const problems = await withChain(async (parts) => work({ ...parts, round }), env);
    wrong.push(...problems.map((problem) => `round ${round}: ${problem}`));
  }
  return wrong;
}

/** A chain over a line that can be broken, and its end. Gives what the work found, and what nobody caught. */
async function withChain(
  work: (parts: Omit<Parts, "round">) => Promise<string[]>,
  env: Record<string, string>,
): Promise<string[]> {
  const runtime = await SteeredRuntime.start();
  const uncaught: string[] = [];
  const keep = (error: unknown): void => void uncaught.push(`uncaught: ${String(error)}`);
  process.on("uncaughtException", keep).on("unhandledRejection", keep);
  let line: CutLine | undefined;
  let wrong: string[] = [];
  try {
    const chain = await startChain({
      runtime: runtime.url,
      agentEnv: { LAIR_AGENT_CONNECTIONS: "1", ...env },
      front: async (url) => (line = await startCutLine(url)).url,
    });
    try {
      wrong = await work({ chain, runtime, line: line as CutLine, where: `${chain.url}/v1/chat/completions` });
    } finally {
      await chain.close();
    }
  } finally {
    await line?.close();
    await runtime.close();
    // What a closed connection still throws comes in the next turns.
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    process.off("uncaughtException", keep).off("unhandledRejection", keep);
  }
  return [...wrong, ...uncaught];
}

const cleanEnds = (answers: readonly Answer[]): string[] =>
  answers.filter(({ clean }) => clean).map(() => "a clean end of a broken answer");

/** Streams that have begun, with what the runtime holds of each. */
async function begin(runtime: SteeredRuntime, where: string, count: number): Promise<[Exchange, Asked][]> {
  return Promise.all(
    Array.from({ length: count }, async (): Promise<[Exchange, Asked]> => {
      const opening = open(where, chat);
      const asked = await runtime.next();
      beginStream(asked);
      asked.reply.write(chatEvent("begun "));
      const exchange = await opening;
      await exchange.until(/begun /);
      return [exchange, asked];
    }),
  );
}

/** Trap 1: the peer's FIN arrives and its socket stays open for writing. Its heartbeat would tell after 9 s. */
function halfOpen(repetitions: number): Promise<string[]> {
  return repeat(repetitions, async ({ runtime, line, where }) => {
    const streams = await begin(runtime, where, 5);
    const before = performance.now();
    line.finish();
    const answers = await Promise.all(streams.map(([{ answer }]) => answer));
    const took = performance.now() - before;
    await runtime.idle();
    return took > 4000 ? [`callers were told after ${took.toFixed(0)} ms`] : cleanEnds(answers);
  });
}

/** Trap 2: the session dies in the middle of answers, in each of the ways in which it can. */
function truncation(repetitions: number): Promise<string[]> {
  return repeat(repetitions, async ({ runtime, line, where, round }) => {
    const streams = await begin(runtime, where, 10);
    // Some have said their last word when it happens, but not that it was.
    for (const [index, [, { reply }]] of streams.entries())
      reply.write(index % 2 === 0 ? "data: [DONE]\n\n" : chatEvent("x".repeat(round * 1000)));
    if (round % 3 === 0) line.cut();
    else if (round % 3 === 1) line.finish();
    else void streams[0]?.[0].until(/DONE/).then(() => line.cut());
    const answers = await Promise.all(streams.map(([{ answer }]) => answer));
    await runtime.idle();
    return cleanEnds(answers);
  });
}

/** Trap 3: the session begins while the answer to the upgrade is on its way into a TLS socket. */
async function attaching(repetitions: number): Promise<string[]> {
  const certificate = makeCertificate();
  if (certificate === undefined) throw new Error("openssl, which makes the certificate, is not installed");
  const wrong: string[] = [];
  const runtime = await SteeredRuntime.start(busyManner(1));
  const chain = await startChain({
    runtime: runtime.url,
    agents: [],
    relayEnv: { LAIR_RELAY_TLS_CERT: certificate.cert, LAIR_RELAY_TLS_KEY: certificate.key },
    agentEnv: { LAIR_AGENT_TLS_CA: certificate.cert, LAIR_AGENT_CONNECTIONS: "4" },
  });
  try {
    for (let round = 0; round < repetitions; round++) {
      const agent = await chain.addAgent(`a${round}`);
      const body = { ...chat.body, model: `a${round}/demo`, max_tokens: 1 };
      const answer = await ask(`${chain.url}/v1/chat/completions`, { ...chat, body, ca: certificate.cert });
      if (!answer.clean || answer.status !== 200) wrong.push(`round ${round}: ${answer.status} ${answer.text}`);
      await agent.close();
    }
  } finally {
    await chain.close();
    await runtime.close();
    certificate.remove();
  }
  return wrong;
}

/** Trap 4: a WebSocket's socket dies while streams pour through it in both directions. */
function innerDeath(repetitions: number): Promise<string[]> {
  const pouring = async ({ runtime, line, where }: Parts): Promise<string[]> => {
    const streams = await begin(runtime, where, 20);
    for (const [, { reply }] of streams) reply.write(Buffer.alloc(1024 * 1024, "x"));
    const text = JSON.stringify({ model: "demo", image: "x".repeat(4 * 1024 * 1024) });
    const upload = ask(where, { body: text, headers: { ...asCaller, "content-type": "application/json" } });
    const uploading = await runtime.next();
    uploading.body().catch(() => undefined);
    line.cut();
    const answers = await Promise.all(streams.map(([{ answer }]) => answer));
    const uploaded = await upload.catch((error: Error) => error);
    await runtime.idle();
    const answered = uploaded instanceof Error || uploaded.status >= 500 ? [] : [`an upload got ${uploaded.status}`];
    return [...cleanEnds(answers), ...answered];
  };
  return repeat(repetitions, pouring, { LAIR_AGENT_TRANSPORT: "ws" });
}

/** Trap 5: many callers of one connection leave in one moment; another goes on. */
function departure(repetitions: number, callers: number): Promise<string[]> {
  return repeat(repetitions, async ({ chain, runtime, line, where }) => {
    const [[bystander, held]] = (await begin(runtime, where, 1)) as [[Exchange, Asked]];
    runtime.answering = (asked) => beginStream(asked);
    const sockets: Socket[] = [];
    while (sockets.length < callers) {
      for (let one = 0; one < 100; one++)
        sockets.push(openStalled(chain.url, "/v1/chat/completions", chat.body, asCaller));
      await waitUntil(() => runtime.open === sockets.length + 1, `${sockets.length} streams are open`);
    }
    const connections = line.connections();
    for (const socket of sockets) socket.destroy();
    await waitUntil(() => runtime.open === 1, "the runtime has nothing to do but the bystander's stream");
    held.reply.write(chatEvent("still here"));
    await bystander.until(/still here/);
    held.reply.end("data: [DONE]\n\n");
    const { clean } = await bystander.answer;
    return [
      ...(clean ? [] : ["the bystander was cut"]),
      ...(line.connections() === connections ? [] : ["the tunnel was lost"]),
    ];
  });
}
