import { z } from "zod";
import { withHome } from "./home.ts";
import { duration, setting } from "./setting.ts";

/** `state`: what outlives the process. */
export const state = z
  .strictObject({
    url: setting(
      z
        .string()
        .min(1)
        .superRefine(checkPlace)
        .transform((given) => withHome(given))
        .exactOptional(),
      "Where keys, limits and usage are kept: a file (SQLite), or `redis://host:6379`, `rediss://…` or `unix:<socket>` shared by several machines; `none`: nowhere, and there are none. `lair gateway`, `lair keys` and `lair usage` otherwise take `state.db` in the user's data folder; `lair serve` and `lair cloud` have managed keys, limits and usage only when it is set.",
      {
        env: ["LAIR_STATE"],
        flag: "state",
        commands: ["serve", "cloud", "gateway", "keys", "usage"],
        shown: maskPassword,
      },
    ),
    grace: setting(
      duration.prefault("15m"),
      "How long calls go on under the last known keys, and limits of this process alone, while the state does not answer.",
      { unit: "duration" },
    ),
  })
  .prefault({});

/** The address of a state without the password in it: `redis://user:***@host:6379`. A file's path stays as it is. */
export function maskPassword(url: string): string {
  return url.replace(/^([a-z][a-z0-9+.-]*:\/\/[^/?#]*?:).*@/is, "$1***@").replace(/([?&]password=)[^&#]*/gi, "$1***");
}

// The value is not repeated: it may hold a password.
function checkPlace(text: string, check: z.RefinementCtx): void {
  const scheme = /^([a-z][a-z\d+.-]+):/i.exec(text)?.[1]?.toLowerCase();
  if (scheme === undefined || scheme === "sqlite" || scheme === "unix") return;
  const example = "write a file's path, redis://host:6379 or rediss://user:password@host:6380/0";
  if (scheme !== "redis" && scheme !== "rediss")
    check.addIssue({ code: "custom", message: `cannot be kept at ${scheme}:; ${example}` });
  else if (!URL.canParse(text) || new URL(text).hostname === "")
    check.addIssue({ code: "custom", message: `is no address of a Redis server; ${example}` });
}
