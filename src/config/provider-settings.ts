import { z } from "zod";
import { parseHosts } from "../core/host-url.ts";
import { translatedPaths } from "../core/provider.ts";
import { count, duration, setting } from "./setting.ts";

/** Kinds of upstream that a `providers` entry may have, with the port used where an `http` address names none. */
export const providerKinds = {
  ollama: 11434,
  lmdeploy: 23333,
  mnn: 8000,
  // The original's own number; vLLM's is 8000, which is MNN's.
  vllm: 58000,
  openai: 80,
  // Another runtime, relay or gateway; the relay is the usual one.
  lair: 8081,
} as const;
/** What sort of server an upstream is. */
export type ProviderKind = keyof typeof providerKinds;
const kinds = Object.keys(providerKinds) as [ProviderKind, ...ProviderKind[]];

const urls = z.array(z.string().min(1)).min(1).superRefine(checkHosts).exactOptional();

const provider = z.strictObject({
  enabled: setting(
    z.boolean().default(true),
    "`false` leaves this provider out, e.g. the Ollama that exists by default.",
  ),
  kind: setting(
    z.enum(kinds).exactOptional(),
    "What sort of server it is; `lair` is another runtime, relay or gateway. May be left out where the entry is named after its kind.",
  ),
  urls: setting(
    urls,
    "Addresses of the server; several share the load. An `http` address without a port gets the kind's own: ollama 11434, lmdeploy 23333, mnn 8000, vllm 58000, openai 80, lair 8081.",
  ),
  key: setting(z.string().min(1).exactOptional(), "Key sent to the server as `Authorization: Bearer …`.", {
    secret: true,
  }),
  headers: setting(
    z.record(z.string().regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/), z.string()).default({}),
    "Further headers sent with every request.",
    { secret: true },
  ),
  contextLength: setting(
    count.exactOptional(),
    "Tokens of context to report for its models (and, for Ollama, to ask for as `num_ctx`) instead of what the server tells.",
  ),
  maxOutput: setting(count.exactOptional(), "Most tokens of one answer to report for its models."),
  models: z
    .strictObject({
      include: setting(
        z.array(z.string().min(1)).exactOptional(),
        "Only these models are offered; `*` stands for any text.",
      ),
      exclude: setting(
        z.array(z.string().min(1)).default([]),
        "These models are not offered; `*` stands for any text.",
      ),
    })
    .prefault({}),
  aliases: setting(
    z.record(z.string().min(1), z.string().min(1)).default({}),
    "Further names for its models: alias → id at the server.",
  ),
  keepAlive: setting(
    z.union([z.string().regex(/^-?\d+(\.\d+)?(ms|s|m|h)$/), z.number()]).exactOptional(),
    "Ollama only: how long a model stays in memory after its last use, e.g. `10m`; `-1` for ever, `0` not at all.",
  ),
  speaks: setting(
    z.array(z.enum(translatedPaths)).exactOptional(),
    "Formats beside OpenAI's chat that this server speaks well, e.g. `[/v1/messages, /v1/responses]`: their calls pass through, with only the model's name changed. All others are translated here, which works with every server; `lair` speaks all.",
  ),
  maxConcurrent: setting(count.exactOptional(), "Most calls at a time for each address; absent: no limit."),
  timeouts: z
    .strictObject({
      connect: setting(duration.exactOptional(), "As `timeouts.connect`, for this provider.", { unit: "duration" }),
      firstByte: setting(duration.exactOptional(), "As `timeouts.firstByte`, for this provider.", { unit: "duration" }),
      idle: setting(duration.exactOptional(), "As `timeouts.idle`, for this provider.", { unit: "duration" }),
    })
    .prefault({}),
});

type ProviderEntry = z.output<typeof provider>;
/** One upstream, ready to build: `urls` are base URLs without a trailing slash. */
type ProviderConfig = Omit<ProviderEntry, "enabled" | "kind" | "urls"> & {
  kind: ProviderKind;
  urls: string[];
  /** Nobody named it: it is asked at its usual address in case it is there. */
  assumed?: true;
};

const upstream = z.strictObject({
  ...provider.shape,
  kind: setting(
    z.enum(kinds).default("lair"),
    "What sort of server it is; `lair` is another runtime, relay or gateway.",
  ),
  urls: setting(
    urls,
    "Addresses of the upstream; several share the load. As a flag or variable: one address for each upstream, with its name before it (`home=http://10.0.0.2:8081`) or without. An `http` address without a port gets 8081, or the kind's own.",
    { env: ["LAIR_GATEWAY_UPSTREAMS"], flag: "upstream", commands: ["gateway"], named: true },
  ),
  weight: setting(
    z.number().positive().max(1000).default(1),
    "Share of the calls that it gets among those that have the same model.",
  ),
});

type UpstreamEntry = z.output<typeof upstream>;
/** One upstream of the gateway, ready to build. */
type UpstreamConfig = Omit<UpstreamEntry, "enabled" | "urls"> & { urls: string[] };

/** `gateway.upstreams`: what answers the gateway's calls, by name. */
export const upstreams = z
  .record(z.string().regex(/^[a-z0-9][a-z0-9_-]*$/), upstream)
  .prefault({})
  .transform((entries, check) => {
    const ready: Record<string, UpstreamConfig> = {};
    for (const [name, { enabled, urls, ...rest }] of Object.entries(entries)) {
      if (!enabled) continue;
      if (urls === undefined)
        check.issues.push({
          code: "custom",
          path: [name, "urls"],
          input: undefined,
          message: "is missing; for example [http://127.0.0.1:8081]",
        });
      else
        ready[name] = {
          ...rest,
          urls: parseHosts(urls.join(","), providerKinds[rest.kind]),
        };
    }
    return ready;
  });

/** `providers`: upstreams by name, Ollama among them unless it is switched off. */
export const providers = z
  .record(z.string().regex(/^[a-z0-9][a-z0-9_-]*$/), provider)
  .prefault({})
  .transform((entries, check) => {
    const ready: Record<string, ProviderConfig> = {};
    const assumed = entries["ollama"] === undefined;
    for (const [name, entry] of Object.entries({ ollama: provider.parse({}), ...entries })) {
      if (!entry.enabled) continue;
      const built = build(name, entry);
      if ("message" in built)
        check.issues.push({ code: "custom", path: [name, ...built.path], input: undefined, message: built.message });
      else ready[name] = name === "ollama" && assumed ? { ...built, assumed } : built;
    }
    return ready;
  });

function build(name: string, entry: ProviderEntry): ProviderConfig | { path: string[]; message: string } {
  const { enabled: _, kind: named, urls: given, ...rest } = entry;
  const kind = named ?? kinds.find((one) => one === name);
  if (name === "llama_cpp")
    return { path: [], message: "is the name of the embedded engine, whose settings are those of `llama`" };
  if (kind === undefined) return { path: ["kind"], message: `is missing; allowed: ${kinds.join(", ")}` };
  if (given === undefined && kind === "openai")
    return { path: ["urls"], message: "is missing; for example [https://server.example]" };
  const port = providerKinds[kind];
  return { ...rest, kind, urls: parseHosts((given ?? [`127.0.0.1:${port}`]).join(","), port) };
}

function checkHosts(urls: string[], check: z.RefinementCtx): void {
  try {
    parseHosts(urls.join(","), 80);
  } catch (error) {
    check.addIssue({ code: "custom", message: error instanceof Error ? error.message : String(error) });
  }
}
