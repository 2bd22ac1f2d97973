import { environmentName, type Setting, settings } from "./describe.ts";
import { nearest } from "../core/nearest.ts";
import { providerKinds } from "./provider-settings.ts";

/** Environment variables by name, as `process.env` has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** One value given by an environment variable. */
export interface Assignment {
  readonly keys: readonly string[];
  readonly value: string;
  /** The variable, e.g. `LLAMA_CPP_N_CTX`. */
  readonly source: string;
}

/** `OLLAMA_HOST` … → the provider they make or change. */
const hostVariables: Readonly<Record<string, string>> = {
  OLLAMA_HOST: "ollama",
  LMDEPLOY_HOST: "lmdeploy",
  MNN_HOST: "mnn",
  VLLM_HOST: "vllm",
};

/** Variables that this release knows of and does not honour (most are the original runtime's) → why, and what to do. */
export const notHonoured: readonly { readonly names: readonly string[]; readonly reason: string }[] = [
  {
    names: ["", "_PATH", "_TYPE", "_ENDPOINT", "_PASSWORD", "_DB", "_NAMESPACE", "_RESET_ON_BOOT"].map(
      (end) => `RUNTIME_SESSION_STORE${end}`,
    ),
    reason: "conversations are not stored on the server; clients send the whole conversation",
  },
  {
    names: ["MCP_HOST", "MCP_HOSTS"],
    reason: "tools run in the client (opencode, Codex, …), which connects to MCP servers itself",
  },
  { names: ["RUNTIME_WORKSPACE_ROOT"], reason: "the server has no file tools; the client has" },
  { names: ["AGENT_SERVER_HOST"], reason: "write that server as a provider of kind openai in lair.yaml" },
  { names: ["VLLM_STOP_PATH", "VLLM_UNLOAD_PATH"], reason: "models of vLLM are loaded and unloaded there" },
  {
    names: ["RUNTIME_API_PREFIX_MODE"],
    reason: "paths are always served both as OpenAI has them (/v1/…) and below /api (/api/v1/…)",
  },
  {
    names: ["RUNTIME_STREAM_MODEL_TIMEOUT_S", "RUNTIME_STREAM_TOOL_TIMEOUT_S", "RUNTIME_STREAM_PROGRESS_MS"],
    reason: "use LAIR_TIMEOUTS_FIRST_BYTE, LAIR_TIMEOUTS_IDLE and LAIR_TIMEOUTS_HEARTBEAT",
  },
];

/** Sections with an entry for each name, of which every setting has a variable: `LAIR_PROVIDERS_<NAME>_KEY`. */
const namedSections = ["providers", "gateway.upstreams"] as const;
/** Names of the entries that there are, by section. */
export type EntryNames = Readonly<Record<(typeof namedSections)[number], readonly string[]>>;

/** The variables of a setting, strongest first; `<NAME>` stands for the name of an entry. */
export function variablesOf({ keys, facts }: Setting): string[] {
  const own = environmentName(keys);
  const star = keys.indexOf("*");
  if (star === -1) return [own, ...(facts.env ?? [])];
  const readable = namedSections.some((section) => section === keys.slice(0, star).join("."));
  return [...(readable ? [own.replace("*", "<NAME>")] : []), ...(facts.env ?? [])];
}

/**
 * The entries of a flag or variable that holds a list of `value` and `name=value`: those without a name are called
 * `upstream`, `upstream-2` and so on. A name that comes twice gets both values, which its setting refuses or takes.
 */
export function* namedAssignments({ keys }: Setting, texts: readonly string[], source: string): Generator<Assignment> {
  const parts = texts.flatMap((text) => text.split(",")).map((part) => part.trim());
  const singular = (keys.at(-3) ?? "").replace(/s$/, "");
  let unnamed = 0;
  for (const part of parts.filter((one) => one !== "")) {
    // A query of an address may hold a `=` too.
    const [, given, value = part] = /^([^=:/?]+)=(.*)$/.exec(part) ?? [];
    if (given === undefined) unnamed++;
    const name = given?.trim() ?? (unnamed === 1 ? singular : `${singular}-${unnamed}`);
    yield { keys: keys.map((key) => (key === "*" ? name : key)), value, source };
  }
}

/** Values of all variables that set something, weakest first; an empty variable counts as not set. */
export function readEnvironment(
  env: Environment,
  names: EntryNames,
): { assignments: Assignment[]; warnings: string[] } {
  const assignments: Assignment[] = [];
  const warnings: string[] = [];
  for (const { keys, facts } of settings()) {
    if (keys.includes("*")) continue;
    const names = [environmentName(keys), ...(facts.env ?? [])];
    const set = names
      .map((source) => ({ keys, source, value: cleaned(env[source]) }))
      .filter(({ value }) => value !== "");
    const [first, ...others] = set;
    if (first === undefined) continue;
    if (keys.join(".") === "auth.keys") {
      assignments.push({
        keys,
        source: set.map(({ source }) => source).join(", "),
        value: set.map(({ value }) => value).join(","),
      });
      continue;
    }
    assignments.push(first);
    for (const other of others) {
      if (other.value !== first.value)
        warnings.push(`${other.source} is ignored: ${first.source} sets ${keys.join(".")} too`);
    }
  }
  for (const [source, name] of Object.entries(hostVariables)) {
    const value = cleaned(env[source]);
    if (value !== "") assignments.push({ keys: ["providers", name, "urls"], source, value });
  }
  for (const setting of settings().filter(({ facts }) => facts.named === true)) {
    for (const source of setting.facts.env ?? [])
      assignments.push(...namedAssignments(setting, [cleaned(env[source])], source));
  }
  const named = assignments.flatMap(({ keys }) => (keys[1] === "upstreams" ? (keys[2] ?? []) : []));
  const known = { ...names, "gateway.upstreams": [...names["gateway.upstreams"], ...named] };
  assignments.push(...sectionAssignments(env, known));
  return { assignments, warnings: [...warnings, ...strangers(env)] };
}

/**
 * A variable without what surrounds the value by mistake: spaces (`set X=1 && lair` in cmd.exe keeps one) and the
 * quotes of `set X="M:\models"`, which cmd.exe keeps too. Backslashes stay as they are.
 */
export function cleaned(value: string | undefined): string {
  const text = (value ?? "").trim();
  const quoted = /^"([^"]*)"$|^'([^']*)'$/.exec(text);
  return quoted === null ? text : (quoted[1] ?? quoted[2] ?? "").trim();
}

/** `LAIR_PROVIDERS_MY_BOX_KEY` → `providers.my-box.key`; a name that is there already wins over a guess. */
function* sectionAssignments(env: Environment, names: EntryNames): Generator<Assignment> {
  for (const [source, raw] of Object.entries(env)) {
    const value = cleaned(raw);
    const found = value === "" ? undefined : splitNamedVariable(source.toUpperCase());
    if (found === undefined) continue;
    const plain = (name: string): string => name.toUpperCase().replaceAll("-", "_");
    const known = [...names[found.section], ...(found.section === "providers" ? Object.keys(providerKinds) : [])];
    const name = known.find((one) => plain(one) === found.name) ?? found.name.toLowerCase();
    yield { keys: [...found.section.split("."), name, ...found.rest], source, value };
  }
}

/** A variable of one entry of a section. */
interface NamedVariable {
  readonly section: (typeof namedSections)[number];
  readonly name: string;
  /** The path below the entry. */
  readonly rest: readonly string[];
}

/** The longest setting that the variable's name ends in; the middle is the entry's name. */
function splitNamedVariable(variable: string): NamedVariable | undefined {
  let best: NamedVariable | undefined;
  for (const section of namedSections) {
    const above = section.split(".");
    const prefix = `${environmentName(above)}_`;
    if (!variable.startsWith(prefix)) continue;
    for (const { keys } of settings()) {
      if (!above.every((key, at) => keys[at] === key) || keys[above.length] !== "*") continue;
      const ending = environmentName(keys).slice(`${prefix}*`.length);
      const name = variable.slice(prefix.length, -ending.length);
      if (variable.endsWith(ending) && name !== "" && (best === undefined || name.length < best.name.length))
        best = { section, name, rest: keys.slice(above.length + 1) };
    }
  }
  return best;
}

/** What to say about variables that look like ours and have no effect. */
function* strangers(env: Environment): Generator<string> {
  const known = settings().flatMap(({ keys, facts }) => [
    ...(keys.includes("*") ? [] : [environmentName(keys)]),
    ...(facts.env ?? []),
  ]);
  known.push("LAIR_CONFIG", "LAIR_MODELS", "LAIR_KEY", ...Object.keys(hostVariables));
  for (const [name, value] of Object.entries(env)) {
    if (
      cleaned(value) === "" ||
      known.includes(name.toUpperCase()) ||
      splitNamedVariable(name.toUpperCase()) !== undefined
    )
      continue;
    const reason = notHonoured.find(({ names }) => names.includes(name))?.reason;
    if (reason !== undefined) yield `${name} is not honoured by this release: ${reason}`;
    else if (/^(LAIR|LLAMA_CPP|RUNTIME)_/.test(name)) {
      const near = nearest(name, known);
      if (near !== undefined) yield `${name} is no variable of this program and has no effect; did you mean ${near}?`;
      // Other programs may have a RUNTIME_ variable of their own.
      else if (!name.startsWith("RUNTIME_")) yield `${name} is no variable of this program and has no effect`;
    }
  }
  const proxy = ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].find((name) =>
    /^socks/i.test(cleaned(env[name])),
  );
  if (proxy !== undefined) yield `${proxy} is not honoured: only http:// and https:// proxies are supported, not SOCKS`;
}
