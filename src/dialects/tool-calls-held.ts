import type { ChatEvent, ChatRequest, Message, ToolCall } from "../core/chat.ts";
import { toApiError } from "../core/errors.ts";
import { readableArguments } from "./history.ts";
import { offeredTools, type RepairedCall, repairCall } from "./tool-repair.ts";

/** A call that no certain repair puts right. */
export interface WrongCall {
  /** The name that the model wrote, and what is wrong: both cut to what a log line takes. No value of the arguments. */
  readonly tool: string;
  readonly problem: string;
  /** Whether the model is asked once more; else the call goes on as it is. */
  readonly asked: boolean;
}

export interface HeldCalls {
  readonly request: ChatRequest;
  /** Asks for another answer; absent where that cannot be. */
  readonly again?: (request: ChatRequest) => AsyncIterable<ChatEvent>;
  /** Whether a part of the answer has gone to the client already. */
  readonly said?: boolean;
  readonly onWrong?: (wrong: WrongCall) => void;
}

/** Most characters of calls that are held; longer ones go on as they come. */
const mostHeld = 4 * 1024 * 1024;

/**
 * The events with sound tool calls. A call's fragments are held until it is complete, then it goes on in one event,
 * repaired where the repair is certain; everything else passes at once, and a word that a call begins. Where calls are wrong beyond that and nothing of
 * the answer has gone out, the model is told what is wrong and asked once more; else the client gets them as they are.
 * With `parallelToolCalls` false, one call goes on and no other. Without tools, the events as they are.
 */
export function holdToolCalls(events: AsyncIterable<ChatEvent>, held: HeldCalls): AsyncIterable<ChatEvent> {
  if (offeredTools(held.request).length === 0) return events;
  return { [Symbol.asyncIterator]: () => new HeldEvents(events, held) };
}

type Finish = Extract<ChatEvent, { type: "finish" }>;
type CallEvent = Extract<ChatEvent, { type: "tool-call" }>;

interface OpenCall {
  readonly index: number;
  id: string;
  name: string;
  arguments: string;
}

interface JudgedCall {
  readonly call: OpenCall;
  readonly repaired: RepairedCall;
}

/** The end of an answer that nobody has been given yet. */
interface HeldEnd {
  /** Text and thinking of an answer that is not streamed. */
  readonly unsaid: readonly ChatEvent[];
  readonly calls: readonly JudgedCall[];
  readonly finish: Finish;
}

class HeldEvents implements AsyncIterator<ChatEvent> {
  readonly #held: HeldCalls;
  readonly #asked: ChatRequest;
  #events: AsyncIterator<ChatEvent>;
  readonly #ready: ChatEvent[] = [];
  #unsaid: ChatEvent[] = [];
  /** In the order of their beginnings. */
  #open: OpenCall[] = [];
  readonly #passed = new Set<number>();
  readonly #ids = new Set<string>();
  #size = 0;
  #said: boolean;
  /** The answer with the wrong calls, once the model has been asked again: it goes on when the second one fails. */
  #first: HeldEnd | undefined;
  /** What is to be asked next. */
  #correction: ChatRequest | undefined;

  constructor(events: AsyncIterable<ChatEvent>, held: HeldCalls) {
    this.#events = events[Symbol.asyncIterator]();
    this.#held = held;
    this.#asked = held.request;
    this.#said = held.said ?? false;
  }

  next(): Promise<IteratorResult<ChatEvent>> {
    const value = this.#ready.shift();
    return value === undefined ? this.#pull() : Promise.resolve({ done: false, value });
  }

  async return(): Promise<IteratorResult<ChatEvent>> {
    await this.#events.return?.();
    return { done: true, value: undefined };
  }

  async #pull(): Promise<IteratorResult<ChatEvent>> {
    for (;;) {
      const step = await this.#step();
      if (step?.done === true) return step;
      if (step !== undefined) this.#read(step.value);
      const value = this.#ready.shift();
      if (value !== undefined) return { done: false, value };
    }
  }

  /** Undefined: the second answer has failed, and the first one goes on. */
  async #step(): Promise<IteratorResult<ChatEvent> | undefined> {
    try {
      if (this.#correction !== undefined) await this.#askAgain(this.#correction);
      return await this.#events.next();
    } catch (thrown) {
      const first = this.#first;
      if (first === undefined || this.#said || toApiError(thrown).code === "client_closed_request") throw thrown;
      this.#events = nothing();
      this.#deliver(first);
      return undefined;
    }
  }

  async #askAgain(correction: ChatRequest): Promise<void> {
    this.#correction = undefined;
    // A server that takes one call at a time must be done with the first.
    await this.#events.return?.();
    this.#events = this.#held.again?.(correction)[Symbol.asyncIterator]() ?? nothing();
  }

  #read(event: ChatEvent): void {
    if (event.type === "tool-call") this.#readCall(event);
    else if (event.type === "finish") this.#finish(event);
    else if (event.type === "progress") this.#ready.push(event);
    else if (this.#keepsAll()) this.#unsaid.push(event);
    else {
      this.#said = true;
      this.#ready.push(event);
    }
  }

  #readCall(event: CallEvent): void {
    if (this.#passed.has(event.index)) return this.#passOn(event);
    let call = this.#open.find(({ index }) => index === event.index);
    if (call === undefined) {
      this.#passSound();
      this.#ready.push({ type: "progress", phase: "calling", accepted: true });
      call = { index: event.index, id: "", name: "", arguments: "" };
      this.#open.push(call);
    }
    if (call.id === "") call.id = event.id ?? "";
    if (call.name === "") call.name = event.name ?? "";
    call.arguments += event.arguments;
    this.#size += event.arguments.length;
    if (this.#size > mostHeld) this.#giveUp();
  }

  /** The calls before one that begins, as far as they are sound. Others may still go on: some servers take turns. */
  #passSound(): void {
    if (this.#keepsAll()) return;
    for (let first = this.#open[0]; first !== undefined; first = this.#open[0]) {
      const repaired = this.#repair(first, false);
      if (repaired.problem !== undefined || repaired.arguments !== first.arguments) return;
      this.#pass({ call: first, repaired });
    }
  }

  #finish(finish: Finish): void {
    const whole = finish.reason === "stop" || finish.reason === "tool-calls";
    const calls = this.#open.map((call) => ({ call, repaired: this.#repair(call, whole) }));
    const wrong = calls.filter(({ repaired }) => repaired.problem !== undefined);
    const asked = wrong.length > 0 && whole && this.#mayAskAgain();
    for (const { call, repaired } of wrong)
      this.#held.onWrong?.({ tool: call.name.slice(0, 64), problem: (repaired.problem ?? "").slice(0, 200), asked });
    const end: HeldEnd = { unsaid: this.#unsaid, calls, finish };
    if (!asked) return this.#deliver(this.#first === undefined ? end : { ...end, finish: withFirst(end, this.#first) });
    this.#first = end;
    this.#correction = { ...this.#asked, messages: [...this.#asked.messages, ...toCorrection(end)] };
    this.#open = [];
    this.#unsaid = [];
    this.#size = 0;
  }

  #mayAskAgain(): boolean {
    return this.#held.again !== undefined && !this.#said && this.#first === undefined;
  }

  /** Of an answer that is not streamed nobody sees a part before its end. */
  #keepsAll(): boolean {
    return !this.#asked.stream && this.#mayAskAgain();
  }

  #repair(call: OpenCall, whole: boolean): RepairedCall {
    return repairCall(call, offeredTools(this.#asked), whole);
  }

  #deliver({ unsaid, calls, finish }: HeldEnd): void {
    this.#ready.push(...unsaid);
    for (const judged of calls) this.#pass(judged);
    this.#ready.push(finish);
  }

  /** Too much to hold: everything as it is. */
  #giveUp(): void {
    this.#ready.push(...this.#unsaid);
    this.#unsaid = [];
    for (const call of this.#open) this.#pass({ call, repaired: call });
  }

  #pass({ call: { index, id }, repaired: { name, arguments: text } }: JudgedCall): void {
    this.#open = this.#open.filter((call) => call.index !== index);
    this.#passed.add(index);
    // Of two calls with one id, the second gets another where it is written.
    const own = id === "" || this.#ids.has(id) ? {} : { id };
    this.#ids.add(id);
    this.#passOn({ type: "tool-call", index, ...own, name, arguments: text });
  }

  #passOn(event: CallEvent): void {
    const [first] = this.#passed;
    if (!this.#asked.parallelToolCalls && event.index !== first) return;
    this.#said = true;
    this.#ready.push(event);
  }
}

/** The prompt is the client's own; what was written is both answers. */
function withFirst({ finish }: HeldEnd, { finish: { usage: first } }: HeldEnd): Finish {
  const completionTokens = first.completionTokens + finish.usage.completionTokens;
  return { ...finish, usage: { ...finish.usage, promptTokens: first.promptTokens, completionTokens } };
}

/** The answer as the model gave it, each call with what was wrong for its result. */
function toCorrection({ unsaid, calls }: HeldEnd): Message[] {
  const made = calls.map(({ call }): ToolCall => {
    const id = call.id === "" ? `call_again_${call.index}` : call.id;
    return { id, name: call.name === "" ? "unknown" : call.name, arguments: readableArguments(call.arguments) };
  });
  const text = unsaid.map((event) => (event.type === "text" ? event.text : "")).join("");
  const results = calls.map(({ repaired: { problem } }, index): Message => {
    const { id, name } = made[index] as ToolCall;
    const said =
      problem === undefined
        ? "Not run, for another call was wrong. Make this call again."
        : `Error: ${problem}. Make this call again, with arguments that fit its schema.`;
    return { role: "tool", toolCallId: id, name, content: [{ type: "text", text: said }] };
  });
  return [{ role: "assistant", content: text === "" ? [] : [{ type: "text", text }], toolCalls: made }, ...results];
}

function nothing(): AsyncIterator<ChatEvent> {
  return { next: () => Promise.resolve({ done: true, value: undefined }) };
}
