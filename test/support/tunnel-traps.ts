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

/** A chain over a line that can be broken, and its end. */
async function withChain(
  work: (parts: { chain: Chain; runtime: SteeredRuntime; line: CutLine; where: string }) => Promise<void>,
  env: Record<string, string> = {},
): Promise<string[]> {
  const runtime = await SteeredRuntime.start();
  const uncaught: string[] = [];
  const keep = (error: unknown): void => void uncaught.push(`uncaught: ${String(error)}`);
  process.on("uncaughtException", keep).on("unhandledRejection", keep);
  let line: CutLine | undefined;
  try {
    const chain = await startChain({
      runtime: runtime.url,
      agentEnv: { LAIR_AGENT_CONNECTIONS: "1", ...env },
      front: async (url) => (line = await startCutLine(url)).url,
    });
    try {
      await work({ chain, runtime, line: line as CutLine, where: `${chain.url}/v1/chat/completions` });
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
  return uncaught;
}

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
async function halfOpen(repetitions: number): Promise<string[]> {
  const wrong: string[] = [];
  const uncaught = await withChain(async ({ chain, runtime, line, where }) => {
    for (let round = 0; round < repetitions; round++) {
      await chain.untilReady("home");
      const streams = await begin(runtime, where, 5);
      const before = performance.now();
      line.finish();
      const answers = await Promise.all(streams.map(([{ answer }]) => answer));
      const took = performance.now() - before;
      if (took > 4000) wrong.push(`round ${round}: callers were told after ${took.toFixed(0)} ms`);
      wrong.push(...answers.filter(({ clean }) => clean).map(() => `round ${round}: a clean end`));
      await runtime.idle();
    }
  });
  return [...wrong, ...uncaught];
}

/** Trap 2: the session dies in the middle of answers, in each of the ways in which it can. */
async function truncation(repetitions: number): Promise<string[]> {
  const wrong: string[] = [];
  const uncaught = await withChain(async ({ chain, runtime, line, where }) => {
    for (let round = 0; round < repetitions; round++) {
      await chain.untilReady("home");
      const streams = await begin(runtime, where, 10);
      // Some have said their last word when it happens, but not that it was.
      for (const [index, [, { reply }]] of streams.entries()) {
        if (index % 2 === 0) reply.write("data: [DONE]\n\n");
        else reply.write(chatEvent("x".repeat(round * 1000)));
      }
      const half = streams[0]?.[0];
      if (round % 3 === 0) line.cut();
      else if (round % 3 === 1) line.finish();
      else void half?.until(/DONE/).then(() => line.cut());
      const answers: Answer[] = await Promise.all(streams.map(([{ answer }]) => answer));
      wrong.push(...answers.filter(({ clean }) => clean).map(() => `round ${round}: a clean end`));
      await runtime.idle();
    }
  });
  return [...wrong, ...uncaught];
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
async function innerDeath(repetitions: number): Promise<string[]> {
  const wrong: string[] = [];
  const pouring = async ({
    chain,
    runtime,
    line,
    where,
  }: Parameters<Parameters<typeof withChain>[0]>[0]): Promise<void> => {
    for (let round = 0; round < repetitions; round++) {
      await chain.untilReady("home");
      const streams = await begin(runtime, where, 20);
      for (const [, { reply }] of streams) reply.write(Buffer.alloc(1024 * 1024, "x"));
      const text = JSON.stringify({ model: "demo", image: "x".repeat(4 * 1024 * 1024) });
      const upload = ask(where, { body: text, headers: { ...asCaller, "content-type": "application/json" } });
      await runtime.next();
      line.cut();
      const answers = await Promise.all(streams.map(([{ answer }]) => answer));
      wrong.push(...answers.filter(({ clean }) => clean).map(() => `round ${round}: a clean end`));
      const uploaded = await upload.catch((error: Error) => error);
      if (!(uploaded instanceof Error) && uploaded.status < 500)
        wrong.push(`round ${round}: upload ${uploaded.status}`);
      await runtime.idle();
    }
  };
  const uncaught = await withChain(pouring, { LAIR_AGENT_TRANSPORT: "ws" });
  return [...wrong, ...uncaught];
}

/** Trap 5: many callers of one connection leave in one moment; another goes on. */
async function departure(repetitions: number, callers: number): Promise<string[]> {
  const wrong: string[] = [];
  const uncaught = await withChain(async ({ chain, runtime, line, where }) => {
    for (let round = 0; round < repetitions; round++) {
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
      if (!(await bystander.answer).clean) wrong.push(`round ${round}: the bystander was cut`);
      if (line.connections() !== connections) wrong.push(`round ${round}: the tunnel was lost`);
      runtime.answering = undefined;
    }
  });
  return [...wrong, ...uncaught];
}
