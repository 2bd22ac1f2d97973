import { UsageError } from "../command.ts";
import type { Program, Registration, Site } from "./definition.ts";
import { launchdPlist, launchdRegistration } from "./launchd.ts";
import { taskRegistration, taskXml } from "./scheduled-task.ts";
import { systemdRegistration, systemdUnit } from "./systemd.ts";

/** How the platform is told of a service. Throws `UsageError` for a platform without one that is known here. */
export function register(site: Site): Registration {
  return kindOf(site.platform).register(site);
}

/** The definition in the platform's own format. Throws `UsageError` for what that cannot say. */
export function define(site: Site, program: Program): string {
  return kindOf(site.platform).define(site, program);
}

interface Kind {
  register(site: Site): Registration;
  define(site: Site, program: Program): string;
}

const kinds: Readonly<Partial<Record<NodeJS.Platform, Kind>>> = {
  linux: { register: systemdRegistration, define: systemdUnit },
  darwin: { register: launchdRegistration, define: launchdPlist },
  win32: { register: taskRegistration, define: taskXml },
};

function kindOf(platform: NodeJS.Platform): Kind {
  const kind = kinds[platform];
  if (kind === undefined)
    throw new UsageError(`services are known here for systemd, launchd and Windows, not for ${platform}`);
  return kind;
}
