import { literalText } from "../grammar/gbnf.ts";
import type { CallSyntax } from "./call-syntax.ts";
import { Unreadable } from "./input.ts";
import { jsonCalls } from "./json-calls.ts";
import { escapeJson } from "./json-copy.ts";
import { readPythonCall } from "./python-calls.ts";

const tag = "<|python_tag|>";
const lines = jsonCalls({
  openers: [""],
  close: "",
  several: "each",
  between: "; ",
  members: "parameters",
  bare: true,
  trigger: '{"name":',
});

/** Names under which clients offer to run the code that a model writes after the tag. */
const interpreters = ["python", "ipython", "code_interpreter"];

/**
 * Llama 3.1 to 3.3: an answer that is nothing but `{"name": …, "parameters": …}`; after the Python tag such an object,
 * `tool.call(key="value")`, or code for an interpreter.
 */
export const llamaCalls: CallSyntax = {
  ...lines,
  openers: [tag],
  preserved: [tag],
  triggers: [tag, ...lines.triggers],
  *readCalls(input, answer, opener, options) {
    if (opener === "") return yield* lines.readCalls(input, answer, opener, options);
    yield* input.space();
    const names = options.tools.map((tool) => tool.name);
    if ((yield* input.comesNext(["{", "["])) !== null) return yield* lines.readCalls(input, answer, tag, options);
    const interpreter = interpreters.find((name) => names.includes(name));
    const builtIn = yield* input.comesNext(names.map((name) => `${name}.call(`));
    if (builtIn !== null) return yield* readPythonCall(input, answer, names);
    if (interpreter === undefined) throw new Unreadable("code that no tool runs");
    answer.begin(interpreter, '{"code": "');
    yield* input.until([], (code) => answer.arguments(escapeJson(code)));
    answer.arguments('"}');
  },
  addCalls: (builder, tools, parallel) =>
    builder.rule("tagged-calls", `${literalText(tag)}? ${lines.addCalls(builder, tools, parallel)}`),
};
