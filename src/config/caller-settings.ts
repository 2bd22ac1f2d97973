import { isIP } from "node:net";
import { z } from "zod";
import { count, duration, patternName, setting } from "./setting.ts";

const tokens = z.array(z.string().min(1)).default([]);
const amount = z.number().positive();

/** `auth`: the credentials that stand in the configuration. */
export const auth = z
  .strictObject({
    keys: setting(tokens, "Keys of which callers must send one; none: no key is asked for.", {
      env: ["LLM_V1_PROXY_TOKEN", "OPENAI_PROXY_TOKEN"],
      secret: true,
    }),
    admin: setting(
      tokens,
      "Keys of operators: they may do all that callers may, and use `/admin/…` and `/metrics` as well.",
      { secret: true },
    ),
  })
  .superRefine(({ keys, admin }, check) => {
    if (admin.some((one) => keys.includes(one)))
      check.addIssue({
        code: "custom",
        path: ["admin"],
        message: "holds a key that is one of auth.keys too: every caller would be an operator",
      });
  })
  .prefault({});

/** `limits.caller`: what every caller may use who has no limits of its own. */
export const callerLimits = z
  .strictObject({
    requestsPerMinute: setting(
      count.exactOptional(),
      "Most requests of one caller in a minute, unless its key has limits of its own; absent, here and below: no limit.",
    ),
    tokensPerMinute: setting(
      count.exactOptional(),
      "Most tokens of one caller in a minute, prompts and answers together.",
    ),
    concurrent: setting(count.exactOptional(), "Most calls of one caller at a time, streams counted until they end."),
    tokensPerDay: setting(count.exactOptional(), "Most tokens of one caller in a day (UTC)."),
    tokensPerMonth: setting(count.exactOptional(), "Most tokens of one caller in a month (UTC)."),
    spendPerDay: setting(amount.exactOptional(), "Most that one caller may spend in a day, by `prices`."),
    spendPerMonth: setting(amount.exactOptional(), "Most that one caller may spend in a month, by `prices`."),
  })
  .prefault({});

const waiting = z.int().min(0).max(100_000);
const concurrent = z.int().min(0);

/** `queue`: calls that wait for their turn rather than be refused. */
export const queue = z
  .strictObject({
    concurrent: setting(
      concurrent.default(0),
      "Most calls at a time for each model; the others wait in line, callers in turn. 0: no limit, and no line.",
    ),
    waiting: setting(waiting.default(64), "Most calls that wait for one model; further ones are refused."),
    longest: setting(duration.prefault("10m"), "Longest that a call waits in line.", { unit: "duration" }),
    models: z
      .record(
        patternName,
        z.strictObject({
          concurrent: setting(
            concurrent.exactOptional(),
            "As `queue.concurrent`, for models of this name; `*` stands for any text. The first that fits counts.",
          ),
          waiting: setting(waiting.exactOptional(), "As `queue.waiting`, for models of this name."),
        }),
      )
      .prefault({}),
  })
  .prefault({});

const price = z.number().min(0).max(1e9);

/** `prices`: what tokens cost, by model. */
export const prices = z
  .record(
    patternName,
    z.strictObject({
      prompt: setting(
        price.default(0),
        "Price of a million tokens of prompts of models of this name; `*` stands for any text. The first that fits counts.",
      ),
      cached: setting(price.exactOptional(), "Price of those that were not computed anew; absent: as the others."),
      completion: setting(price.default(0), "Price of a million tokens of answers."),
    }),
  )
  .prefault({});

/** `usage`: what is kept of calls that are over. */
export const usage = z
  .strictObject({
    keep: setting(duration.prefault("90d"), "How long the record of a single call is kept.", { unit: "duration" }),
    most: setting(z.int().min(1000).default(10_000_000), "Most records of single calls; the oldest go first."),
    keepSums: setting(duration.prefault("800d"), "How long the sums by day, key and model are kept.", {
      unit: "duration",
    }),
    capture: setting(
      z.boolean().default(false),
      "Keep what was said too, requests and replies: for finding faults, with the consent of all who call.",
    ),
  })
  .prefault({});

/** `images`: pictures that callers name by their address. */
export const images = z
  .strictObject({
    allow: setting(
      z.array(z.string().min(1).max(253)).default([]),
      "Hosts from which images may be fetched for a caller, `*` for any text; none: no address of an image is let through. Addresses of private networks are refused in any case.",
    ),
  })
  .prefault({});

/** `proxies`: fronts whose word counts. */
export const proxies = setting(
  z.array(z.string().min(1).superRefine(checkNetwork)).default([]),
  "Addresses of the fronts (reverse proxies, load balancers) before this server, e.g. `10.0.0.5` or `10.0.0.0/8`: only what they say in `X-Forwarded-For` about a caller's address is believed.",
);

function checkNetwork(text: string, check: z.RefinementCtx): void {
  const [, address = "", bits] = /^([^/]*)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const version = isIP(address);
  if (version !== 0 && Number(bits ?? 0) <= (version === 4 ? 32 : 128)) return;
  check.addIssue({
    code: "custom",
    message: `${JSON.stringify(text.slice(0, 80))} is no address nor network; write for example 10.0.0.5 or 10.0.0.0/8`,
  });
}
