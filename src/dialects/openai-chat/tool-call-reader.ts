import type { ChatEvent } from "../../core/chat.ts";
import { ApiError } from "../../core/errors.ts";
import { isObject, type Json, type JsonObject } from "../../core/json.ts";

interface OpenCall {
  readonly index: number;
  id: string;
  named: boolean;
  /** Fragments that came before the name. */
  held: string;
}

/**
 * Tool calls of a stream, told apart however little the server says: without `index`, `id` or `type`, with every index
 * 0, with arguments as an object, or in the old `function_call` form.
 */
export class ToolCallReader {
  readonly #calls: OpenCall[] = [];
  /** Upstream's index → the call that it means now. */
  readonly #byIndex = new Map<number, OpenCall>();

  /** Calls seen so far. */
  get count(): number {
    return this.#calls.length;
  }

  *read(delta: JsonObject): Generator<ChatEvent> {
    const list = Array.isArray(delta.tool_calls) ? delta.tool_calls.filter(isObject) : [];
    for (const fragment of list) yield* this.#readFragment(fragment);
    if (list.length === 0 && isObject(delta.function_call))
      yield* this.#readFragment({ index: 0, function: delta.function_call });
  }

  /** Throws `upstream_error` for a call that never got a name. */
  end(): void {
    if (this.#calls.some((call) => !call.named))
      throw new ApiError("upstream_error", "the upstream sent a tool call without a name");
  }

  *#readFragment(fragment: JsonObject): Generator<ChatEvent> {
    const described = isObject(fragment.function) ? fragment.function : fragment;
    const id = typeof fragment.id === "string" ? fragment.id : "";
    const name = typeof described.name === "string" ? described.name : "";
    const call = this.#callOf(fragment.index, id, name);
    if (call.id === "") call.id = id;
    const text = argumentText(described.arguments);
    if (call.named) {
      if (text !== "") yield { type: "tool-call", index: call.index, arguments: text };
      return;
    }
    call.held += text;
    if (name === "") return;
    call.named = true;
    yield {
      type: "tool-call",
      index: call.index,
      ...(call.id === "" ? {} : { id: call.id }),
      name,
      arguments: call.held,
    };
  }

  #callOf(index: Json | undefined, id: string, name: string): OpenCall {
    const known =
      typeof index === "number"
        ? this.#byIndex.get(index)
        : id === ""
          ? undefined
          : this.#calls.find((call) => call.id === id);
    // Some servers give every parallel call the index 0: another id together with a name begins another call.
    const another =
      known !== undefined && known.named && name !== "" && id !== "" && known.id !== "" && id !== known.id;
    if (known !== undefined && !another) return known;
    const last = this.#calls.at(-1);
    const continues = known === undefined && typeof index !== "number" && name === "" && id === "";
    if (continues && last !== undefined) return last;
    const call: OpenCall = { index: this.#calls.length, id, named: false, held: "" };
    this.#calls.push(call);
    if (typeof index === "number") this.#byIndex.set(index, call);
    return call;
  }
}

function argumentText(value: Json | undefined): string {
  if (value === undefined || value === null) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}
