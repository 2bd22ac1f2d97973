import type { Tool } from "../../core/chat.ts";
import { readCalls } from "./calls.ts";
import { CallNumbers, type OutputParser, type ParsedEvent, type ParserOptions } from "./parser.ts";

const tag = "<|python_tag|>";

/** Llama 3.1 to 3.3: an answer that is nothing but `{"name": …, "parameters": …}`, several parted by `;` or new lines. */
export function llama3Parser(options: ParserOptions): OutputParser {
  const numbers = new CallNumbers(options.newId);
  let held = "";
  let plain = false;
  const say = (text: string): ParsedEvent[] => (text === "" ? [] : [{ type: "text", text }]);
  return {
    push(text) {
      if (plain) return say(text);
      held += text;
      if (mayBeCall(held)) return [];
      plain = true;
      return say(held);
    },
    end() {
      if (plain) return [];
      const body = held.trim();
      return (
        readSeveral(body.startsWith(tag) ? body.slice(tag.length) : body, options.tools)?.map((call) =>
          numbers.toEvent(call),
        ) ?? say(held)
      );
    },
  };
}

/** Whether the start of an output can still become a call: other JSON and all prose are said at once. */
function mayBeCall(text: string): boolean {
  const start = text.trimStart();
  if (start === "" || tag.startsWith(start) || start.startsWith(tag)) return true;
  return /^\{\s*(?:"(?:$|n$|na$|nam$|name|t$|ty$|typ$|type|f$|fu$|fun$|func$|funct$|functi$|functio$|function))?$|^\{\s*"(?:name|type|function)"/.test(
    start,
  );
}

function readSeveral(text: string, tools: readonly Tool[]): ReturnType<typeof readCalls> {
  const whole = readCalls(text);
  const calls = whole ?? text.split(/;|\n+(?=\{)/).flatMap((part) => readCalls(part.trim()) ?? [null]);
  const known = (name: string): boolean => tools.some((tool) => tool.name === name);
  // Only JSON that names one of the tools is a call: it has no tag of its own.
  return calls.every((call) => call !== null && known(call.name)) ? calls.filter((call) => call !== null) : null;
}
