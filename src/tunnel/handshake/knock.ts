import { ApiError } from "../../core/errors.ts";
import type { Headers } from "../../core/call.ts";
import type { Upgrade } from "../../core/upgrade.ts";
import { agentNamePattern } from "../../core/agent-identity.ts";
import { upgradeProtocol } from "./ask-upgrade.ts";
import { webSocketProtocol } from "../links/websocket-link.ts";

/** What an agent says when it asks for a tunnel. */
export interface Knock {
  readonly transport: "upgrade" | "ws";
  readonly key: string | undefined;
  /** Only told without a key. */
  readonly name: string | undefined;
  readonly version: string;
  readonly instance: string;
}

/** Headers that two readers could read differently if they came twice. */
const single = ["host", "authorization", "upgrade", "lair-version", "lair-instance", "lair-name", "sec-websocket-key"];

/** What a request for a tunnel says; `ApiError` when it is not well formed. */
export function readKnock(upgrade: Upgrade): Knock | ApiError {
  const { headers } = upgrade;
  const transport = toTransport(headers);
  if (transport instanceof ApiError) return transport;
  const problem = shapeProblem(upgrade) ?? (transport === "ws" ? webSocketProblem(headers) : undefined);
  if (problem !== undefined) return problem;
  const version = headers["lair-version"] ?? "";
  const instance = headers["lair-instance"] ?? "";
  const name = headers["lair-name"];
  if (!/^[0-9A-Za-z.+-]{1,64}$/.test(version)) return malformed("lair-version must be a program's version");
  if (!/^[0-9A-Za-z-]{8,64}$/.test(instance)) return malformed("lair-instance must be an id of 8 to 64 characters");
  if (name !== undefined && !agentNamePattern.test(name)) return malformed("lair-name must be an agent's name");
  return { transport, key: readKey(headers.authorization), name, version, instance };
}

/** To whoever shows a key that is unknown, expired, revoked or no key at all: nobody learns which. */
export function unknownKey(): ApiError {
  return new ApiError(
    "invalid_api_key",
    "the agent's key is not known here, or not good any more; lair cloud agents, at the relay, makes one",
    { headers: { "www-authenticate": "Bearer" } },
  );
}

function toTransport(headers: Headers): Knock["transport"] | ApiError {
  const offered = tokens(headers.upgrade);
  if (offered.includes(upgradeProtocol)) return "upgrade";
  if (offered.includes("websocket")) return "ws";
  return new ApiError(
    "upgrade_required",
    `this relay speaks ${upgradeProtocol}, and ${webSocketProtocol} over a WebSocket; the agent's program is of another age, or this is none`,
    { headers: { upgrade: `${upgradeProtocol}, websocket` } },
  );
}

function shapeProblem({ method, search, httpVersion, headers, rawHeaders }: Upgrade): ApiError | undefined {
  if (method !== "GET")
    return new ApiError("method_not_allowed", "a tunnel is asked for by GET", { headers: { allow: "GET" } });
  if (httpVersion !== "1.1") return malformed("a tunnel is asked for in HTTP/1.1");
  // Addresses end up in logs, and a key must not.
  if (search !== "") return malformed("the address of the tunnel takes no query");
  if (headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0")
    return malformed("a request for a tunnel has no body");
  if (headers.origin !== undefined)
    return new ApiError("forbidden_origin", "tunnels are for agents, not for pages in a browser");
  const names = rawHeaders.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase());
  const repeated = single.find((name) => names.indexOf(name) !== names.lastIndexOf(name));
  if (repeated !== undefined) return malformed(`the request has more than one ${repeated} header`);
  if (headers.host === undefined) return malformed("the request has no host header");
  return undefined;
}

/** What ws would refuse in words of its own. */
function webSocketProblem(headers: Headers): ApiError | undefined {
  if (headers["sec-websocket-version"] !== "13") return malformed("sec-websocket-version must be 13");
  if (!/^[+/0-9A-Za-z]{22}==$/.test(headers["sec-websocket-key"] ?? ""))
    return malformed("sec-websocket-key is malformed");
  const protocols = headers["sec-websocket-protocol"] ?? "";
  if (!/^[\w.-]+(?:[ \t]*,[ \t]*[\w.-]+)*$/.test(protocols) || !tokens(protocols).includes(webSocketProtocol))
    return malformed(`sec-websocket-protocol must offer ${webSocketProtocol}`);
  const offered = tokens(protocols);
  return new Set(offered).size === offered.length ? undefined : malformed("sec-websocket-protocol repeats itself");
}

/** Credentials of another kind, or shape, are a key that nobody has. */
function readKey(authorization: string | undefined): string | undefined {
  if (authorization === undefined) return undefined;
  return /^Bearer +([\x21-\x7e]{1,200})$/i.exec(authorization)?.[1] ?? "";
}

function tokens(list: string | undefined): string[] {
  return (list ?? "")
    .toLowerCase()
    .split(",")
    .map((token) => token.trim());
}

function malformed(message: string): ApiError {
  return new ApiError("invalid_request", message);
}
