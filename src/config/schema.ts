import { z } from "zod";
import { parseHosts } from "../core/host-url.ts";
import { durationPattern, parseDuration, parseSize, sizePattern } from "./units.ts";

/** What the loader and the reference docs know about one setting beyond its type. */
export interface SettingFacts {
  /** Environment variables that set it, strongest first; all others are named `LAIR_<PATH>`. */
  readonly env?: readonly string[];
  /** Name of its own command-line flag, without dashes. */
  readonly flag?: string;
  /** Letter of the flag, without dash. */
  readonly short?: string;
  /** Never printed. */
  readonly secret?: true;
  readonly unit?: "duration" | "size";
  /** Further spellings → the value they mean; null: as if not set. Compared in lower case. */
  readonly spellings?: Readonly<Record<string, string | number | null>>;
}

/** The facts of each setting, by its schema. */
export const facts = z.registry<SettingFacts>();

function setting<T extends z.ZodType>(schema: T, about: string, more: SettingFacts = {}): T {
  const described = schema.meta({ description: about, ...(more.secret === true ? { writeOnly: true } : {}) });
  facts.add(described, more);
  return described;
}

const duration = z.union([z.string().regex(durationPattern), z.number().min(0)]).transform(parseDuration);
const size = z.union([z.string().regex(sizePattern), z.int().min(0)]).transform(parseSize);
const port = z.int().min(0).max(65535);
const count = z.int().min(1);
const probability = z.number().min(0).max(1);
/** Values by which users of llama.cpp and of the original say "you decide". */
const automatic = { "-1": null, "0": null, auto: null };

/** Kinds of upstream that a `providers` entry may have, with the port used where an `http` address names none. */
export const providerKinds = {
  ollama: 11434,
  lmdeploy: 23333,
  mnn: 8000,
  // The original's own number; vLLM's is 8000, which is MNN's.
  vllm: 58000,
  openai: 80,
} as const;
/** What sort of server an upstream is. */
export type ProviderKind = keyof typeof providerKinds;
const kinds = Object.keys(providerKinds) as [ProviderKind, ...ProviderKind[]];

const provider = z.strictObject({
  enabled: setting(z.boolean().default(true), "`false` leaves this provider out, e.g. the Ollama that exists by default."),
  kind: setting(z.enum(kinds).exactOptional(), "What sort of server it is. May be left out where the entry is named after its kind."),
  urls: setting(
    z.array(z.string().min(1)).min(1).superRefine(checkHosts).exactOptional(),
    "Addresses of the server; several share the load. An `http` address without a port gets the kind's own: ollama 11434, lmdeploy 23333, mnn 8000, vllm 58000, openai 80.",
  ),
  key: setting(z.string().min(1).exactOptional(), "Key sent to the server as `Authorization: Bearer …`.", { secret: true }),
  headers: setting(z.record(z.string().regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/), z.string()).default({}), "Further headers sent with every request.", { secret: true }),
  contextLength: setting(count.exactOptional(), "Tokens of context to report for its models (and, for Ollama, to ask for as `num_ctx`) instead of what the server tells."),
  maxOutput: setting(count.exactOptional(), "Most tokens of one answer to report for its models."),
  models: z
    .strictObject({
      include: setting(z.array(z.string().min(1)).exactOptional(), "Only these models are offered; `*` stands for any text."),
      exclude: setting(z.array(z.string().min(1)).default([]), "These models are not offered; `*` stands for any text."),
    })
    .prefault({}),
  aliases: setting(z.record(z.string().min(1), z.string().min(1)).default({}), "Further names for its models: alias → id at the server."),
  keepAlive: setting(
    z.union([z.string().regex(/^-?\d+(\.\d+)?(ms|s|m|h)$/), z.number()]).exactOptional(),
    "Ollama only: how long a model stays in memory after its last use, e.g. `10m`; `-1` for ever, `0` not at all.",
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
/** One upstream, ready to build: `urls` are base URLs with a port and without a trailing slash. */
export type ProviderConfig = Omit<ProviderEntry, "enabled" | "kind" | "urls"> & { kind: ProviderKind; urls: string[] };

const providers = z
  .record(z.string().regex(/^[a-z0-9][a-z0-9_-]*$/), provider)
  .prefault({})
  .transform((entries, check) => {
    const ready: Record<string, ProviderConfig> = {};
    for (const [name, entry] of Object.entries({ ollama: provider.parse({}), ...entries })) {
      if (!entry.enabled) continue;
      const built = build(name, entry);
      if ("message" in built) check.issues.push({ code: "custom", path: [name, ...built.path], input: undefined, message: built.message });
      else ready[name] = built;
    }
    return ready;
  });

function build(name: string, entry: ProviderEntry): ProviderConfig | { path: string[]; message: string } {
  const { enabled: _, kind: named, urls: given, ...rest } = entry;
  const kind = named ?? kinds.find((one) => one === name);
  if (name === "llama_cpp") return { path: [], message: "is the name of the embedded engine, whose settings are those of `llama`" };
  if (kind === undefined) return { path: ["kind"], message: `is missing; allowed: ${kinds.join(", ")}` };
  if (given === undefined && kind === "openai") return { path: ["urls"], message: "is missing; for example [https://server.example]" };
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

const llama = z.strictObject({
  model: setting(z.string().min(1).exactOptional(), "A GGUF file, or a folder of GGUF files. Without it: the folder `models` if there is one here, else the demo model.", {
    env: ["LLAMA_CPP_MODEL"],
    flag: "model",
    short: "m",
  }),
  contextLength: setting(count.exactOptional(), "Tokens of context for each session; absent: what the model was trained for, as far as memory allows.", {
    env: ["LLAMA_CPP_N_CTX"],
    flag: "ctx",
    spellings: automatic,
  }),
  maxNewTokens: setting(count.exactOptional(), "Most tokens of one answer, where the request names none.", {
    env: ["LLAMA_CPP_MAX_NEW_TOKENS", "LLAMA_CPP_MAX_TOKENS"],
    spellings: automatic,
  }),
  flashAttention: setting(z.enum(["auto", "on", "off"]).default("auto"), "Flash attention: less memory, often faster.", {
    env: ["LLAMA_CPP_FLASH_ATTN"],
    spellings: { enabled: "on", enable: "on", "1": "on", true: "on", yes: "on", disabled: "off", disable: "off", "0": "off", false: "off", no: "off" },
  }),
  batchSize: setting(count.exactOptional(), "Most prompt tokens given to the model at once; absent: llama.cpp's own.", { env: ["LLAMA_CPP_N_BATCH"], spellings: automatic }),
  ubatchSize: setting(count.exactOptional(), "Most tokens computed at once; absent: llama.cpp's own.", { env: ["LLAMA_CPP_N_UBATCH"], spellings: automatic }),
  gpuLayers: setting(z.union([z.int().min(0), z.literal("all")]).default("all"), "Layers computed on the GPU. Without a GPU it has no effect.", {
    env: ["LLAMA_CPP_N_GPU_LAYERS", "LLAMA_CPP_GPU_LAYERS"],
    flag: "gpu-layers",
    spellings: { "-1": "all", max: "all", auto: "all" },
  }),
  offloadKqv: setting(z.boolean().default(true), "Keep the context's keys and values on the GPU too.", { env: ["LLAMA_CPP_OFFLOAD_KQV"] }),
  mainGpu: setting(z.int().min(0).default(0), "The GPU used where one is used alone.", { env: ["LLAMA_CPP_MAIN_GPU"] }),
  splitMode: setting(z.enum(["none", "layer", "row"]).default("layer"), "How a model is spread over several GPUs.", {
    env: ["LLAMA_CPP_SPLIT_MODE"],
    spellings: { single: "none", layers: "layer", rows: "row" },
  }),
  threads: setting(count.exactOptional(), "CPU threads for answers; absent: the physical cores.", { env: ["LLAMA_CPP_N_THREADS"], flag: "threads", spellings: automatic }),
  threadsBatch: setting(count.exactOptional(), "CPU threads for prompts; absent: as `llama.threads`.", { env: ["LLAMA_CPP_N_THREADS_BATCH"], spellings: automatic }),
  temperature: setting(z.number().min(0).exactOptional(), "Where the request names none: 0 takes the likeliest token, higher is more varied; absent: the engine's own.", { env: ["LLAMA_CPP_TEMPERATURE"] }),
  topP: setting(probability.exactOptional(), "Where the request names none: only the likeliest tokens of this total probability.", { env: ["LLAMA_CPP_TOP_P"] }),
  topK: setting(z.int().min(0).exactOptional(), "Where the request names none: only this many of the likeliest tokens; 0: all.", { env: ["LLAMA_CPP_TOP_K"] }),
  minP: setting(probability.exactOptional(), "Where the request names none: only tokens at least this likely, relative to the likeliest.", { env: ["LLAMA_CPP_MIN_P"] }),
  seed: setting(z.int().min(0).max(0xffffffff).exactOptional(), "Where the request names none: the same seed gives the same answer; absent or -1: another each time.", {
    env: ["LLAMA_CPP_SEED"],
    spellings: { "-1": null, random: null },
  }),
  repeatPenalty: setting(z.number().gt(0).exactOptional(), "Where the request names none: above 1, tokens said before become less likely; 1: off.", { env: ["LLAMA_CPP_REPEAT_PENALTY"] }),
  penaltyLastN: setting(z.int().min(-1).exactOptional(), "How many of the last tokens the penalty looks at; 0: off, -1: the whole context.", { env: ["LLAMA_CPP_PENALTY_LAST_N"] }),
  useJinja: setting(z.boolean().default(true), "Use the model's own chat template. The engine knows no other way: `false` only warns.", { env: ["LLAMA_CPP_USE_JINJA"] }),
  maxSessions: setting(z.int().min(1).max(256).exactOptional(), "Requests answered at the same time by one model; absent: the engine's own.", {
    env: ["LLAMA_CPP_MAX_SESSIONS"],
    flag: "sessions",
    spellings: automatic,
  }),
  unloadAfterChat: setting(z.boolean().default(false), "Give the model's memory back as soon as it has nothing to do.", { env: ["LLAMA_CPP_UNLOAD_AFTER_CHAT"] }),
  maxLoaded: setting(count.default(1), "Most models in memory at a time; the one unused longest goes first."),
  demo: setting(z.boolean().default(false), "Offer the built-in demo model beside the others; without any other model it is offered anyway.", { flag: "demo" }),
});

/** Every setting there is: the one source of the loader, the flags, the reference docs and the JSON Schema. */
export const schema = z.strictObject({
  listen: z
    .strictObject({
      host: setting(z.string().min(1).default("127.0.0.1"), "Address to listen on; `0.0.0.0` or `::` for every network.", { env: ["RUNTIME_LISTEN_HOST"], flag: "host" }),
      port: setting(port.default(18080), "Port to listen on; 0 takes a free one.", { env: ["RUNTIME_LISTEN_PORT"], flag: "port", short: "p" }),
    })
    .prefault({}),
  insecure: setting(z.boolean().default(false), "Allow listening beyond this machine without a key: whoever reaches the port may use the models.", { flag: "insecure" }),
  auth: z
    .strictObject({
      keys: setting(z.array(z.string().min(1)).default([]), "Keys of which callers must send one; none: no key is asked for.", {
        env: ["LLM_V1_PROXY_TOKEN", "OPENAI_PROXY_TOKEN"],
        secret: true,
      }),
    })
    .prefault({}),
  defaultProvider: setting(z.string().min(1).default("llama_cpp"), "The provider of model names without a `provider:` prefix.", { env: ["RUNTIME_PROVIDER"], flag: "provider" }),
  providers,
  llama: llama.prefault({}),
  timeouts: z
    .strictObject({
      connect: setting(duration.prefault("5s"), "For a connection to a provider.", { unit: "duration" }),
      firstByte: setting(duration.prefault("30m"), "For a provider's first byte; 0: for ever. A server that does not stream sends it when the whole answer is done.", { unit: "duration" }),
      idle: setting(duration.prefault("15m"), "Between two bytes of a provider's answer; 0: for ever. Some servers send a first chunk and then read the prompt for minutes.", { unit: "duration" }),
      probe: setting(duration.prefault("2s"), "For a provider's list of models and its health, so that a dead one delays nobody.", { unit: "duration" }),
      heartbeat: setting(duration.prefault("10s"), "Silence of a stream after which a heartbeat is sent, so that clients and proxies keep the connection.", { unit: "duration" }),
      headers: setting(duration.prefault("30s"), "For a client to send the head of its request.", { unit: "duration" }),
      request: setting(duration.prefault("5m"), "For a client to send its whole request.", { unit: "duration" }),
      keepAlive: setting(duration.prefault("75s"), "How long a client's unused connection stays open.", { unit: "duration" }),
      shutdown: setting(duration.prefault("30s"), "For answers under way when the program is asked to stop.", { unit: "duration" }),
    })
    .prefault({}),
  limits: z
    .strictObject({
      body: setting(size.prefault("64MB"), "Largest request body.", { unit: "size" }),
      headers: setting(size.prefault("32KB"), "Largest head of a request.", { unit: "size" }),
      concurrent: setting(z.int().min(0).default(0), "Most calls at a time over all providers; 0: no limit."),
    })
    .prefault({}),
  cors: z
    .strictObject({
      origins: setting(z.array(z.string().min(1)).default([]), "Web pages (origins) that may call from a browser, beside those of this machine; `*`: any."),
    })
    .prefault({}),
  hosts: setting(z.array(z.string().min(1)).default([]), "Further host names by which this server may be addressed, e.g. behind a reverse proxy."),
  log: z
    .strictObject({
      level: setting(z.enum(["debug", "info", "warn", "error", "silent"]).default("info"), "What is worth a line.", { flag: "log-level" }),
      format: setting(z.enum(["auto", "pretty", "json"]).default("auto"), "`auto`: `pretty` on a terminal, else `json`.", { flag: "log-format" }),
    })
    .prefault({}),
});

/** A complete configuration: every default filled in, durations in milliseconds, sizes in bytes. */
export type Config = z.output<typeof schema>;
/** The settings of the embedded engine. */
export type LlamaConfig = Config["llama"];
