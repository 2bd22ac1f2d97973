import { ApiError } from "../core/errors.ts";
import type { Log } from "../core/log.ts";
import type { Upgrade } from "../core/upgrade.ts";
import type { AgentIdentity } from "./identity.ts";
import type { Link } from "./link.ts";

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
  ) => AgentIdentity | ApiError;
  /** Asked before everything else: why the request may not come in at all, e.g. because of the name in its Host. */
  readonly refusal?: (upgrade: Upgrade) => ApiError | undefined;
  readonly admit: (arrival: Arrival) => void;
  readonly relayVersion: string;
  readonly log: Log;
  /** Refuses connections without a certificate of the configured authority. */
  readonly requireClientCertificate: boolean;
}

/** Takes requests to change the protocol and lets agents in. */
export function tunnelDoor(settings: DoorSettings): (upgrade: Upgrade) => void {
  return ({ socket }) => {
    settings.log.debug({}, new ApiError("unknown_url", "not built yet").message);
    socket.destroy();
  };
}
