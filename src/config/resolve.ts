import type { z } from "zod";
import { allowedText, isSection, keysBelow, type Setting, settingAt, settings } from "./describe.ts";
import { type Assignment, type Environment, namedAssignments, readEnvironment } from "./environment.ts";
import { suggestion } from "../core/nearest.ts";
import { ConfigError, type Problem } from "./problems.ts";
import { type Config, schema } from "./schema.ts";
import { type FlagCommand, hasFlag } from "./setting.ts";
import { interpolate, readValue } from "./values.ts";

/** Flags by name, as `util.parseArgs` gives them: those of the schema, and `set` with `path=value` entries. */
export type Flags = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;

/** A configuration file that has been parsed. */
export interface ParsedFile {
  /** As shown to the user. */
  readonly name: string;
  readonly tree: unknown;
  /** Line of a key, from 1. */
  line(keys: readonly string[]): number | undefined;
}

export interface Layers {
  readonly flags: Flags;
  /** Whose flags they are; default: those of `serve`. */
  readonly command?: FlagCommand;
  readonly env: Environment;
  readonly file?: ParsedFile;
  /** Values weaker than all others but the defaults. */
  readonly found: readonly Assignment[];
}

/** A configuration and where each value came from. */
export interface Resolved {
  readonly config: Config;
  /** Path of a setting → `--port`, `RUNTIME_LISTEN_PORT`, `lair.yaml:3`; absent: the default. */
  readonly sources: ReadonlyMap<string, string>;
  /** What has no effect, and why; each one sentence. */
  readonly warnings: readonly string[];
}

type Tree = Record<string, unknown>;

interface Draft {
  readonly tree: Tree;
  readonly sources: Map<string, string>;
  readonly problems: Problem[];
  /** Paths whose value holds one of the environment, which a message must not repeat. */
  readonly hidden: Set<string>;
}

/** Flags over environment over file over defaults. Throws `ConfigError` with every problem there is. */
export function resolveConfig({ flags, command = "serve", env, file, found }: Layers): Resolved {
  const draft: Draft = { tree: {}, sources: new Map(), problems: [], hidden: new Set() };
  for (const { keys, value, source } of found) assign(draft, keys, value, source);
  if (file !== undefined) assignFile(draft, file, env);
  const flagged = [...flagAssignments(draft, flags, command)];
  const fromEnvironment = readEnvironment(env, {
    providers: Object.keys(mapAt(draft.tree, "providers")),
    "gateway.upstreams": [
      ...Object.keys(mapAt(mapAt(draft.tree, "gateway"), "upstreams")),
      ...flagged.flatMap(({ keys }) => (keys[1] === "upstreams" ? (keys[2] ?? []) : [])),
    ],
  });
  const given = [...fromEnvironment.assignments, ...flagged];
  for (const { keys, value, source } of given) assign(draft, keys, value, source);
  draft.problems.push(...repeatedNames(given));
  const parsed = schema.safeParse(draft.tree);
  const problems = [...draft.problems, ...(parsed.error?.issues ?? []).map((issue) => toProblem(issue, draft))];
  problems.push(...defaultProviderProblem(draft));
  if (!parsed.success || problems.length > 0) throw new ConfigError(problems);
  return {
    config: parsed.data,
    sources: draft.sources,
    warnings: [...fromEnvironment.warnings, ...idleSettings(parsed.data, draft.sources)],
  };
}

function assignFile(draft: Draft, file: ParsedFile, env: Environment): void {
  const source = (keys: readonly string[]): string => {
    const line = file.line(keys);
    return line === undefined ? file.name : `${file.name}:${line}`;
  };
  for (const [keys, raw] of leaves(file.tree, [])) {
    const path = keys.join(".");
    if (settingAt(keys) === undefined) {
      draft.problems.push({ path, source: source(keys), message: unknownText(keys, raw) });
      continue;
    }
    const { value, missing, replaced } = interpolate(raw, env);
    for (const name of missing)
      draft.problems.push({ path, source: source(keys), message: `the environment variable ${name} is not set` });
    if (missing.length === 0) assign(draft, keys, value, source(keys));
    if (replaced) draft.hidden.add(path);
  }
  // `lmdeploy:` with nothing below it switches that provider on at its usual address.
  for (const section of [["providers"], ["gateway", "upstreams"]]) {
    const entries = (tree: unknown): Tree =>
      section.reduce<Tree>((node, key) => mapAt(node, key), isMap(tree) ? tree : {});
    for (const [name, entry] of Object.entries(entries(file.tree))) {
      if (entry === null || isMap(entry))
        place(draft.tree, [...section, name], { ...mapAt(entries(draft.tree), name) });
    }
  }
}

function assign(draft: Draft, keys: readonly string[], raw: unknown, source: string): void {
  const setting = settingAt(keys);
  const path = keys.join(".");
  if (setting === undefined) {
    draft.problems.push({ path, source, message: unknownText(keys, raw) });
    return;
  }
  draft.hidden.delete(path);
  const read = readValue(setting, raw);
  if ("problem" in read) draft.problems.push({ path, source, message: read.problem });
  else if ("unset" in read) remove(draft.tree, keys);
  else place(draft.tree, keys, read.value);
  draft.sources.set(path, source);
}

/** Settings of a parsed file with their paths; whatever is no setting comes out at the place where that shows. */
function* leaves(node: unknown, keys: readonly string[]): Generator<[readonly string[], unknown]> {
  if (!isSection(keys)) yield [keys, node];
  else if (isMap(node)) for (const [key, child] of Object.entries(node)) yield* leaves(child, [...keys, key]);
  else if (node !== null && node !== undefined) yield [keys, node];
}

function* flagAssignments(draft: Draft, flags: Flags, command: FlagCommand): Generator<Assignment> {
  for (const setting of settings()) {
    const { keys, facts } = setting;
    const value = hasFlag(facts, command) ? flags[facts.flag ?? ""] : undefined;
    const source = `--${facts.flag}`;
    if (value !== undefined && facts.named === true)
      yield* namedAssignments(setting, [value].flat().map(String), source);
    else if (typeof value === "string" || typeof value === "boolean") yield { keys, value: String(value), source };
  }
  for (const entry of [flags["set"] ?? []].flat()) {
    const [, path, value] = /^([^=]+)=(.*)$/s.exec(String(entry)) ?? [];
    if (path === undefined || value === undefined)
      draft.problems.push({
        path: "",
        source: "--set",
        message: "write it as path=value, e.g. --set timeouts.idle=5m",
      });
    else yield { keys: path.trim().split("."), value, source: "--set" };
  }
}

/** Two entries of one flag or variable under the same name: one of them would be lost. */
function* repeatedNames(given: readonly Assignment[]): Generator<Problem> {
  const seen = new Set<string>();
  for (const { keys, source } of given) {
    if (settingAt(keys)?.facts.named !== true) continue;
    const path = keys.join(".");
    if (seen.has(`${source} ${path}`))
      yield {
        path,
        source,
        message: `the name ${JSON.stringify(keys.at(-2))} is given twice; write NAME=address, each with a name of its own`,
      };
    seen.add(`${source} ${path}`);
  }
}

function unknownText(keys: readonly string[], raw: unknown): string {
  if (isSection(keys)) {
    const below = keysBelow(keys);
    const found = Array.isArray(raw) ? "a list" : isMap(raw) ? "a map" : "one value";
    return `found ${found}; allowed: a section with ${below.length > 0 ? below.join(", ") : "a name for each entry"}`;
  }
  const depth = keys.findIndex((_, at) => !isSection(keys.slice(0, at + 1)));
  const siblings = keysBelow(keys.slice(0, depth));
  const allowed = siblings.length > 0 ? ` (allowed here: ${siblings.join(", ")})` : "";
  return `there is no such setting${suggestion(keys[depth] ?? "", siblings)}${allowed}`;
}

function toProblem(issue: z.core.$ZodIssue, draft: Draft): Problem {
  const keys = issue.path.map(String);
  const setting = prefixes(keys)
    .map(settingAt)
    .find((one) => one !== undefined);
  const path = keys.slice(0, setting?.keys.length ?? keys.length).join(".");
  const source = draft.sources.get(path) ?? nearestSource(draft, path);
  if (issue.code === "custom") return { path, source, message: issue.message };
  if (issue.code === "invalid_key" && setting === undefined) {
    const named = keys[0] === "providers" || keys[1] === "upstreams";
    const allowed = named ? "small letters, digits, - and _" : "1 to 200 characters";
    return { path, source, message: `is no name for a ${named ? "provider" : "model"}; allowed: ${allowed}` };
  }
  if (setting === undefined) return { path, source, message: issue.message };
  return { path, source, message: `${foundText(setting, keys, draft)}; allowed: ${allowedText(setting)}` };
}

function foundText(setting: Setting, keys: readonly string[], draft: Draft): string {
  const value = keys.reduce<unknown>(
    (node, key) => (isMap(node) || Array.isArray(node) ? (node as Tree)[key] : undefined),
    draft.tree,
  );
  if (setting.facts.secret === true || draft.hidden.has(keys.slice(0, setting.keys.length).join("."))) {
    return value === "" ? "found an empty text" : "found a value that is not shown here";
  }
  const text = JSON.stringify(value) ?? "nothing";
  return `found ${text.length > 80 ? `${text.slice(0, 77)}…` : text}`;
}

function defaultProviderProblem({ tree, sources }: Draft): Problem[] {
  const name = tree["defaultProvider"] ?? "llama_cpp";
  const entries = Object.entries({ ollama: {}, ...mapAt(tree, "providers") });
  const names = [
    "llama_cpp",
    ...entries.filter(([, entry]) => !isMap(entry) || entry["enabled"] !== false).map(([one]) => one),
  ];
  if (typeof name !== "string" || names.includes(name)) return [];
  const variable = {
    lmdeploy: "LMDEPLOY_HOST=http://127.0.0.1:23333",
    mnn: "MNN_HOST=http://127.0.0.1:8000",
    vllm: "VLLM_HOST=http://127.0.0.1:58000",
  }[name];
  const next = variable === undefined ? suggestion(name, names) : `; set ${variable}`;
  const message = `there is no provider ${JSON.stringify(name)} (configured: ${names.join(", ")})${next}`;
  return [{ path: "defaultProvider", source: sources.get("defaultProvider") ?? "", message }];
}

/** Settings that were given and change nothing. */
function* idleSettings(config: Config, sources: ReadonlyMap<string, string>): Generator<string> {
  const from = (path: string): string => `${path} (${sources.get(path) ?? "default"})`;
  for (const [name, { kind, keepAlive }] of Object.entries(config.providers)) {
    if (keepAlive !== undefined && kind !== "ollama")
      yield `${from(`providers.${name}.keepAlive`)} has no effect: only Ollama knows it`;
  }
  if (config.state.url !== undefined || Object.keys(config.gateway.upstreams).length > 0) return;
  for (const path of sources.keys()) {
    if (/^(limits\.caller|prices|usage)\./.test(path))
      yield `${from(path)} has no effect in lair serve and lair cloud: limits and usage need a state (LAIR_STATE)`;
  }
}

/** Where the things around a path came from: it may be there only because of them. */
function nearestSource({ sources }: Draft, path: string): string {
  for (const around of prefixes(path.split(".")).toReversed()) {
    for (const [known, source] of sources) if (known.startsWith(`${around.join(".")}.`)) return source;
  }
  return "";
}

function prefixes(keys: readonly string[]): string[][] {
  return keys.map((_, at) => keys.slice(0, at + 1));
}

function place(tree: Tree, keys: readonly string[], value: unknown): void {
  const [first, ...rest] = keys;
  if (first === undefined) return;
  if (rest.length === 0)
    Object.defineProperty(tree, first, { value, enumerable: true, configurable: true, writable: true });
  else {
    if (!Object.hasOwn(tree, first) || !isMap(tree[first])) place(tree, [first], {});
    place(mapAt(tree, first), rest, value);
  }
}

function remove(tree: Tree, keys: readonly string[]): void {
  const last = keys.at(-1);
  const holder = keys.slice(0, -1).reduce((node, key) => mapAt(node, key), tree);
  if (last !== undefined) delete holder[last];
}

function mapAt(tree: Tree, key: string): Tree {
  const value = Object.hasOwn(tree, key) ? tree[key] : undefined;
  return isMap(value) ? value : {};
}

function isMap(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
