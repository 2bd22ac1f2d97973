import { rmSync } from "node:fs";
import { residentMegabytes } from "../support/processes.ts";
import { type Seen, type Stream, chat, complete, embed } from "./client.ts";
import type { Contender } from "./contenders.ts";
import type { Figure } from "./figures.ts";
import type { MeasureName } from "./options.ts";
import { vocabulary } from "./models.ts";

/** Values of one round of one contender. */
export type Round = Partial<Record<Figure, number>>;

/** Prompts of random tokens: no two are alike, so no cache can know them. */
export function randomPrompt(length: number): number[] {
  // The first tokens are single bytes and the last ones control tokens.
  return Array.from({ length }, () => 256 + Math.floor(Math.random() * (vocabulary - 1000)));
}

/** Tokens per second at which a prompt is taken in, by the time to the first token. */
async function measurePrompts(contender: Contender): Promise<Round> {
  const short = await complete(contender, randomPrompt(512), 1).seen;
  const long = await complete(contender, randomPrompt(2048), 1).seen;
  return { prompt_512: 512_000 / short.first, prompt_2048: 2_048_000 / long.first };
}

/** Tokens per second of 1, 4 and 8 streams together. */
async function measureDecode(contender: Contender): Promise<Round> {
  return {
    decode_1: await decode(contender, 1, 128),
    decode_4: await decode(contender, 4, 64),
    decode_8: await decode(contender, 8, 64),
  };
}

async function decode(contender: Contender, streams: number, tokens: number): Promise<number> {
  return together(Array.from({ length: streams }, () => complete(contender, randomPrompt(16), tokens)));
}

/** The same for 8 chats. */
async function measureChat(contender: Contender): Promise<Round> {
  const words = randomPrompt(8).join(" ");
  const streams = Array.from({ length: 8 }, (_, number) => chat(contender, `${number} ${words}`, 64));
  return { chat_8: await together(streams) };
}

/**
 * Tokens per second while all of them run: from the last first token to the first end. (Before that the servers differ
 * in whether they let streams that have begun wait for the others' prompts.)
 */
async function together(streams: readonly Stream[]): Promise<number> {
  const seen = await Promise.all(streams.map((stream) => stream.seen));
  const begin = Math.max(...seen.map(({ first }) => first));
  const end = Math.min(...seen.map((one) => one.pieces.at(-1) ?? 0));
  if (end <= begin) throw new Error("the streams did not run at the same time");
  const counts = seen.map(({ pieces, completionTokens }) => {
    const within = pieces.filter((at) => at > begin && at <= end).length;
    // Half a character waits for its other half, so a piece may be several tokens.
    return (within * completionTokens) / pieces.length;
  });
  return (1000 * counts.reduce((sum, count) => sum + count, 0)) / (end - begin);
}

/** Milliseconds to the first token of a 4k prompt of which all but 16 tokens were read by the request before. */
async function measureWarm(contender: Contender, prefix: readonly number[]): Promise<Round> {
  const seen = await complete(contender, [...prefix, ...randomPrompt(16)], 1).seen;
  return { warm_first: expectCached(contender, seen, prefix.length * 0.9) };
}

function expectCached(contender: Contender, seen: Seen, least: number): number {
  if (seen.cachedTokens < least)
    throw new Error(`${contender.name} found ${seen.cachedTokens} tokens in its cache instead of ${least}`);
  return seen.first;
}

/** Seconds until the last first token of 8 requests that begin with the same new 2k tokens and go on with 16 of their own. */
async function measureShared(contender: Contender): Promise<Round> {
  const prefix = randomPrompt(2048);
  const streams = Array.from({ length: 8 }, () => complete(contender, [...prefix, ...randomPrompt(16)], 2));
  const seen = await Promise.all(streams.map((stream) => stream.seen));
  return { shared_last: Math.max(...seen.map(({ first }) => first)) / 1000 };
}

/**
 * A 4k prompt read cold, then read again by a server that was started anew; the load is excluded by a short request
 * before. The share of the cold time in percent.
 */
export async function measureRestart(start: () => Promise<Contender>, cache: string): Promise<Round> {
  rmSync(cache, { recursive: true, force: true });
  const prompt = randomPrompt(4096);
  const before = await start();
  await complete(before, randomPrompt(8), 1).seen;
  const cold = await complete(before, prompt, 4).seen;
  await before.stop();
  const after = await start();
  await complete(after, randomPrompt(8), 1).seen;
  const warm = await complete(after, prompt, 1).seen;
  await after.stop();
  expectCached(after, warm, 4000);
  return { restart_cold: cold.first, restart_first: warm.first, restart_share: (100 * warm.first) / cold.first };
}

const sentences = Array.from({ length: 64 }, (_, number) => `the cat number ${number} sat on a mat and saw the rain`);

/** Vectors per second, 64 short inputs in one request. */
export async function measureEmbeddings(contender: Contender): Promise<Round> {
  const milliseconds = await embed(contender, sentences);
  return { embeddings: (sentences.length * 1000) / milliseconds };
}

/** Milliseconds from the client's leaving in the midst of a 4k prompt to the first token of the next request, less what that takes alone. */
async function measureAbort(contender: Contender): Promise<Round> {
  const alone = await complete(contender, randomPrompt(4), 1).seen;
  const long = complete(contender, randomPrompt(4096), 1);
  // Two seconds into a prompt that takes ten or more.
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const left = performance.now();
  long.leave();
  await complete(contender, randomPrompt(4), 1).seen;
  return { abort: Math.max(0, performance.now() - left - alone.end) };
}

/** The longest silence of a running stream, in seconds, while another client's 4k prompt is taken in. */
async function measureStall(contender: Contender): Promise<Round> {
  const stream = complete(contender, randomPrompt(16), 400);
  await stream.started;
  const other = complete(contender, randomPrompt(4096), 1);
  await other.seen;
  stream.leave();
  return { stall: stream.longestGap() / 1000 };
}

/** Resident memory of all its processes after the decode measures, in MB. */
function measureMemory(contender: Contender): Round {
  return { memory: residentMegabytes(contender.pids()) };
}

export interface Step {
  readonly name: MeasureName;
  readonly measure: (contender: Contender, prefix: readonly number[]) => Promise<Round> | Round;
}

/** What both servers are asked, in this order: `warm` comes first, while the prefix is still in everybody's cache; memory after all slots have been full. */
export const steps: readonly Step[] = [
  { name: "warm", measure: measureWarm },
  { name: "prompts", measure: measurePrompts },
  { name: "decode", measure: measureDecode },
  { name: "chat", measure: measureChat },
  { name: "abort", measure: measureAbort },
  { name: "stall", measure: measureStall },
  { name: "shared", measure: measureShared },
  { name: "memory", measure: measureMemory },
];
