import { agentNamePattern } from "./agent-identity.ts";
import { isObject, type Json, type JsonObject } from "./json.ts";

/** A process of an agent that is connected to a relay, as that relay tells the others. */
export interface AgentSession {
  /** `<relay>/<agent>/<instance>` */
  readonly id: string;
  /** Grows with whatever changes of the session but `inFlight`, and never returns. */
  readonly epoch: number;
  /** Random, one per relay that runs. */
  readonly relay: string;
  /** Where that relay takes calls from others, e.g. `http://10.0.0.11:8091`. */
  readonly url: string;
  readonly agent: string;
  /** Random, one per process of the agent. */
  readonly instance: string;
  /** Which key it showed; null: admitted without one. */
  readonly keyId: string | null;
  /** Version of the agent's program. */
  readonly version: string;
  /** Where the agent connects from. */
  readonly address: string;
  /** Milliseconds since 1970. */
  readonly since: number;
  /** Whether the runtime behind it answers. */
  readonly ready: boolean;
  /** Calls at a time that it answers well, and those under way. */
  readonly capacity: number;
  readonly inFlight: number;
  /** As `GET /v1/models` of the runtime lists them. */
  readonly models: readonly JsonObject[];
}

/** Of a session as JSON, in characters: a list of models fits, as long as an agent may send it. */
const longestSession = 8 * 1024 * 1024;
const mostModels = 2000;
const idPattern = /^[0-9A-Za-z-]{1,64}$/;

/** A session as another relay has written it; undefined for what is none. */
export function decodeSession(text: string): AgentSession | undefined {
  if (text.length > longestSession) return undefined;
  try {
    const json = JSON.parse(text) as Json;
    return isObject(json) ? toSession(json) : undefined;
  } catch {
    return undefined;
  }
}

function toSession(json: JsonObject): AgentSession | undefined {
  const { id, relay, agent, instance, url, keyId, models } = json;
  const [version, address] = [json.version, json.address].map((text) => (isShort(text) ? text : undefined));
  const [epoch, since, capacity, inFlight] = [json.epoch, json.since, json.capacity, json.inFlight].map((value) =>
    typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined,
  );
  if (epoch === undefined || since === undefined || capacity === undefined || inFlight === undefined) return undefined;
  if (!isId(relay) || !isId(instance) || typeof agent !== "string" || !agentNamePattern.test(agent)) return undefined;
  if (id !== sessionId({ relay, agent, instance }) || !isHttp(url) || version === undefined || address === undefined)
    return undefined;
  if (!(keyId === null || isShort(keyId)) || typeof json.ready !== "boolean" || capacity < 1) return undefined;
  if (!Array.isArray(models) || models.length > mostModels || !models.every(isCard)) return undefined;
  const who = { id, epoch, relay, url, agent, instance, keyId, version, address };
  return { ...who, since, ready: json.ready, capacity, inFlight, models };
}

/** The id of a session. */
export function sessionId({ relay, agent, instance }: Pick<AgentSession, "relay" | "agent" | "instance">): string {
  return `${relay}/${agent}/${instance}`;
}

function isId(value: Json | undefined): value is string {
  return typeof value === "string" && idPattern.test(value);
}

function isShort(value: Json | undefined): value is string {
  return typeof value === "string" && value.length <= 128 && !/\p{Cc}/u.test(value);
}

function isHttp(value: Json | undefined): value is string {
  return typeof value === "string" && value.length <= 512 && /^https?:\/\//.test(value) && URL.canParse(value);
}

function isCard(value: Json): value is JsonObject {
  return isObject(value) && typeof value.id === "string";
}
