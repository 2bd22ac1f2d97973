import type { JsonObject } from "../core/json.ts";
import { isObject, type Json } from "../core/json.ts";

/** Path of the stream over which both ends talk about the tunnel itself; nothing from outside is carried under it. */
export const controlPath = "/.lair/control";
/** Raised by a change that an older peer would misread. */
export const protocolVersion = 1;

/** What an agent says. */
export type AgentMessage =
  | {
      readonly type: "hello";
      readonly protocol: number;
      /** Version of the program. */
      readonly version: string;
      /** Random, one per process: the connections of one process belong together. */
      readonly instance: string;
      /** Calls at a time that it answers well: its weight among agents. */
      readonly capacity: number;
      /** Whether the runtime behind it answers. */
      readonly ready: boolean;
      /** Its models as `GET /v1/models` of the runtime lists them. */
      readonly models: readonly JsonObject[];
    }
  /** What has changed since; absent: as before. */
  | { readonly type: "load"; readonly ready?: boolean; readonly models?: readonly JsonObject[] }
  /** It wants to leave: no further calls, please. Answered by `drained`. */
  | { readonly type: "drain" };

/** What a relay says. */
export type RelayMessage =
  | {
      readonly type: "welcome";
      readonly agent: string;
      readonly version: string;
      /** Random, one per relay: tells an agent whether its connections lead to one relay or, through a front, to several. */
      readonly relay?: string;
    }
  /** It wants to leave: connect anew, then let this connection go. */
  | { readonly type: "drain" }
  /** The agent's `drain` is heard, and every call sent before this message was the last. */
  | { readonly type: "drained" }
  /** The key is not good any more: do not come back with it. */
  | { readonly type: "revoke"; readonly reason: string };

/** One message as a line. */
export function encodeMessage(message: AgentMessage | RelayMessage): string {
  return `${JSON.stringify(message)}\n`;
}

/** Longest line, in bytes: a list of models fits. */
const longestLine = 4 * 1024 * 1024;
const mostModels = 2000;

/**
 * Lines of one end of the control stream → messages. Kinds that are not known are left out, for a newer peer may say
 * more. Throws `Error` for a line that is too long, is no JSON object, or lacks what its kind needs.
 */
export class MessageDecoder<Message extends AgentMessage | RelayMessage> {
  readonly #kinds: Readonly<Record<string, (json: JsonObject) => Message>>;
  #held: Buffer[] = [];
  #size = 0;

  constructor(kinds: Readonly<Record<string, (json: JsonObject) => Message>>) {
    this.#kinds = kinds;
  }

  push(bytes: Buffer): Message[] {
    const messages: Message[] = [];
    let from = 0;
    for (let end = bytes.indexOf(10); end !== -1; end = bytes.indexOf(10, from)) {
      this.#hold(bytes.subarray(from, end));
      const line = Buffer.concat(this.#held).toString("utf8");
      this.#held = [];
      this.#size = 0;
      from = end + 1;
      const message = this.#read(line);
      if (message !== undefined) messages.push(message);
    }
    this.#hold(bytes.subarray(from));
    return messages;
  }

  #hold(piece: Buffer): void {
    this.#size += piece.length;
    if (this.#size > longestLine) throw new Error(`a control message is longer than ${longestLine} bytes`);
    if (piece.length > 0) this.#held.push(piece);
  }

  #read(line: string): Message | undefined {
    if (line.trim() === "") return undefined;
    const json = parse(line);
    if (!isObject(json) || typeof json.type !== "string")
      throw new Error("a control message is no JSON object with a type");
    return Object.hasOwn(this.#kinds, json.type) ? this.#kinds[json.type]?.(json) : undefined;
  }
}

/** What a relay reads. */
export function agentMessages(): MessageDecoder<AgentMessage> {
  return new MessageDecoder<AgentMessage>({
    hello: (json) => ({
      type: "hello",
      protocol: wholeNumber(json, "protocol", 1, 1000),
      version: text(json, "version", 64),
      instance: text(json, "instance", 64),
      capacity: wholeNumber(json, "capacity", 1, 100_000),
      ready: json.ready === true,
      models: readModels(json.models ?? []),
    }),
    load: (json) => ({
      type: "load",
      ...(typeof json.ready === "boolean" ? { ready: json.ready } : {}),
      ...(json.models === undefined ? {} : { models: readModels(json.models) }),
    }),
    drain: () => ({ type: "drain" }),
  });
}

/** What an agent reads. */
export function relayMessages(): MessageDecoder<RelayMessage> {
  return new MessageDecoder<RelayMessage>({
    welcome: (json) => ({
      type: "welcome",
      agent: text(json, "agent", 64),
      version: text(json, "version", 64),
      ...(json.relay === undefined ? {} : { relay: text(json, "relay", 64) }),
    }),
    drain: () => ({ type: "drain" }),
    drained: () => ({ type: "drained" }),
    revoke: (json) => ({ type: "revoke", reason: text(json, "reason", 500) }),
  });
}

function readModels(json: Json): JsonObject[] {
  if (!Array.isArray(json) || json.length > mostModels)
    throw new Error(`models in a control message must be a list of at most ${mostModels}`);
  return json.filter((card): card is JsonObject => isObject(card) && typeof card.id === "string" && card.id !== "");
}

function text(json: JsonObject, name: string, longest: number): string {
  const value = json[name];
  if (typeof value !== "string" || value.length > longest || /\p{Cc}/u.test(value))
    throw new Error(`${name} in a control message must be a text of at most ${longest} characters`);
  return value;
}

function wholeNumber(json: JsonObject, name: string, least: number, most: number): number {
  const value = json[name];
  if (typeof value !== "number" || !Number.isInteger(value) || value < least || value > most)
    throw new Error(`${name} in a control message must be a whole number from ${least} to ${most}`);
  return value;
}

function parse(line: string): Json | undefined {
  try {
    return JSON.parse(line) as Json;
  } catch {
    return undefined;
  }
}
