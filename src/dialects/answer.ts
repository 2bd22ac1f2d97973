import type { ChatEvent, FinishReason, Timings, TokenLogprob, ToolCall, Usage } from "../core/chat.ts";
import { ApiError } from "../core/errors.ts";
import type { ChoiceEvent } from "./dialect.ts";

/** One whole answer. */
export interface Answer {
  readonly text: string;
  readonly reasoning: string;
  /** In the order of their indexes; ids are never empty. */
  readonly toolCalls: ToolCall[];
  readonly logprobs: TokenLogprob[];
  /** Log probabilities of the prompt, where they were asked for. */
  readonly prompt?: ChatEvent & { readonly type: "logprobs" };
  readonly reason: FinishReason;
  /** The one that ended it, where its engine tells. */
  readonly stopSequence?: string;
  readonly usage: Usage;
  /** Where its engine tells. */
  readonly timings?: Timings;
}

/**
 * All events of a chat → its `count` answers, in the order of their indexes. `callId` invents the id of a tool call
 * that has none. Throws `upstream_error` when an answer has no finish, and whatever `events` throws.
 */
export async function collectAnswers(
  events: AsyncIterable<ChoiceEvent>,
  count: number,
  callId: (choice: number, index: number) => string,
): Promise<Answer[]> {
  const drafts = Array.from({ length: count }, (_, choice) => new Draft(choice, callId));
  let open = count;
  for await (const { choice, event } of events) {
    const draft = drafts[choice];
    if (draft === undefined || draft.finished !== undefined) continue;
    draft.add(event);
    if (event.type === "finish" && --open === 0) break;
  }
  return drafts.map((draft) => draft.answer());
}

/** The usage of all answers together: they share one prompt. */
export function totalUsage(usages: readonly Usage[]): Usage {
  const sum = (read: (usage: Usage) => number | undefined): number | undefined => {
    const known = usages.map(read).filter((value) => value !== undefined);
    return known.length === 0 ? undefined : known.reduce((total, value) => total + value, 0);
  };
  const [first] = usages;
  const reasoningTokens = sum((usage) => usage.reasoningTokens);
  const acceptedDraftTokens = sum((usage) => usage.acceptedDraftTokens);
  const rejectedDraftTokens = sum((usage) => usage.rejectedDraftTokens);
  return {
    promptTokens: first?.promptTokens ?? 0,
    completionTokens: sum((usage) => usage.completionTokens) ?? 0,
    ...(first?.cachedTokens === undefined ? {} : { cachedTokens: first.cachedTokens }),
    ...(reasoningTokens === undefined ? {} : { reasoningTokens }),
    ...(acceptedDraftTokens === undefined ? {} : { acceptedDraftTokens }),
    ...(rejectedDraftTokens === undefined ? {} : { rejectedDraftTokens }),
  };
}

/** A model that has called a tool stops for that, even where its server (Ollama) knows no such reason. */
export function reasonWith(hasToolCalls: boolean, reason: FinishReason): FinishReason {
  return hasToolCalls && reason === "stop" ? "tool-calls" : reason;
}

/** What a reply without its end is: never to be mistaken for a complete one. */
export function endedEarly(): ApiError {
  return new ApiError("upstream_error", "stream ended early: the answer has no finish reason");
}

interface DraftCall {
  id: string;
  name: string;
  arguments: string;
}

class Draft {
  readonly #choice: number;
  readonly #callId: (choice: number, index: number) => string;
  readonly #calls = new Map<number, DraftCall>();
  readonly #logprobs: TokenLogprob[] = [];
  #prompt: (ChatEvent & { readonly type: "logprobs" }) | undefined;
  #text = "";
  #reasoning = "";
  finished: (ChatEvent & { readonly type: "finish" }) | undefined;

  constructor(choice: number, callId: (choice: number, index: number) => string) {
    this.#choice = choice;
    this.#callId = callId;
  }

  add(event: ChoiceEvent["event"]): void {
    if (event.type === "text") this.#text += event.text;
    else if (event.type === "reasoning") this.#reasoning += event.text;
    else if (event.type === "logprobs" && event.prompt !== undefined) this.#prompt = event;
    else if (event.type === "logprobs") this.#logprobs.push(...event.tokens);
    else if (event.type === "finish") this.finished = event;
    else if (event.type === "tool-call") {
      const call = this.#calls.get(event.index) ?? { id: "", name: "", arguments: "" };
      this.#calls.set(event.index, call);
      if (call.id === "") call.id = event.id ?? "";
      if (call.name === "") call.name = event.name ?? "";
      call.arguments += event.arguments;
    }
  }

  answer(): Answer {
    if (this.finished === undefined) throw endedEarly();
    const indexed = [...this.#calls].toSorted(([left], [right]) => left - right);
    const toolCalls = indexed.map(([index, call]) => ({
      ...call,
      id: call.id === "" ? this.#callId(this.#choice, index) : call.id,
    }));
    const { reason, usage, timings, stopSequence } = this.finished;
    return {
      text: this.#text,
      reasoning: this.#reasoning,
      toolCalls,
      logprobs: this.#logprobs,
      ...(this.#prompt === undefined ? {} : { prompt: this.#prompt }),
      reason: reasonWith(toolCalls.length > 0, reason),
      ...(stopSequence === undefined ? {} : { stopSequence }),
      usage,
      ...(timings === undefined ? {} : { timings }),
    };
  }
}
