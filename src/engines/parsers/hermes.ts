import { endsInString, readCalls } from "./calls.ts";
import { overlap } from "./overlap.ts";
import { CallNumbers, type OutputParser, type ParsedEvent, type ParserOptions } from "./parser.ts";

const open = "<tool_call>";
const close = "</tool_call>";

/** Hermes 2/3, Qwen 2.5 and 3, and many others: `<tool_call>{"name": …, "arguments": …}</tool_call>`, any number of them. */
export function hermesParser(options: ParserOptions): OutputParser {
  return new HermesParser(new CallNumbers(options.newId));
}

class HermesParser implements OutputParser {
  readonly #numbers: CallNumbers;
  /** Text that is not decided yet; inside a call: what follows the opening tag. */
  #held = "";
  #inCall = false;
  /** Where in a call the next closing tag is looked for. */
  #searched = 0;

  constructor(numbers: CallNumbers) {
    this.#numbers = numbers;
  }

  push(text: string): ParsedEvent[] {
    this.#held += text;
    const events: ParsedEvent[] = [];
    while (this.#inCall ? this.#readCall(events) : this.#readText(events));
    return events;
  }

  end(): ParsedEvent[] {
    const rest = this.#held;
    this.#held = "";
    if (!this.#inCall) return rest === "" ? [] : [{ type: "text", text: rest }];
    this.#inCall = false;
    // Models often end a turn without the closing tag.
    return readCalls(rest)?.map((call) => this.#numbers.toEvent(call)) ?? [{ type: "text", text: open + rest }];
  }

  /** True when there is more to read in what is held. */
  #readText(events: ParsedEvent[]): boolean {
    const at = this.#held.indexOf(open);
    if (at >= 0) {
      const before = this.#held.slice(0, at).trimEnd();
      if (before !== "") events.push({ type: "text", text: before });
      this.#held = this.#held.slice(at + open.length);
      this.#inCall = true;
      this.#searched = 0;
      return true;
    }
    // White space before a call belongs to the syntax, so it waits for what follows.
    const undecided = this.#held.slice(0, this.#held.length - overlap(this.#held, open)).trimEnd().length;
    if (undecided > 0) events.push({ type: "text", text: this.#held.slice(0, undecided) });
    this.#held = this.#held.slice(undecided);
    return false;
  }

  #readCall(events: ParsedEvent[]): boolean {
    const at = this.#held.indexOf(close, this.#searched);
    if (at < 0) {
      this.#searched = Math.max(0, this.#held.length - close.length);
      return false;
    }
    const body = this.#held.slice(0, at);
    const calls = readCalls(body);
    if (calls === null && endsInString(body)) {
      this.#searched = at + close.length;
      return true;
    }
    if (calls === null) events.push({ type: "text", text: open + body + close });
    else events.push(...calls.map((call) => this.#numbers.toEvent(call)));
    this.#held = this.#held.slice(at + close.length);
    this.#inCall = false;
    return true;
  }
}
