/** One import statement of a source file. */
export interface Import {
  /** Path below `src`, with forward slashes, e.g. `http/server.ts`. */
  readonly file: string;
  /** What it imports, as written. */
  readonly specifier: string;
}

/** Who may import whom. `*` is every room. `app.ts` stands in `src` itself and counts as the room `app`. */
export const rooms: Readonly<Record<string, readonly string[] | "*">> = {
  core: [],
  wire: ["core"],
  engines: ["core", "wire"],
  net: ["core"],
  tunnel: ["core", "wire", "net"],
  state: ["core"],
  access: ["core", "wire", "state"],
  limits: ["core", "wire", "dialects", "state"],
  usage: ["core", "wire", "dialects", "state", "access", "limits"],
  responses: ["core", "wire", "net", "dialects", "state"],
  routing: ["core", "wire", "dialects"],
  config: ["core"],
  hub: ["core"],
  dialects: ["core", "wire"],
  providers: ["core", "wire", "dialects", "engines", "net", "hub"],
  pipeline: ["core", "wire", "dialects", "state", "access"],
  admin: ["core", "state", "access", "usage"],
  http: ["core", "wire"],
  app: "*",
  cloud: "*",
  gateway: "*",
  front: "*",
  "open-state": "*",
  "relay-sharing": "*",
  agent: "*",
  "model-store": "*",
  "model-stock": "*",
  cli: [
    "app",
    "cloud",
    "agent",
    "gateway",
    "open-state",
    "model-store",
    "state",
    "access",
    "usage",
    "config",
    "core",
    "wire",
    "hub",
  ],
};

/** Each package that comes from outside, and each part of Node that reaches outside, with the file (or room) that holds it. */
export const doors: Readonly<Record<string, string>> = {
  "node:http": "http/server.ts",
  "node:tls": "net/connect.ts",
  "node:https": "http/server.ts",
  ws: "net/web-socket.ts",
  ioredis: "state/redis/connection.ts",
  libsql: "state/sqlite/database.ts",
  "node:sqlite": "state/sqlite/database.ts",
  koffi: "engines/llama/native/binding.ts",
  pino: "cli/logger.ts",
  "jsonc-parser": "cli/clients/json-file.ts",
  yaml: "config/load.ts",
  zod: "config/",
};

/** Files that may say `process.env`. */
const environmentDoors = ["config/load.ts", "cli/main.ts"];

/** Every import, export-from and dynamic import with a literal in a source text. Comments do not count. */
export function readImports(file: string, source: string): Import[] {
  const code = withoutComments(source);
  const forms = [
    /(?:^|;)\s*(?:import|export)\b[^;"'`]*?\bfrom\s*["']([^"']+)["']/gm,
    /(?:^|;)\s*import\s*["']([^"']+)["']/gm,
    /\bimport\s*\(\s*["'`]([^"'`]+)["'`]\s*\)/g,
    /\brequire\s*\(\s*["'`]([^"'`]+)["'`]\s*\)/g,
  ];
  return forms.flatMap((form) => Array.from(code.matchAll(form), ([, specifier]) => ({ file, specifier: specifier! })));
}

/** What is wrong with one source file, as sentences; empty when nothing is. */
export function findViolations(file: string, source: string): string[] {
  const room = roomOf(file);
  if (!(room in rooms)) return [`${file}: the room "${room}" is not declared in test/layers.ts`];
  const problems = readImports(file, source).flatMap((entry) => judge(entry, room));
  const readsEnvironment = /\bprocess\s*(?:\.\s*env\b|\[\s*["'`]env)/.test(withoutComments(source));
  const importsEnvironment = /import\s*\{[^}]*\benv\b[^}]*\}\s*from\s*["']node:process["']/.test(source);
  if ((readsEnvironment || importsEnvironment) && !environmentDoors.includes(file)) {
    problems.push(`${file}: reads process.env; its doors are ${environmentDoors.join(" and ")}`);
  }
  return problems;
}

function judge({ file, specifier }: Import, room: string): string[] {
  if (specifier.startsWith(".")) return judgeRelative(file, room, specifier);
  const name = packageOf(specifier);
  const door = doors[name];
  if (door === undefined) {
    if (specifier.startsWith("node:")) return [];
    return [`${file}: imports "${specifier}", which has no door in test/layers.ts`];
  }
  const inside = door.endsWith("/") ? file.startsWith(door) : file === door;
  return inside ? [] : [`${file}: imports "${specifier}"; its one door is ${door}`];
}

function judgeRelative(file: string, room: string, specifier: string): string[] {
  const target = resolve(file, specifier);
  if (target === undefined) return [`${file}: imports "${specifier}", which is outside of src`];
  if (!/\.(ts|json)$/.test(specifier)) return [`${file}: imports "${specifier}" without its extension`];
  const other = roomOf(target);
  const allowed = rooms[room];
  if (other === room || allowed === "*" || allowed?.includes(other) === true) return [];
  return [`${file}: ${room} may not import ${other} ("${specifier}")`];
}

function roomOf(file: string): string {
  const slash = file.indexOf("/");
  return slash === -1 ? file.replace(/\.ts$/, "") : file.slice(0, slash);
}

function packageOf(specifier: string): string {
  if (specifier.startsWith("node:")) return specifier;
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}

/** The path below src that a relative specifier means, or undefined when it leaves src. */
function resolve(file: string, specifier: string): string | undefined {
  const parts = file.split("/").slice(0, -1);
  for (const step of specifier.split("/")) {
    if (step === "..") {
      if (parts.pop() === undefined) return undefined;
    } else if (step !== ".") parts.push(step);
  }
  return parts.join("/");
}

// Strings stay whole, for `//` in a URL opens no comment.
function withoutComments(source: string): string {
  const pieces = /("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g;
  return source.replace(pieces, (_whole, text: string | undefined) => text ?? "");
}
