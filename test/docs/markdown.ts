/** A fenced block of a Markdown file. */
export interface Block {
  /** e.g. `sh` */
  readonly language: string;
  readonly text: string;
  /** Line of the opening fence, from 1. */
  readonly line: number;
}

/** Every fenced block, in order. */
export function fencedBlocks(markdown: string): Block[] {
  const blocks: Block[] = [];
  let open: { language: string; lines: string[]; line: number } | undefined;
  for (const [index, text] of markdown.split(/\r?\n/).entries()) {
    const fence = /^```(\w*)\s*$/.exec(text);
    if (fence === null) open?.lines.push(text);
    else if (open === undefined) open = { language: fence[1]!, lines: [], line: index + 1 };
    else {
      blocks.push({ language: open.language, text: open.lines.join("\n"), line: open.line });
      open = undefined;
    }
  }
  return blocks;
}

/** One HTTP request as a command line says it. */
export interface Request {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
}

/** What a curl command for a POSIX shell sends. Knows the flags that our documents use and refuses all others. */
export function readCurl(command: string): Request {
  const words = splitShell(command.replaceAll("\\\n", " "));
  if (words.shift() !== "curl") throw new Error(`no curl command: ${command}`);
  const request = { method: "", url: "", headers: {} as Record<string, string>, body: undefined as unknown };
  while (words.length > 0) {
    const word = words.shift()!;
    if (word === "-N" || word === "-s" || word === "-i") continue;
    if (word === "-X") request.method = words.shift()!;
    else if (word === "-H") addHeader(request.headers, words.shift()!);
    else if (word === "-d") request.body = JSON.parse(words.shift()!);
    else if (word.startsWith("-")) throw new Error(`unknown flag ${word} in: ${command}`);
    else request.url = word;
  }
  return { ...request, method: request.method || (request.body === undefined ? "GET" : "POST") };
}

/** What an `Invoke-RestMethod`, or a `'…' | curl.exe … -d "@-"`, of PowerShell sends. */
export function readPowerShell(command: string): Request {
  const joined = command.replaceAll("`\n", " ");
  const piped = /^'((?:[^']|'')*)'\s*\|\s*(curl\.exe [\s\S]*)$/.exec(joined);
  if (piped !== null) {
    const words = piped[2]!.replace(/^curl\.exe/, "curl").replace(`-d "@-"`, "");
    return { ...readCurl(words), method: "POST", body: JSON.parse(piped[1]!.replaceAll("''", "'")) };
  }
  const words = splitShell(joined);
  if (words.shift() !== "Invoke-RestMethod") throw new Error(`neither Invoke-RestMethod nor curl.exe: ${command}`);
  const request = { method: "GET", url: "", headers: {} as Record<string, string>, body: undefined as unknown };
  while (words.length > 0) {
    const word = words.shift()!;
    if (word === "-Method") request.method = words.shift()!.toUpperCase();
    else if (word === "-ContentType") request.headers["content-type"] = words.shift()!;
    else if (word === "-Body") request.body = JSON.parse(words.shift()!);
    else if (word.startsWith("-")) throw new Error(`unknown parameter ${word} in: ${command}`);
    else request.url = word;
  }
  return request;
}

function addHeader(headers: Record<string, string>, text: string): void {
  const colon = text.indexOf(":");
  headers[text.slice(0, colon).toLowerCase()] = text.slice(colon + 1).trim();
}

/** Words of a command line; quotes are taken off. */
function splitShell(command: string): string[] {
  const words = command.match(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g) ?? [];
  return words.map((word) =>
    word.replace(/"([^"]*)"|'([^']*)'/g, (_all, double?: string, single?: string) => double ?? single ?? ""),
  );
}
