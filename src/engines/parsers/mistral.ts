import { overlap } from "./overlap.ts";
import { readCalls, type WrittenCall } from "./calls.ts";
import { CallNumbers, type OutputParser, type ParserOptions } from "./parser.ts";

const tag = "[TOOL_CALLS]";

/** Mistral: text, then `[TOOL_CALLS]` with a list of calls, or one tag for each `name[ARGS]{…}` (since 2025). */
export function mistralParser(options: ParserOptions): OutputParser {
  const numbers = new CallNumbers(options.newId);
  let held = "";
  let inCalls = false;
  return {
    push(text) {
      held += text;
      if (inCalls) return [];
      const at = held.indexOf(tag);
      const end = at >= 0 ? at : held.length - overlap(held, tag);
      const said = held.slice(0, end);
      held = held.slice(end);
      inCalls = at >= 0;
      return said === "" ? [] : [{ type: "text", text: said }];
    },
    end() {
      const calls = inCalls ? readTagged(held) : null;
      if (calls !== null) return calls.map((call) => numbers.toEvent(call));
      return held === "" ? [] : [{ type: "text", text: held }];
    },
  };
}

function readTagged(text: string): WrittenCall[] | null {
  const calls: WrittenCall[] = [];
  for (const part of text.split(tag).slice(1)) {
    const named = /^\s*([\w.-]+)\s*(?:\[CALL_ID\][^[{]*)?(?:\[ARGS\])?\s*(\{[\s\S]*\})\s*$/.exec(part);
    const found =
      named === null
        ? readCalls(part.trim())
        : readCalls(`{"name":${JSON.stringify(named[1])},"arguments":${named[2]}}`);
    if (found === null) return null;
    calls.push(...found);
  }
  return calls;
}
