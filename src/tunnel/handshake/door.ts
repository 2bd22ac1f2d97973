import { isIP, type Socket } from "node:net";
import type { AgentIdentity } from "../../core/agent-identity.ts";
import { errorReply } from "../../core/call.ts";
import { ApiError } from "../../core/errors.ts";
import { cameThroughFront } from "../../core/fronts.ts";
import { isLoopback } from "../../core/host-url.ts";
import { toLimitKey } from "../../core/ip-address.ts";
import type { Log } from "../../core/log.ts";
import type { Upgrade } from "../../core/upgrade.ts";
import { encodeWholeReply } from "../../wire/whole-reply.ts";
import { upgradeProtocol } from "./ask-upgrade.ts";
import { relayHeader } from "./dial-problems.ts";
import { type DoorLimits, defaultLimits, MinuteCount, Presence } from "./door-limits.ts";
import { type Knock, readKnock, unknownKey } from "./knock.ts";
import type { Link } from "../links/link.ts";
import { socketLink } from "../links/socket-link.ts";
import { linkAcceptor } from "../links/websocket-link.ts";

/** An agent's connection that may be used. */
export interface Arrival {
  readonly link: Link;
  readonly identity: AgentIdentity;
  readonly version: string;
  readonly instance: string;
  readonly transport: "upgrade" | "ws";
  readonly address: string;
}

export interface DoorSettings {
  /** Whom a key belongs to; `trusted`: from this machine, addressed as such, through no front. */
  readonly authenticate: (
    key: string | undefined,
    from: { readonly name: string | undefined; readonly trusted: boolean },
  ) => AgentIdentity | ApiError | Promise<AgentIdentity | ApiError>;
  /** Asked before everything else: why the request may not come in at all, e.g. because of the name in its Host. */
  readonly refusal?: (upgrade: Upgrade) => ApiError | undefined;
  readonly admit: (arrival: Arrival) => void;
  readonly relayVersion: string;
  readonly log: Log;
  /** Refuses connections without a certificate of the configured authority. */
  readonly requireClientCertificate: boolean;
  readonly limits?: Partial<DoorLimits>;
}

/**
 * Takes requests for a tunnel and lets agents in. Whoever is refused gets an `ApiError` as JSON, marked as the relay's
 * own, and is cut off.
 */
export function tunnelDoor(settings: DoorSettings): (upgrade: Upgrade) => void {
  const door = new Door(settings);
  return (upgrade) => door.take(upgrade);
}

class Door {
  readonly #settings: DoorSettings;
  readonly #limits: DoorLimits;
  readonly #failures = new MinuteCount();
  readonly #knocks = new MinuteCount();
  readonly #pending = new Presence();
  readonly #openWebSocket: ReturnType<typeof linkAcceptor>;

  constructor(settings: DoorSettings) {
    this.#settings = settings;
    this.#limits = { ...defaultLimits, ...settings.limits };
    this.#openWebSocket = linkAcceptor({ [relayHeader]: settings.relayVersion });
  }

  take(upgrade: Upgrade): void {
    this.#take(upgrade).catch((error: unknown) => {
      this.#settings.log.error({ error: String(error) }, "a request for a tunnel failed");
      upgrade.socket.destroy();
    });
  }

  async #take(upgrade: Upgrade): Promise<void> {
    const { socket } = upgrade;
    socket.on("error", () => undefined);
    const address = addressOf(upgrade);
    const limitKey = toLimitKey(address);
    const { pending, pendingOfOne } = this.#limits;
    if (this.#pending.total >= pending || this.#pending.of(limitKey) >= pendingOfOne) return void socket.destroy();
    const settle = this.#watch(socket, limitKey);
    const knock = this.#check(upgrade, limitKey);
    const identity = knock instanceof ApiError ? knock : await this.#identify(knock, upgrade, limitKey);
    if (knock instanceof ApiError || identity instanceof ApiError) {
      this.#refuse(socket, identity as ApiError, address);
      return;
    }
    const { transport, version, instance } = knock;
    this.#open(upgrade, transport, (link) => {
      settle();
      this.#admit({ link, identity, version, instance, transport, address });
    });
  }

  /** Counts the connection among those that are not admitted yet, and cuts it when that takes too long. */
  #watch(socket: Socket, limitKey: string): () => void {
    this.#pending.enter(limitKey);
    const timer = setTimeout(() => socket.destroy(), this.#limits.pendingTime);
    let settled = false;
    const settle = (): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      this.#pending.leave(limitKey);
    };
    socket.on("close", settle);
    return settle;
  }

  #check(upgrade: Upgrade, limitKey: string): Knock | ApiError {
    if (this.#knocks.add(limitKey) > this.#limits.knocks) return tooMany(this.#knocks.left(limitKey));
    const refusal = this.#settings.refusal?.(upgrade);
    if (refusal !== undefined) return refusal;
    const knock = readKnock(upgrade);
    if (knock instanceof ApiError || !this.#settings.requireClientCertificate) return knock;
    // Of a TLS socket of node; the server asks for certificates without refusing anyone itself.
    if ((upgrade.socket as { authorized?: boolean }).authorized === true) return knock;
    return new ApiError(
      "client_certificate_required",
      "this relay admits agents with a certificate of its own authority only; --tls-cert and --tls-key name the agent's",
    );
  }

  /** A key that is good is let in however many wrong ones its address has shown: others may share the address. */
  async #identify({ key, name }: Knock, upgrade: Upgrade, limitKey: string): Promise<AgentIdentity | ApiError> {
    const identity = await this.#settings.authenticate(key, { name, trusted: isTrusted(upgrade) });
    if (!(identity instanceof ApiError) || identity.status !== 401) return identity;
    if (this.#failures.add(limitKey) > this.#limits.failures) return tooMany(this.#failures.left(limitKey));
    return key === undefined ? identity : unknownKey();
  }

  #open(upgrade: Upgrade, transport: Knock["transport"], onLink: (link: Link) => void): void {
    const { socket, head } = upgrade;
    if (transport === "ws") return this.#openWebSocket(upgrade, onLink);
    const answer = [
      "HTTP/1.1 101 Switching Protocols",
      "connection: Upgrade",
      `upgrade: ${upgradeProtocol}`,
      `${relayHeader}: ${this.#settings.relayVersion}`,
    ];
    // Nothing else may be written before this is: in the callback it is.
    socket.write(`${answer.join("\r\n")}\r\n\r\n`, "latin1", (error) => {
      if (error === undefined || error === null) onLink(socketLink(socket, head));
    });
  }

  #admit(arrival: Arrival): void {
    try {
      this.#settings.admit(arrival);
    } catch (error) {
      this.#settings.log.error(
        { agent: arrival.identity.name, error: String(error) },
        "an agent could not be admitted",
      );
      arrival.link.destroy();
    }
  }

  #refuse(socket: Socket, error: ApiError, address: string): void {
    const { status, code } = error;
    const message = "a request for a tunnel was refused";
    // Those that come too often must not fill the log, too.
    if (status === 429) this.#settings.log.debug({ address, code }, message);
    else this.#settings.log.warn({ address, code, reason: error.message }, message);
    const reply = errorReply(error, { [relayHeader]: this.#settings.relayVersion });
    socket.end(encodeWholeReply(reply, code), "latin1");
    // What still comes is read: closed with bytes unread, the kernel would take the answer back.
    socket.resume();
  }
}

function tooMany(seconds: number): ApiError {
  return new ApiError("rate_limit_exceeded", `too many requests for a tunnel from this address; wait ${seconds} s`, {
    retryAfter: seconds,
  });
}

/** The peer's address; behind a front on this machine, that of the front's peer, which the front has written last. */
function addressOf({ socket, headers }: Upgrade): string {
  const address = socket.remoteAddress ?? "";
  const told = headers["x-forwarded-for"]?.split(",").at(-1)?.trim() ?? "";
  return isLoopback(address) && isIP(told) !== 0 ? told : address;
}

/** Whether the peer is on this machine and means this machine, without anything between. */
function isTrusted({ socket, headers }: Upgrade): boolean {
  const host = (headers.host ?? "").replace(/:\d+$/, "");
  return isLoopback(socket.remoteAddress ?? "") && isLoopback(host) && !cameThroughFront(headers);
}
