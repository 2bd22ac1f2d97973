import type { ChatEvent, Usage } from "../../core/chat.ts";
import type { JsonObject } from "../../core/json.ts";
import type { ReplyHead } from "../dialect.ts";

type Finish = Pick<ChatEvent & { readonly type: "finish" }, "usage" | "timings">;

/** When an answer began to be spoken: what its durations are told by where its engine does not tell them. */
export class Stopwatch {
  readonly #head: ReplyHead;
  #first: number | undefined;

  constructor(head: ReplyHead) {
    this.#head = head;
  }

  /** To be told of every event. */
  note({ type }: ChatEvent): void {
    if (type !== "progress") this.#first ??= this.#head.now();
  }

  /** The counts and durations of an answer that ends now; durations in nanoseconds, as Go writes them. */
  metrics({ usage, timings }: Finish): JsonObject {
    const { began, now } = this.#head;
    const end = now();
    const total = Math.max(0, end - began);
    const first = Math.min(Math.max(this.#first ?? end, began), end);
    const prompt = timings?.promptMs ?? first - began;
    const completion = timings?.completionMs ?? end - first;
    // Of the time before the work, an engine that tells its own leaves over what it took to load the model.
    const load = timings === undefined ? 0 : Math.max(0, total - timings.queuedMs - prompt - completion);
    return {
      total_duration: toNanoseconds(total),
      load_duration: toNanoseconds(load),
      prompt_eval_count: usage.promptTokens,
      prompt_eval_duration: toNanoseconds(prompt),
      eval_count: usage.completionTokens,
      eval_duration: toNanoseconds(completion),
    };
  }
}

/** `usage` and times of a call that made the model say nothing. */
export function quietMetrics({ began, now }: ReplyHead, usage?: Pick<Usage, "promptTokens">): JsonObject {
  return {
    total_duration: toNanoseconds(Math.max(0, now() - began)),
    load_duration: 0,
    ...(usage === undefined ? {} : { prompt_eval_count: usage.promptTokens }),
  };
}

function toNanoseconds(milliseconds: number): number {
  return Math.round(milliseconds * 1e6);
}
