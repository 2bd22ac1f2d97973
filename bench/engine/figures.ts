import type { FigureGoal } from "../support/goals.ts";

/** What is measured: key → how the table calls it, and its decimals. */
export const figures = {
  prompt_512: ["prompt of 512 tokens, tokens/s", 1],
  prompt_2048: ["prompt of 2,048 tokens, tokens/s", 1],
  decode_1: ["1 stream, tokens/s", 1],
  decode_4: ["4 streams, tokens/s together", 1],
  decode_8: ["8 streams, tokens/s together", 1],
  chat_8: ["8 chats, tokens/s together", 1],
  memory: ["memory, MB resident", 0],
  warm_first: ["first token, warm 4k prefix, ms", 0],
  shared_last: ["8 requests share a new 2k prompt: last first token, s", 2],
  restart_cold: ["first token of a 4k prompt, cold, ms", 0],
  restart_first: ["the same after a restart, ms", 0],
  restart_share: ["the share of it, %", 2],
  embeddings: ["64 short embeddings, vectors/s", 1],
  abort: ["left in a 4k prompt: until the next is served, ms", 1],
  stall: ["longest silence while a 4k prompt is taken in, s", 3],
} as const satisfies Record<string, readonly [title: string, decimals: number]>;

export type Figure = keyof typeof figures;

/** A promise: lair's figure divided by llama-server's, or lair's own where `alone`. */
interface EngineGoal extends Omit<FigureGoal<Figure>, "against"> {
  readonly alone?: true;
}

const promises: readonly EngineGoal[] = [
  { title: "prompt 512", figure: "prompt_512", better: "higher", must: 0.95, aim: 1, unit: "×" },
  { title: "prompt 2048", figure: "prompt_2048", better: "higher", must: 0.95, aim: 1, unit: "×" },
  { title: "decode, 1 stream", figure: "decode_1", better: "higher", must: 0.95, aim: 1.05, unit: "×" },
  { title: "decode, 4 streams", figure: "decode_4", better: "higher", must: 0.95, aim: 1.05, unit: "×" },
  { title: "decode, 8 streams", figure: "decode_8", better: "higher", must: 0.95, aim: 1.05, unit: "×" },
  { title: "chat completions, 8 streams", figure: "chat_8", better: "higher", must: 0.95, aim: 1, unit: "×" },
  { title: "first token, warm 4k prefix", figure: "warm_first", better: "lower", must: 1.1, aim: 0.8, unit: "×" },
  {
    title: "8 share a 2k prompt, last first token",
    figure: "shared_last",
    better: "lower",
    must: 0.3,
    aim: 0.14,
    unit: "×",
  },
  {
    title: "first token after a restart, of cold",
    figure: "restart_share",
    alone: true,
    better: "lower",
    must: 5,
    aim: 2,
    unit: " %",
  },
  { title: "embeddings, 64 short inputs", figure: "embeddings", better: "higher", must: 0.5, aim: 1, unit: "×" },
  { title: "memory", figure: "memory", better: "lower", must: 1.15, aim: 1, unit: "×" },
  { title: "abort of a 4k prompt", figure: "abort", alone: true, better: "lower", must: 100, aim: 20, unit: " ms" },
  {
    title: "stall of a running stream",
    figure: "stall",
    alone: true,
    better: "lower",
    must: 0.5,
    aim: 0.2,
    unit: " s",
  },
];

/** What the project promises of its engine. */
export const goals: readonly FigureGoal<Figure>[] = promises.map(({ alone, ...goal }) =>
  alone === true ? goal : { ...goal, against: "llama-server" },
);
