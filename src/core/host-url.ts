/**
 * `OLLAMA_HOST=a, http://b:8000/x` → base URLs without a trailing slash, by Ollama's own rules (its envconfig): quotes
 * and spaces are trimmed, a missing scheme is `http`, `0.0.0.0` and `::` become loopback, a path is kept. A missing
 * port is `defaultPort` (443 for https): unlike Ollama's rule of 80, and as the original program has it.
 * Throws an Error that names what is wrong, never a credential.
 */
export function parseHosts(value: string, defaultPort: number): string[] {
  const parts = unquoted(value)
    .split(",")
    .map(unquoted)
    .filter((part) => part !== "");
  if (parts.length === 0) throw new Error(`no host given; write for example http://127.0.0.1:${defaultPort}`);
  return [...new Set(parts.map((part) => parseHost(part, defaultPort)))];
}

function parseHost(text: string, defaultPort: number): string {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase();
  if (scheme !== undefined && scheme !== "http" && scheme !== "https") {
    throw new Error(`cannot use "${scheme}://": a host starts with http:// or https://`);
  }
  const rest = scheme === undefined ? text : text.slice(scheme.length + 3);
  const slash = rest.search(/[/?#]/);
  const authority = slash === -1 ? rest : rest.slice(0, slash);
  if (authority.includes("@")) {
    throw new Error("a host must not hold a user name or password; give the provider's key as its own setting");
  }
  const { host, port } = splitPort(authority, text);
  const url = parsed(`${scheme ?? "http"}://${connectable(host)}`, text);
  url.port = port ?? (scheme === "https" ? "443" : String(defaultPort));
  const path =
    slash === -1
      ? ""
      : rest
          .slice(slash)
          .replace(/[?#].*$/, "")
          .replace(/\/+$/, "");
  return url.origin + path;
}

function splitPort(authority: string, text: string): { host: string; port: string | undefined } {
  const bare = authority.replace(/^\[(.*)\]$/, "$1");
  // More than one colon without brackets: an IPv6 address, which has no port.
  if (!authority.startsWith("[") && authority.split(":").length > 2) return { host: bare, port: undefined };
  const match = /^(.*?)(?::([^:\]]*))?$/.exec(authority);
  const port = match?.[2];
  if (port !== undefined && !(/^\d{1,5}$/.test(port) && Number(port) > 0 && Number(port) < 65536)) {
    throw new Error(`"${text}" has no valid port: a port is a number from 1 to 65535`);
  }
  return { host: (match?.[1] ?? "").replace(/^\[(.*)\]$/, "$1"), port };
}

/** An address to listen on is none to connect to. */
function connectable(host: string): string {
  if (host === "" || host === "0.0.0.0") return "127.0.0.1";
  if (host === "::" || host === "0:0:0:0:0:0:0:0") return "[::1]";
  return host.includes(":") ? `[${host}]` : host;
}

function parsed(url: string, text: string): URL {
  try {
    return new URL(url);
  } catch {
    throw new Error(`"${text}" is no address of a host; write for example http://127.0.0.1:11434`);
  }
}

function unquoted(text: string): string {
  return text.replace(/^[\s"']+|[\s"']+$/g, "");
}

/** Whether the address is reached from this machine only. */
export function isLoopback(host: string): boolean {
  const plain = host
    .trim()
    .toLowerCase()
    .replace(/^\[(.*)\]$/, "$1")
    .replace(/^::ffff:/, "");
  return plain === "localhost" || plain.endsWith(".localhost") || plain === "::1" || /^127(\.\d{1,3}){3}$/.test(plain);
}
