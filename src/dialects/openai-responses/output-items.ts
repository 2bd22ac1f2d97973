import type { ChatEvent, TokenLogprob } from "../../core/chat.ts";
import { encodeOpaque } from "../opaque-text.ts";
import { inventCallId } from "../openai-chat/wire.ts";
import { CustomInput } from "./custom-input.ts";
import type { EventWriter } from "./event-writer.ts";
import { encodeLogprobs } from "./response.ts";
import type { NamedTool, ToolNames } from "./tool-names.ts";

/** How a caller wants the output written. */
export interface OutputForm {
  readonly names: ToolNames;
  /** Thinking is given as a summary, which is what Codex and the AI SDK show, and not as it is. */
  readonly summary: boolean;
  /** Thinking is given in `encrypted_content` too: clients without stored answers send it back in there. */
  readonly encrypted: boolean;
}

/** Events that become output. */
type Saying = Exclude<ChatEvent, { type: "finish" | "progress" }>;

type Status = "in_progress" | "completed" | "incomplete";

/**
 * The output items as they grow, and the events that tell of it, as texts. A change between thinking, text and calls
 * ends a text item; calls stay open until the end, for fragments of parallel calls may alternate.
 */
export class OutputItems {
  /** Each as JSON text, in the state that was last told. */
  readonly output: string[] = [];
  readonly #writer: EventWriter;
  readonly #form: OutputForm;
  readonly #replyId: string;
  readonly #calls = new Map<number, OpenCall>();
  #open: OpenText | undefined;
  #logprobs: TokenLogprob[] = [];

  constructor(writer: EventWriter, form: OutputForm, replyId: string) {
    this.#writer = writer;
    this.#form = form;
    this.#replyId = replyId;
  }

  add(event: Saying): string {
    switch (event.type) {
      case "text":
        return this.#addText("text", event.text);
      case "reasoning":
        return this.#addText(this.#form.summary ? "summary" : "thought", event.text);
      case "tool-call":
        return this.#addCall(event);
      case "logprobs":
        if (event.prompt === undefined) this.#logprobs.push(...event.tokens);
        return "";
    }
  }

  /** Ends every open item. */
  close(status: "completed" | "incomplete"): string {
    let events = this.#closeText(status);
    for (const call of this.#calls.values()) events += this.#closeCall(call, status);
    this.#calls.clear();
    return events;
  }

  /** Ends every open item without telling so: Codex would run a call whose end it is told of. */
  abandon(): void {
    if (this.#open !== undefined) this.output[this.#open.index] = this.#textItem(this.#open, "incomplete");
    for (const call of this.#calls.values()) this.output[call.index] = itemOf(call, "incomplete");
  }

  #addText(kind: TextKind, text: string): string {
    const events = this.#open?.kind === kind ? "" : this.#closeText("completed") + this.#openText(kind);
    const open = this.#open;
    if (open === undefined || text === "") return events;
    open.text += text;
    const logprobs = kind === "text" ? `,"logprobs":${this.#takeLogprobs(open)}` : "";
    return events + this.#writer.write(kinds[kind].delta, `${open.at},"delta":${JSON.stringify(text)}${logprobs}`);
  }

  #openText(kind: TextKind): string {
    const index = this.output.length;
    const { prefix, position, partAdded } = kinds[kind];
    const id = this.#itemId(prefix, index);
    const open: OpenText = { kind, id, index, at: `${place(id, index)},"${position}":0`, text: "", logprobs: [] };
    this.#open = open;
    const item =
      kind === "text"
        ? `{"id":"${id}","type":"message","role":"assistant","status":"in_progress","content":[]}`
        : `{"id":"${id}","type":"reasoning","status":"in_progress","summary":[]}`;
    this.output.push(item);
    return this.#itemAdded(index, item) + this.#writer.write(partAdded, `${open.at},"part":${partOf(open)}`);
  }

  #closeText(status: "completed" | "incomplete"): string {
    const open = this.#open;
    if (open === undefined) return "";
    this.#takeLogprobs(open);
    this.#open = undefined;
    const { done, partDone } = kinds[open.kind];
    const item = this.#textItem(open, status);
    this.output[open.index] = item;
    const logprobs = open.kind === "text" ? `,"logprobs":${JSON.stringify(encodeLogprobs(open.logprobs))}` : "";
    return (
      this.#writer.write(done, `${open.at},"text":${JSON.stringify(open.text)}${logprobs}`) +
      this.#writer.write(partDone, `${open.at},"part":${partOf(open)}`) +
      this.#itemDone(open.index, item)
    );
  }

  #addCall({ index, id, name, arguments: fragment }: Extract<ChatEvent, { type: "tool-call" }>): string {
    let events = this.#closeText("completed");
    let call = this.#calls.get(index);
    if (call === undefined) {
      const tool = this.#form.names.toolOf(name ?? "");
      const callId = id === undefined || id === "" ? inventCallId(this.#replyId, 0, index) : id;
      call = this.#openCall(tool, callId);
      this.#calls.set(index, call);
      const item = itemOf(call, "in_progress");
      this.output.push(item);
      events += this.#itemAdded(call.index, item);
    }
    if (call.input === undefined) call.arguments += fragment;
    const delta = call.input === undefined ? fragment : call.input.add(fragment);
    return events + this.#callDelta(call, delta);
  }

  #openCall(tool: NamedTool, callId: string): OpenCall {
    const index = this.output.length;
    const isCustom = tool.kind === "custom";
    const id = this.#itemId(isCustom ? "ctc" : "fc", index);
    return { id, callId, tool, index, arguments: "", ...(isCustom ? { input: new CustomInput() } : {}) };
  }

  #callDelta(call: OpenCall, delta: string): string {
    if (delta === "") return "";
    return this.#writer.write(
      call.input === undefined ? "response.function_call_arguments.delta" : "response.custom_tool_call_input.delta",
      `${place(call.id, call.index)},"delta":${JSON.stringify(delta)}`,
    );
  }

  #closeCall(call: OpenCall, status: "completed" | "incomplete"): string {
    const late = call.input === undefined ? "" : this.#callDelta(call, call.input.end());
    const item = itemOf(call, status);
    this.output[call.index] = item;
    const at = place(call.id, call.index);
    const done =
      call.input === undefined
        ? this.#writer.write(
            "response.function_call_arguments.done",
            `${at},"name":${JSON.stringify(call.tool.name)},"arguments":${JSON.stringify(call.arguments)}`,
          )
        : this.#writer.write(
            "response.custom_tool_call_input.done",
            `${at},"input":${JSON.stringify(call.input.text)}`,
          );
    return late + done + this.#itemDone(call.index, item);
  }

  #itemAdded(index: number, item: string): string {
    return this.#writer.write("response.output_item.added", `"output_index":${index},"item":${item}`);
  }

  #itemDone(index: number, item: string): string {
    return this.#writer.write("response.output_item.done", `"output_index":${index},"item":${item}`);
  }

  #textItem(open: OpenText, status: Status): string {
    const { id, kind } = open;
    if (kind === "text")
      return `{"id":"${id}","type":"message","role":"assistant","status":"${status}","content":[${partOf(open)}]}`;
    const kept = this.#form.encrypted && open.text.length <= mostKeptThought;
    const encrypted = kept ? `,"encrypted_content":"${encodeOpaque(open.text)}"` : "";
    const said = kind === "summary" ? `"summary":[${partOf(open)}]` : `"summary":[],"content":[${partOf(open)}]`;
    return `{"id":"${id}","type":"reasoning","status":"${status}",${said}${encrypted}}`;
  }

  /** Log probabilities that came since the last text, as JSON text; kept for the whole text too. */
  #takeLogprobs(open: OpenText): string {
    if (this.#logprobs.length === 0 || open.kind !== "text") return "[]";
    const tokens = this.#logprobs;
    this.#logprobs = [];
    open.logprobs.push(...tokens);
    return JSON.stringify(encodeLogprobs(tokens));
  }

  #itemId(prefix: string, index: number): string {
    return `${prefix}_${this.#replyId.replace(/^resp_/, "")}_${index}`;
  }
}

/** UTF-16 units. A longer thought is not worth sending at every further turn. */
const mostKeptThought = 256 * 1024;

type TextKind = keyof typeof kinds;

/** The three kinds of text, in the API's words. */
const kinds = {
  text: {
    prefix: "msg",
    position: "content_index",
    delta: "response.output_text.delta",
    done: "response.output_text.done",
    partAdded: "response.content_part.added",
    partDone: "response.content_part.done",
  },
  thought: {
    prefix: "rs",
    position: "content_index",
    delta: "response.reasoning_text.delta",
    done: "response.reasoning_text.done",
    partAdded: "response.content_part.added",
    partDone: "response.content_part.done",
  },
  summary: {
    prefix: "rs",
    position: "summary_index",
    delta: "response.reasoning_summary_text.delta",
    done: "response.reasoning_summary_text.done",
    partAdded: "response.reasoning_summary_part.added",
    partDone: "response.reasoning_summary_part.done",
  },
} as const;

/** A text that is being said: an item of one part. */
interface OpenText {
  readonly kind: TextKind;
  readonly id: string;
  readonly index: number;
  /** Where its part is, as members of an event. */
  readonly at: string;
  text: string;
  readonly logprobs: TokenLogprob[];
}

interface OpenCall {
  readonly id: string;
  readonly callId: string;
  readonly tool: NamedTool;
  readonly index: number;
  arguments: string;
  /** Of a custom tool, in place of the arguments. */
  readonly input?: CustomInput;
}

function place(id: string, index: number): string {
  return `"item_id":"${id}","output_index":${index}`;
}

function partOf({ kind, text, logprobs }: OpenText): string {
  const said = JSON.stringify(text);
  if (kind === "thought") return `{"type":"reasoning_text","text":${said}}`;
  if (kind === "summary") return `{"type":"summary_text","text":${said}}`;
  const tokens = logprobs.length === 0 ? "[]" : JSON.stringify(encodeLogprobs(logprobs));
  return `{"type":"output_text","text":${said},"annotations":[],"logprobs":${tokens}}`;
}

function itemOf({ id, callId, tool, arguments: written, input }: OpenCall, status: Status): string {
  const { kind, name, namespace } = tool;
  const item = { id, type: kind === "custom" ? "custom_tool_call" : "function_call", status, call_id: callId };
  const called = { ...(namespace === undefined ? {} : { namespace }), name };
  return JSON.stringify({
    ...item,
    ...called,
    ...(input === undefined ? { arguments: written } : { input: input.text }),
  });
}
