import { access, type AccessSettings } from "../access/access.ts";
import type { Middleware } from "../core/call.ts";
import { errors } from "./errors.ts";
import { cors, guard } from "./guard.ts";

export interface EntranceSettings {
  /** The address listened on. */
  readonly listenHost: string;
  readonly access: AccessSettings;
}

/** The part of a configuration that says from where calls may come. */
interface Admission {
  readonly hosts: readonly string[];
  readonly cors: { readonly origins: readonly string[] };
}

/** What every call from outside goes through first. Throws `Error` as `access` does. */
export function entrance(admission: Admission, settings: EntranceSettings): Middleware[] {
  const guarded = { listenHost: settings.listenHost, hosts: admission.hosts, origins: admission.cors.origins };
  return [cors(guarded), errors(settings.access.log), guard(guarded), access(settings.access)];
}
