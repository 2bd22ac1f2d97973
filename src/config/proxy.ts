import { BlockList, isIP } from "node:net";
import { cleaned, type Environment } from "./environment.ts";
import { isLoopback } from "../core/host-url.ts";

/**
 * The proxy through which a URL is reached, as curl decides it: `https_proxy`, `http_proxy`, else `all_proxy`, lower
 * case before upper; never for this machine itself nor for what `no_proxy` lists. Undefined: directly. SOCKS proxies
 * are not known here and count as none.
 */
export function proxyFor(url: string | URL, env: Environment): string | undefined {
  const { protocol, hostname, port } = new URL(url);
  const scheme = protocol.slice(0, -1);
  const host = hostname.replace(/^\[(.*)\]$/, "$1").toLowerCase();
  if (isLoopback(host)) return undefined;
  const proxy = variable(env, `${scheme}_proxy`) || variable(env, "all_proxy");
  if (proxy === "" || excluded(host, port || (scheme === "https" ? "443" : "80"), variable(env, "no_proxy")))
    return undefined;
  const complete = proxy.includes("://") ? proxy : `http://${proxy}`;
  return /^https?:\/\//i.test(complete) ? complete : undefined;
}

/** Entries are host names with all below them, `host:port`, addresses, blocks such as 10.0.0.0/8, or `*`. */
function excluded(host: string, port: string, list: string): boolean {
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .some((entry) => {
      if (entry === "") return false;
      if (entry === "*") return true;
      if (entry.includes("/")) return inBlock(host, entry);
      const { name, only } = splitEntry(entry);
      return (
        (only === undefined || only === port) && (host === name || (isIP(host) === 0 && host.endsWith(`.${name}`)))
      );
    });
}

function splitEntry(entry: string): { name: string; only: string | undefined } {
  const bracketed = /^\[([^\]]*)\](?::(\d+))?$/.exec(entry);
  const plain = /^([^:]*)(?::(\d+))?$/.exec(entry);
  const [, name = entry, only] = bracketed ?? plain ?? [];
  return { name: name.replace(/^\*?\./, "").replace(/\.$/, ""), only };
}

function inBlock(host: string, entry: string): boolean {
  const [network = "", bits = ""] = entry.split("/");
  const version = isIP(network);
  if (version === 0 || isIP(host) !== version || !/^\d+$/.test(bits) || Number(bits) > (version === 4 ? 32 : 128))
    return false;
  const family = version === 4 ? "ipv4" : "ipv6";
  const block = new BlockList();
  block.addSubnet(network, Number(bits), family);
  return block.check(host, family);
}

function variable(env: Environment, name: string): string {
  return cleaned(env[name]) || cleaned(env[name.toUpperCase()]);
}
