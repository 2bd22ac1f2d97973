import { readBytes } from "../core/bytes.ts";
import { Call, type Handler } from "../core/call.ts";
import { type Clock, systemClock } from "../core/clock.ts";
import { Departure } from "../core/departure.ts";
import { ApiError } from "../core/errors.ts";
import { isObject, type Json } from "../core/json.ts";
import { checkModelName, missingModel } from "../core/model-name.ts";
import { parseJson } from "../core/parse-json.ts";
import { type Provider, translatedPaths } from "../core/provider.ts";

export interface TranslationSettings {
  /** Carries calls to the server as they are. */
  readonly forward: Handler;
  /** Makes the provider that asks the same server for chats, once, when one is needed. */
  readonly build: () => Promise<Provider>;
  readonly clock?: Clock;
}

/** What a server turned out to be. */
type Kind = "lair" | "ollama" | "other";

/** Paths in the formats of other APIs than OpenAI's chat that servers have themselves. Ollama's other formats: see `trusted`. */
const own: Readonly<Record<Kind, (path: string) => boolean>> = {
  lair: () => true,
  ollama: (path) => path.startsWith("/api/"),
  other: () => false,
};

/** Milliseconds for which a server is taken for what it was; one that did not answer a call is asked anew at once. */
const kindAge = 60_000;
/** Milliseconds that it may take to say what it is, and bytes. */
const patience = 2000;
const longestVersion = 64 * 1024;

const toTranslate: ReadonlySet<string> = new Set(translatedPaths);

/**
 * Gives callers the formats that a server does not have, whatever it is: a runtime of ours gets all calls as they are, an
 * Ollama those of its own API; for all others they are translated. What it is, is asked when it first matters.
 */
export function translatedRuntime({ forward, build, clock = systemClock }: TranslationSettings): Handler {
  let known: { readonly kind: Promise<Kind | undefined>; readonly since: number } | undefined;
  let provider: Promise<Provider> | undefined;
  const kindNow = (): Promise<Kind | undefined> => {
    if (known === undefined || clock.now() - known.since > kindAge) {
      const asked = { kind: askKind(forward), since: clock.now() };
      known = asked;
      void asked.kind.then((kind) => {
        if (kind === undefined && known === asked) known = undefined;
      });
    }
    return known.kind;
  };
  const asItIs: Handler = async (call) => {
    try {
      return await forward(call);
    } catch (error) {
      // It may be another one that answers next.
      known = undefined;
      throw error;
    }
  };
  return async (call) => {
    const path = call.path.endsWith("/") ? call.path.slice(0, -1) : call.path;
    if (call.method !== "POST" || !toTranslate.has(path)) return asItIs(call);
    const kind = await kindNow();
    if (kind === undefined || own[kind](path)) return asItIs(call);
    provider ??= build();
    return (await provider).handle(await resolved(call, path, await provider));
  };
}

/** Undefined where it does not say, which whoever calls it then will find out. */
async function askKind(forward: Handler): Promise<Kind | undefined> {
  const version = await askJson(forward, "/version");
  if (version === undefined) return undefined;
  if (isObject(version) && version.name === "local-ai-runtime") return "lair";
  const ollama = await askJson(forward, "/api/version");
  if (ollama === undefined) return undefined;
  return isObject(ollama) && typeof ollama.version === "string" ? "ollama" : "other";
}

/** The answer to a GET, null where it is no JSON, undefined where there is none. */
async function askJson(forward: Handler, path: string): Promise<Json | undefined> {
  const departure = new Departure();
  const timer = setTimeout(() => departure.leave(), patience);
  try {
    const reply = await forward(new Call({ id: "agent-version", method: "GET", path, signal: departure }));
    const bytes = await readBytes(reply, longestVersion, () => new ApiError("invalid_json", "this is no version"));
    return reply.status === 200 ? parseJson(bytes) : null;
  } catch (error) {
    return error instanceof ApiError && error.code === "invalid_json" ? null : undefined;
  } finally {
    clearTimeout(timer);
  }
}

async function resolved(call: Call, path: string, provider: Provider): Promise<Call> {
  const body = await call.json();
  const model = isObject(body) ? body.model : undefined;
  if (typeof model !== "string" || model === "") throw missingModel();
  checkModelName(model);
  return call.with({ path, target: { provider, model, requested: model } });
}
