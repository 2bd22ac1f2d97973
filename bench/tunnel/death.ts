import { type Bench, requestTo } from "../support/counting.ts";
import { kill, until } from "../support/processes.ts";
import { probe } from "../support/probe.ts";
import type { Proxy } from "../support/proxy.ts";
import type { Seen } from "../support/results.ts";
import { type Build, startTunnel } from "./contenders.ts";
import type { Figure } from "./figures.ts";

/** How a caller's request ended, and when, by `performance.now()`. */
interface End {
  readonly at: number;
  /** As if it had been answered in full. */
  readonly well: boolean;
}

/** Requests of each kind under way. */
const count = 10;
/** Seconds until a request that knows nothing of its agent's death is given up. */
const patience = 30;

/** The only agent is killed, then another one is frozen, while 10 streams run and 10 requests wait for their first byte. */
export async function measureDeath(bench: Bench, build: Build): Promise<Seen<Figure>> {
  const killed = await loseAgent(bench, build, "SIGKILL");
  const frozen = await loseAgent(bench, build, "SIGSTOP");
  return { killed: killed.seconds, frozen: frozen.seconds, ended_well: killed.well + frozen.well };
}

/** Seconds until the last of its callers knew, and how many were told nothing. */
async function loseAgent(
  bench: Bench,
  build: Build,
  signal: "SIGKILL" | "SIGSTOP",
): Promise<{ seconds: number; well: number }> {
  const tunnel = await startTunnel(build, bench.upstream.port);
  await probe(tunnel, bench.upstream);
  await bench.upstream.reset();
  const [, agent] = tunnel.programs;
  await bench.upstream.setMode({ events: 0, gapMicroseconds: 50_000 });
  const streams = await Promise.all(Array.from({ length: count }, () => ask(tunnel, true)));
  await Promise.all(streams.map(({ begun }) => begun));
  await bench.upstream.setMode("silent");
  const waiting = await Promise.all(Array.from({ length: count }, () => ask(tunnel, false)));
  await until("all requests at the runtime", 10, async () => (await bench.upstream.stats()).open === 2 * count);
  const lost = performance.now();
  process.kill(agent!.child.pid!, signal);
  const ends = await Promise.all([...streams, ...waiting].map(({ end }) => end));
  await kill(agent!.child);
  await tunnel.stop();
  await bench.upstream.reset();
  return {
    seconds: (Math.max(...ends.map(({ at }) => at)) - lost) / 1000,
    well: ends.filter(({ well }) => well).length,
  };
}

/** Sends a request. `begun`: the first bytes of an answer's body are there. */
async function ask(proxy: Proxy, stream: boolean): Promise<{ begun: Promise<void>; end: Promise<End> }> {
  const { port, headers, body } = requestTo(proxy, "0.6 KB", stream);
  let begin = () => {};
  const begun = new Promise<void>((resolve) => (begin = resolve));
  const answer = fetch(`http://127.0.0.1:${port}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body,
    signal: AbortSignal.timeout(patience * 1000),
  });
  return { begun, end: observe(answer, begin) };
}

/** An answer has ended well unless it is an error, was cut, or says in an event that it failed. */
async function observe(answer: Promise<Response>, begin: () => void): Promise<End> {
  let text = "";
  try {
    const response = await answer;
    const decoder = new TextDecoder();
    for await (const bytes of response.body!) {
      begin();
      text += decoder.decode(bytes as Uint8Array, { stream: true });
    }
    return { at: performance.now(), well: response.ok && !/^(event: error|data: \{"error")/m.test(text) };
  } catch {
    return { at: performance.now(), well: false };
  }
}
