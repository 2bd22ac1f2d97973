import type { ParsedEvent, ParserOptions } from "./parser.ts";

/**
 * Collects what a reading finds as events. White space is held until it is known what follows: before a call, and around
 * reasoning, it belongs to the syntax.
 */
export class Answer {
  /** Whether what is being read is reasoning. */
  inReasoning = false;
  readonly #newId: () => string;
  readonly #committed: () => void;
  readonly #holdsSpace: boolean;
  #events: ParsedEvent[] = [];
  #space = "";
  #last: "nothing" | "text" | "reasoning" | "call" = "nothing";
  #saidReasoning = false;
  #calls = 0;

  /** `committed` is called when a call was told of: its text will not be said as text any more. */
  constructor(options: Pick<ParserOptions, "tools" | "newId">, committed: () => void) {
    this.#committed = committed;
    this.#newId = options.newId;
    this.#holdsSpace = options.tools.length > 0;
  }

  /** How many calls have been begun. */
  get calls(): number {
    return this.#calls;
  }

  text(text: string): void {
    const afterReasoning = this.#last === "reasoning";
    const all = afterReasoning ? text.trimStart() : this.#space + text;
    const end = this.#holdsSpace ? all.trimEnd().length : all.length;
    this.#space = all.slice(end);
    if (end === 0) return;
    this.#last = "text";
    this.#say("text", all.slice(0, end));
  }

  reasoning(text: string): void {
    if (this.#last !== "reasoning") this.#space = "";
    const all = this.#space + text;
    const said = this.#saidReasoning ? all.trimEnd() : all.trim();
    if (said === "") {
      this.#space = this.#saidReasoning ? all : "";
      return;
    }
    this.#space = all.slice(all.trimEnd().length);
    this.#last = "reasoning";
    this.#saidReasoning = true;
    this.#say("reasoning", said);
  }

  /** Reasoning is over: white space at its end, and before the answer, is not said. */
  endReasoning(): void {
    this.inReasoning = false;
    this.#space = "";
    this.#last = "reasoning";
  }

  /** A call begins; its arguments follow, if they are not given. */
  begin(name: string, json = ""): void {
    this.#space = "";
    this.#last = "call";
    this.#committed();
    this.#events.push({ type: "tool-call", index: this.#calls++, id: this.#newId(), name, arguments: "" });
    this.arguments(json);
  }

  /** A fragment of the JSON text of the arguments of the call that was begun last. */
  arguments(json: string): void {
    const index = this.#calls - 1;
    const last = this.#events.at(-1);
    if (json === "") return;
    if (last?.type === "tool-call" && last.index === index && last.id === undefined) {
      this.#events[this.#events.length - 1] = { ...last, arguments: last.arguments + json };
    } else this.#events.push({ type: "tool-call", index, arguments: json });
  }

  /** The events since the last time. */
  take(): ParsedEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  /** The last events. White space after a call or reasoning is not said. */
  finish(): ParsedEvent[] {
    const space = this.#space;
    this.#space = "";
    if (space !== "" && (this.#last === "text" || this.#last === "nothing")) this.#say("text", space);
    return this.take();
  }

  #say(type: "text" | "reasoning", text: string): void {
    const last = this.#events.at(-1);
    if (last?.type === type) this.#events[this.#events.length - 1] = { ...last, text: last.text + text };
    else this.#events.push({ type, text });
  }
}
