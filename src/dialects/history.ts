import type { ChatRequest, Message, Part, ToolCall } from "../core/chat.ts";
import { soundArguments } from "./tool-arguments.ts";

type Asking = Extract<Message, { role: "assistant" }>;
type Result = Extract<Message, { role: "tool" }>;

/** A call of the history, as it goes on, and what came back. */
interface PairedCall {
  call: ToolCall;
  /** As it came: the id may be "", or another call's too. */
  readonly givenId: string;
  readonly unnamed: boolean;
  readonly results: { readonly at: number; readonly result: Result }[];
}

/**
 * The request with a history that every server takes. Interrupted turns, trimmed conversations and slips of models stay in
 * a client's history for good, and llama-server (500), vLLM, LMDeploy and many templates refuse them each time anew:
 *
 * - arguments that are no JSON object are put right, or told of as `{"_invalid": text}`;
 * - calls without an id, or with one that was used before, get one of their own, the same at every repetition;
 * - every call is followed by its result: moved to it, or one that says that there is none;
 * - a result without a call is a user's message; of a repeated turn, the repetition is left out.
 *
 * The same object where nothing is wrong.
 */
export function mendHistory(request: ChatRequest): ChatRequest {
  const messages = mendMessages(request.messages);
  return messages === request.messages ? request : { ...request, messages };
}

/** The same for messages alone; those that stay as they are stay the same objects. */
export function mendMessages(messages: Message[]): Message[] {
  if (!messages.some(concernsCalls)) return messages;
  const kept = messages.filter((message, at) => !isIdle(message, at, messages));
  const history = new History(kept);
  const mended = kept.flatMap((message, at) => history.rewrite(message, at));
  const same = mended.length === messages.length && mended.every((message, at) => message === messages[at]);
  return same ? messages : mended;
}

/** What is told to a model of a call whose arguments nobody could read. */
export function readableArguments(text: string): string {
  const sound = soundArguments(text, { whole: true });
  return "text" in sound ? sound.text : JSON.stringify({ _invalid: text });
}

class History {
  /** Calls by the index of their message. */
  readonly #turns = new Map<number, PairedCall[]>();
  /** Calls that wait for a result, by the id that they came with: lists of one message each, the latest last. */
  readonly #waiting = new Map<string, PairedCall[][]>();
  /** The latest call of each given id. */
  readonly #latest = new Map<string, PairedCall>();
  /** Ids that are in use, with the last number that was put behind each. */
  readonly #ids = new Map<string, number>();
  readonly #paired = new Set<Result>();

  constructor(messages: readonly Message[]) {
    const left: { readonly at: number; readonly result: Result; readonly turn: readonly PairedCall[] }[] = [];
    let turn: readonly PairedCall[] = [];
    for (const [at, message] of messages.entries()) {
      if (message.role === "assistant") turn = this.#open(message, at);
      else if (message.role === "user") turn = [];
      else if (message.role === "tool" && !this.#close(message, at, this.#take(message.toolCallId)))
        left.push({ at, result: message, turn });
    }
    // What is left has no call of its id before it. One may stand behind it; or its id was lost on the way.
    for (const { at, result, turn: before } of left)
      this.#close(
        result,
        at,
        this.#take(result.toolCallId) ?? this.#latest.get(result.toolCallId) ?? nearest(result, before),
      );
  }

  rewrite(message: Message, at: number): Message[] {
    if (message.role === "tool") return this.#paired.has(message) ? [] : [toUserMessage(message)];
    const turn = message.role === "assistant" ? this.#turns.get(at) : undefined;
    if (message.role !== "assistant" || turn === undefined) return [message];
    const same = turn.every(({ call }, index) => call === message.toolCalls[index]);
    const asking = same ? message : { ...message, toolCalls: turn.map(({ call }) => call) };
    const answered = turn.filter(({ results }) => results.length > 0);
    const unanswered = turn.filter(({ results }) => results.length === 0);
    const results = answered.map(joinResults).toSorted((left, right) => left.at - right.at);
    return [asking, ...results.map(({ result }) => result), ...unanswered.map(({ call }) => noResult(call))];
  }

  #open({ toolCalls }: Asking, at: number): PairedCall[] {
    const turn = toolCalls.map((call, index) => this.#toPaired(call, `call_${at}_${index}`));
    this.#turns.set(at, turn);
    const lists = new Map<string, PairedCall[]>();
    for (const paired of turn) {
      if (paired.givenId === "") continue;
      const list = lists.get(paired.givenId);
      if (list === undefined) lists.set(paired.givenId, [paired]);
      else list.push(paired);
      this.#latest.set(paired.givenId, paired);
    }
    for (const [id, list] of lists) {
      const waiting = this.#waiting.get(id);
      if (waiting === undefined) this.#waiting.set(id, [list]);
      else waiting.push(list);
    }
    return turn;
  }

  #toPaired(call: ToolCall, fallback: string): PairedCall {
    const id = this.#ownId(call.id === "" ? fallback : call.id);
    const name = call.name === "" ? "unknown" : call.name;
    const written = readableArguments(call.arguments);
    const same = id === call.id && name === call.name && written === call.arguments;
    const sound = same ? call : { id, name, arguments: written };
    return { call: sound, givenId: call.id, unnamed: call.name === "", results: [] };
  }

  #ownId(wanted: string): string {
    let count = this.#ids.get(wanted) ?? 0;
    let id = wanted;
    while (this.#ids.has(id)) id = `${wanted}_${++count}`;
    this.#ids.set(wanted, count);
    this.#ids.set(id, 1);
    return id;
  }

  /** The call of this id that waits, of the latest message that has one. */
  #take(id: string): PairedCall | undefined {
    const waiting = this.#waiting.get(id);
    const latest = waiting?.at(-1);
    const taken = latest?.shift();
    if (latest?.length === 0) waiting?.pop();
    return taken;
  }

  #close(result: Result, at: number, paired: PairedCall | undefined): boolean {
    if (paired === undefined) return false;
    this.#paired.add(result);
    const { call } = paired;
    if (paired.unnamed && result.name !== undefined) paired.call = { ...call, name: result.name };
    paired.results.push({ at, result: result.toolCallId === call.id ? result : { ...result, toolCallId: call.id } });
    return true;
  }
}

/** Calls of one message that are looked through for each result of no known call. */
const mostParallel = 256;

/** The call that a result without a known id can only belong to; without any id, the first that waits. */
function nearest({ toolCallId, name }: Result, turn: readonly PairedCall[]): PairedCall | undefined {
  const waiting = turn.slice(0, mostParallel).filter(({ results }) => results.length === 0);
  if (toolCallId !== "") return waiting.length === 1 ? waiting[0] : undefined;
  return waiting.find(({ call }) => name !== undefined && call.name === name) ?? waiting[0];
}

/** Of two results for one call, what the second says besides. */
function joinResults({ results }: PairedCall): { at: number; result: Result } {
  const [first, ...others] = results as [PairedCall["results"][number], ...PairedCall["results"]];
  if (others.length === 0) return first;
  const said = new Set([JSON.stringify(first.result.content)]);
  const further = others.filter(({ result }) => {
    const text = JSON.stringify(result.content);
    const known = said.has(text);
    said.add(text);
    return !known;
  });
  if (further.length === 0) return first;
  const content = [first, ...further].flatMap(({ result }) => result.content);
  return { at: first.at, result: { ...first.result, content } };
}

/** Templates that insist on a result for every call (Mistral's) are content, and the model knows what happened. */
function noResult({ id, name }: ToolCall): Result {
  return {
    role: "tool",
    toolCallId: id,
    name,
    content: [{ type: "text", text: "No result: the call was interrupted." }],
  };
}

function toUserMessage({ name, content }: Result): Message {
  const tool = name === undefined ? "a tool" : `the tool ${name}`;
  const opening: Part = {
    type: "text",
    text: `Result of ${tool}, whose call is no longer part of this conversation:\n`,
  };
  return { role: "user", content: [opening, ...content] };
}

function concernsCalls(message: Message): boolean {
  return (
    message.role === "tool" || (message.role === "assistant" && (message.toolCalls.length > 0 || isEmpty(message)))
  );
}

/** A turn that says nothing where no turn need be, or says again what the one before it said. */
function isIdle(message: Message, at: number, messages: readonly Message[]): boolean {
  if (message.role !== "assistant") return false;
  const before = messages[at - 1];
  const after = messages[at + 1];
  if (isEmpty(message)) return after === undefined || before?.role === "assistant" || after.role === "assistant";
  return before?.role === "assistant" && message.toolCalls.length > 0 && hasSameCalls(before, message);
}

function hasSameCalls(left: Asking, right: Asking): boolean {
  if (left.toolCalls.length !== right.toolCalls.length) return false;
  return right.toolCalls.every(({ id, name, arguments: given }, index) => {
    const other = left.toolCalls[index];
    return id !== "" && other?.id === id && other.name === name && other.arguments === given;
  });
}

function isEmpty({ content, reasoning = "", toolCalls }: Asking): boolean {
  return (
    toolCalls.length === 0 && reasoning === "" && content.every((part) => part.type === "text" && part.text === "")
  );
}
