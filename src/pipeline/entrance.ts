import type { Handler } from "../core/call.ts";
import type { Log } from "../core/log.ts";
import { auth } from "./auth.ts";
import { compose } from "./compose.ts";
import { errors } from "./errors.ts";
import { cors, guard } from "./guard.ts";

/** The part of a configuration that says who may call. */
interface Admission {
  readonly auth: { readonly keys: readonly string[] };
  readonly hosts: readonly string[];
  readonly cors: { readonly origins: readonly string[] };
}

/** The handler behind all that every call from outside goes through first. `listenHost` is the address listened on. */
export function entrance(
  admission: Admission,
  { listenHost, log }: { readonly listenHost: string; readonly log: Log },
  handler: Handler,
): Handler {
  const guarded = { listenHost, hosts: admission.hosts, origins: admission.cors.origins };
  return compose([cors(guarded), errors(log), guard(guarded), auth(admission.auth.keys)], handler);
}
