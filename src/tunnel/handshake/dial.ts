import type { Socket } from "node:net";
import type { Headers } from "../../core/call.ts";
import { tunnelPath } from "../../core/upgrade.ts";
import { type ClientTls, connectSocket, toOrigin } from "../../net/connect.ts";
import type { Answer } from "./answer.ts";
import { askUpgrade } from "./ask-upgrade.ts";
import { type DialPlace, DialRefused, FrontRefused, isCut, toDialError, toRefusal } from "./dial-problems.ts";
import type { Link } from "../links/link.ts";
import { socketLink } from "../links/socket-link.ts";
import { openWebSocket } from "../links/websocket-link.ts";

export { DialRefused };
export type Transport = "upgrade" | "ws";

export interface DialOptions {
  /** URL of the relay; a path is where a front has mounted it, e.g. `https://host/lair`. */
  readonly relay: string;
  /** The agent's key; without one, `name` is told instead. */
  readonly key?: string;
  readonly name?: string;
  /** Random, one per process. */
  readonly instance: string;
  readonly version: string;
  readonly transport: "auto" | Transport;
  /** Milliseconds for everything until the relay has agreed. */
  readonly connectTimeout: number;
  /** URL of an HTTP proxy. */
  readonly proxy?: string;
  readonly tls?: ClientTls;
}

export interface Dialled {
  readonly link: Link;
  readonly transport: Transport;
}

/** What got through to each relay, by its URL: a front that lets only WebSockets pass will do so the next time. */
const worked = new Map<string, Transport>();

/**
 * Opens one tunnel connection to a relay. Throws `DialRefused` when the relay itself has refused, `Error` that says what
 * failed where and what to do, or the signal's reason.
 */
export async function dial(options: DialOptions, signal: AbortSignal): Promise<Dialled> {
  const place = toPlace(options);
  const dialling: Dialling = { options, place, headers: toHeaders(options, place), stage: "connecting" };
  const seconds = options.connectTimeout / 1000;
  const toError = (): Error => new Error(`no answer from ${place.url} within ${seconds} s, while ${dialling.stage}`);
  const deadline = new Deadline(options.connectTimeout, toError, signal);
  try {
    return await dialBy(transports(options.transport, place.url), dialling, deadline);
  } finally {
    deadline.over();
  }
}

interface Dialling {
  readonly options: DialOptions;
  readonly place: DialPlace;
  readonly headers: Headers;
  stage: string;
}

async function dialBy(order: readonly Transport[], dialling: Dialling, deadline: Deadline): Promise<Dialled> {
  const { place, options } = dialling;
  const refusals: string[] = [];
  for (const [index, transport] of order.entries()) {
    // A front may swallow what it does not know: the other way needs time too.
    const longest = index + 1 < order.length ? options.connectTimeout / 2 : options.connectTimeout;
    try {
      const link = await attempt(transport, dialling, { deadline, longest });
      worked.set(place.url, transport);
      return { link, transport };
    } catch (error) {
      if (!(error instanceof FrontRefused)) throw error;
      refusals.push(`asked for ${transport === "ws" ? "a WebSocket" : "an Upgrade"}, ${error.message}`);
    }
  }
  const hint = place.origin.secure ? "" : " If it speaks TLS, write https://.";
  throw new Error(
    `no relay is reached at ${place.url}: ${refusals.join("; ")}. Is the address right, and does what stands in front of the relay pass on ${tunnelPath} with its Upgrade header?${hint}`,
  );
}

/** One connection, one request. `longest`: milliseconds that an answer may take. */
async function attempt(
  transport: Transport,
  dialling: Dialling,
  { deadline, longest }: { readonly deadline: Deadline; readonly longest: number },
): Promise<Link> {
  const { options, place } = dialling;
  dialling.stage = "connecting";
  const socket = await connectSocket(place.origin, options, deadline.signal).catch((error: Error) => {
    throw error === deadline.signal.reason ? error : toDialError(error, place);
  });
  dialling.stage = "waiting for its answer";
  const toError = (): Error => new FrontRefused(`it does not answer within ${longest / 1000} s`);
  const patience = new Deadline(longest, toError, deadline.signal);
  try {
    const answer = await ask(socket, transport, { ...dialling, signal: patience.signal });
    if (!("status" in answer)) return answer;
    throw toRefusal(answer, place);
  } catch (error) {
    socket.destroy();
    const known = error === patience.signal.reason || error instanceof FrontRefused || error instanceof DialRefused;
    if (known) throw error;
    if (isCut(error as Error)) throw new FrontRefused("it closes the connection without an answer");
    throw toDialError(error as Error, place);
  } finally {
    patience.over();
  }
}

async function ask(
  socket: Socket,
  transport: Transport,
  { place, headers, signal }: Dialling & { readonly signal: AbortSignal },
): Promise<Link | Answer> {
  const path = `${place.basePath}${tunnelPath}`;
  if (transport === "ws") {
    const scheme = place.origin.secure ? "wss" : "ws";
    return openWebSocket(socket, { url: `${scheme}://${place.origin.host}${path}`, headers }, signal);
  }
  const answer = await askUpgrade(socket, { path, headers }, signal);
  return Buffer.isBuffer(answer) ? socketLink(socket, answer) : answer;
}

function transports(asked: DialOptions["transport"], url: string): Transport[] {
  if (asked !== "auto") return [asked];
  return worked.get(url) === "ws" ? ["ws", "upgrade"] : ["upgrade", "ws"];
}

function toPlace({ relay, proxy }: DialOptions): DialPlace {
  let url: URL;
  try {
    url = new URL(relay);
  } catch {
    throw new Error(`the relay's address is no URL: write for example https://relay.example:8081`);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:")
    throw new Error(`the relay's address begins with ${url.protocol}//: it must begin with https:// or http://`);
  if (url.username !== "" || url.password !== "")
    throw new Error("the relay's address must not hold a user or password: the agent's key has a setting of its own");
  const basePath = url.pathname.replace(/\/+$/, "");
  return { origin: toOrigin(relay), url: `${url.origin}${basePath}`, basePath, proxy };
}

function toHeaders(options: DialOptions, { origin }: DialPlace): Headers {
  const { key, name, instance, version } = options;
  const headers: Headers = {
    host: origin.host,
    "user-agent": `lair/${version}`,
    "lair-version": version,
    "lair-instance": instance,
    ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
    ...(key === undefined && name !== undefined ? { "lair-name": name } : {}),
  };
  for (const [field, value] of Object.entries(headers))
    if (!/^[\x20-\x7e]+$/.test(value)) throw new Error(`the value for ${field} must be of plain ASCII characters`);
  return headers;
}

/** A time limit within another: its signal tells of both, and of the caller's. */
class Deadline {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal;
  readonly #timer: NodeJS.Timeout;
  readonly #onOuter = (): void => this.#controller.abort(this.#outer.reason);

  constructor(milliseconds: number, toError: () => Error, outer: AbortSignal) {
    this.#outer = outer;
    this.#timer = setTimeout(() => this.#controller.abort(toError()), milliseconds);
    if (outer.aborted) this.#onOuter();
    else outer.addEventListener("abort", this.#onOuter);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  over(): void {
    clearTimeout(this.#timer);
    this.#outer.removeEventListener("abort", this.#onOuter);
  }
}
