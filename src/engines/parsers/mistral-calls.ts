import type { CallSyntax } from "./call-syntax.ts";
import { jsonCalls } from "./json-calls.ts";
import { namedCalls } from "./named-calls.ts";

const open = "[TOOL_CALLS]";

const listed = jsonCalls({ openers: [open], close: "", several: "list" });
const named = namedCalls({
  open,
  headEnd: "[ARGS]",
  close: "",
  readName: (head) => head.split("[CALL_ID]")[0] ?? head,
  tokens: ["[CALL_ID]"],
});

/** Mistral: `[TOOL_CALLS]` with a list of calls, or since 2025 one tag for each `name[ARGS]{…}`. Either is read. */
export function mistralCalls(writes: "list" | "named"): CallSyntax {
  return {
    ...(writes === "list" ? listed : named),
    preserved: [...new Set([...listed.preserved, ...named.preserved])],
    *readCalls(input, answer, opener, options) {
      yield* input.space();
      const next = yield* input.peek();
      yield* (next === "[" || next === "{" ? listed : named).readCalls(input, answer, opener, options);
    },
  };
}
